// Padding: whether a plan allows what config asks for, and the proof that it changes no answer. Most models without a
// mask do not pass it: a mean over a padded axis is another mean.

import { elementsIn, type Tensor } from '../../tensors/axis.js';
import { dtypes } from '../../tensors/dtypes.js';
import type { Replies, RowSource } from '../batch.js';
import type { BatchTolerance, Model } from '../model.js';
import type { PadSettings } from '../overrides.js';
import { layoutOf, mostRowsOf, type PayloadLayout } from '../payload.js';
import type { InputPlan, ModelPlan, OutputPlan } from '../plan.js';
import { briefly, differenceBetween } from './proof.js';
import { fixedSizes } from './run-inputs.js';
import { payloadOf, type Reach, sampleRequest } from './samples.js';
import { type TensorModelOptions, tensorModel } from './tensor-model.js';

interface PadProof {
  readonly options: TensorModelOptions & { readonly pad: PadSettings };
  /** How far the values of each input that is in a payload may reach. */
  readonly reachOf: readonly Reach[];
  readonly tolerance: BatchTolerance;
}

/** The time for all buckets; the first and the last are tried in any case. */
const budgetMs = 500;

/** Rejects with an Error that says what would mend it when padding is not possible, or changes answers. */
export async function provePad({ options, reachOf, tolerance }: PadProof): Promise<void> {
  const { pad, plan, maxBatchSize } = options;
  if (plan.runsAloneBecause !== null)
    throw new Error(`pad: requests cannot share a run, so padding is of no use: ${plan.runsAloneBecause}`);
  const layout = layoutOf(plan, maxBatchSize);
  checkPad(plan, pad, layout.open);
  const exact = tensorModel({ ...options, pad: null });
  const padded = tensorModel(options);
  const startedAt = performance.now();
  for (const [i, bucket] of pad.buckets.entries()) {
    const isEnd = i === 0 || i === pad.buckets.length - 1;
    if (!isEnd && performance.now() - startedAt > budgetMs) continue;
    const lengths = lengthsIn((pad.buckets[i - 1] ?? 0) + 1, bucket).slice(0, mostRowsOf(plan, maxBatchSize));
    if (lengths.length < 2) continue;
    await proveBucket(lengths, bucket);
  }

  async function proveBucket(lengths: readonly number[], bucket: number): Promise<void> {
    const requests = requestsOf(layout, reachOf, lengths);
    const alone: Uint8Array[] = [];
    for (const [i, request] of requests.entries()) alone.push(await answerAlone(exact, request, lengths[i] as number));
    const together = await padded.run(sourceOf(requests));
    for (const [i, length] of lengths.entries()) {
      const reply = replyOf(together, i);
      if (reply instanceof Error)
        throw new Error(`pad.buckets: a run padded to ${bucket} fails: ${briefly(reply)}`, { cause: reply });
      const difference = differenceBetween(
        outputsIn(reply, plan, pad, layout.open, length),
        outputsIn(alone[i] as Uint8Array, plan, pad, layout.open, length),
        tolerance,
      );
      if (difference !== null)
        throw new Error(
          `pad is refused, since answers would be wrong: ${difference} when a request with ${layout.open} ${length} is padded to ${bucket}; ${pad.mask === undefined ? 'name the input that is its mask (pad.mask), or leave pad out' : 'leave pad out'}`,
        );
    }
  }
}

/** What people should know of it. */
export const noteOfPad = ({ axis, inputs, buckets }: PadSettings): string =>
  `requests are padded along axis ${axis} of ${inputs.join(', ')} up to ${buckets.join(', ')}, so that differing lengths share a run`;

function checkPad(plan: ModelPlan, pad: PadSettings, open: string | null): void {
  if (open === null) throw new Error('pad: no dimension of a request is dynamic: leave pad out');
  for (const input of plan.inputs) checkInput(input, pad, open);
  const told = fixedSizes(plan);
  for (const output of plan.outputs) if (output.isReturned) checkOutput(output, pad, open, told);
}

function checkInput(input: InputPlan, pad: PadSettings, open: string): void {
  const { name, dtype, requestDims, isConstant, batchAxis } = input;
  const text = `${name} is [${requestDims.join(',')}]`;
  const isPadded = pad.inputs.includes(name);
  if (name === pad.mask) {
    if (!requestDims.includes(open))
      throw new Error(
        `pad.mask: no dimension of ${name} is ${open}: ${text}; name its dimensions in inputs.${name}.shape`,
      );
    if (dtype === 'string' || typeof batchAxis !== 'number')
      throw new Error(`pad.mask: ${name} cannot be one: ${text}`);
    return;
  }
  if (isConstant || (!isPadded && !requestDims.includes(open))) return;
  if (!isPadded) throw new Error(`pad.inputs: ${text}, so it has to be padded too: add ${name}`);
  if (dtype === 'string') throw new Error(`pad.inputs: ${name} has strings, which cannot be padded`);
  const places = requestDims.filter((dim) => dim === open).length;
  if (requestDims[pad.axis] !== open || places !== 1 || batchAxis === pad.axis)
    throw new Error(`pad.axis: axis ${pad.axis} is not the one dynamic dimension of ${name}: ${text}`);
}

function checkOutput(
  { name, dtype, requestDims, batchAxis }: OutputPlan,
  pad: PadSettings,
  open: string,
  told: ReadonlyMap<string, number>,
): void {
  const axis = pad.outputs[name];
  const text = `${name} is [${requestDims.join(',')}]`;
  if (dtype === 'string') throw new Error(`pad.outputs: ${name} has strings, which cannot be compared: leave pad out`);
  if (axis !== undefined && (axis >= requestDims.length || axis === batchAxis))
    throw new Error(`pad.outputs.${name}: ${axis} is no axis that can be cut back: ${text}`);
  const left = requestDims.find((dim, i) => typeof dim === 'string' && i !== axis && (dim === open || !told.has(dim)));
  if (left !== undefined)
    throw new Error(
      `pad.outputs: ${text}, and padding changes its dimension ${left}: give the axis along which it is cut back, as {"${name}": ${requestDims.indexOf(left)}}`,
    );
}

/** Lengths that are padded up to a bucket, among them that of the bucket itself. */
function lengthsIn(least: number, bucket: number): readonly number[] {
  return [...new Set([bucket, least, Math.floor((least + bucket) / 2), Math.max(least, bucket - 1)])];
}

/** A request of each length; what requests must agree on is the same in all. */
function requestsOf(layout: PayloadLayout, reachOf: readonly Reach[], lengths: readonly number[]): readonly Buffer[] {
  const inputs = layout.fields.map(({ input }) => input);
  const samples = lengths.map((length, i) =>
    sampleRequest(
      inputs.map((input) => ({ dtype: input.dtype, dims: layout.dimsOf(input, length) })),
      reachOf,
      i,
    ),
  );
  const [first] = samples as [readonly Tensor[]];
  return samples.map((request) =>
    payloadOf(request.map((tensor, k) => (typeof inputs[k]?.batchAxis === 'number' ? tensor : (first[k] as Tensor)))),
  );
}

async function answerAlone(model: Model, request: Buffer, length: number): Promise<Uint8Array> {
  const reply = replyOf(await model.run(sourceOf([request])), 0);
  if (reply instanceof Error)
    throw new Error(`pad.buckets: the model does not run at ${length}: ${briefly(reply)}`, { cause: reply });
  return reply;
}

/** The outputs of one request, as tensors. */
function outputsIn(
  reply: Uint8Array,
  plan: ModelPlan,
  pad: PadSettings,
  open: string | null,
  length: number,
): readonly (Tensor & { readonly name: string })[] {
  const told = fixedSizes(plan);
  let at = 0;
  return plan.outputs.flatMap(({ name, dtype, requestDims, isReturned }) => {
    if (!isReturned || dtype === 'string') return [];
    const dims = requestDims.map((dim, i) => {
      if (i === pad.outputs[name] || dim === open) return length;
      return typeof dim === 'number' ? dim : (told.get(dim) ?? 0);
    });
    const begin = at;
    at += elementsIn(dims) * dtypes[dtype].bytes;
    return { name, dtype, dims, data: new Uint8Array(reply.subarray(begin, at)) };
  });
}

const sourceOf = (payloads: readonly Buffer[]): RowSource => ({
  rows: payloads.length,
  payload: (i) => payloads[i] as Buffer,
  copyRow: (i, target, at, from, length) => void payloads[i]?.copy(target, at, from, from + length),
});

function replyOf(replies: Replies, i: number): Uint8Array | Error {
  if (replies.kind === 'rows') return replies.rows[i] as Uint8Array | Error;
  return replies.bytes.subarray(i * replies.stride, i * replies.stride + replies.rowBytes);
}
