// Proves, before the model serves, that a batch does not change an answer: requests that look like data are run alone
// and together, in several orders and at several batch sizes, and the shapes and values of the outputs are compared.
// Most models treat each request by itself. Some do not: dynamically quantised ones use one scale for the whole batch,
// others have a softmax or a sum over the batch, or an output that does not grow with it. Such a model must run one
// request at a time, or clients get answers that depend on the requests of others.
//
//   alone ─▶ references ─▶ 2, 3, 2, 3, 8, 16 … together, other orders, other neighbours ─▶ equal? ─▶ batches
//                                                                                       └ no ─▶ alone, and why
//
// The requests of a run lie one after another along one axis of each input, or share the input; along which axis of each
// output the answers lie is what grows from one request to two.
//
// What a trial shows, and what it costs in rows:
//   alone, at least 2   what each request must be answered; whether dimensions depend on the data (one is around 0, the
//                       next as large as raw pixels)
//   batches of 2 and 3  whether a request's neighbours or place matter: a sum, a softmax, a scale or a shape shows here
//   the same again, 8 … whether kernels for more rows compute otherwise; as many as fit into the time
//   brief, 2 and 3      the same at other sizes, with numbers around 0 alone, with other values of what is shared
// It takes some milliseconds for a small model, and some 15 rows of a slow one.

import { elementsIn, joined, resized, split, type Tensor } from '../../tensors/axis.js';
import { type Dtype, dtypes, typedView } from '../../tensors/dtypes.js';
import { textOfThrown } from '../../thrown.js';
import type { BatchTolerance } from '../model.js';
import { fromHalf, generator, type Reach, reaches, type Shaped, sampleRequest } from './samples.js';

/** One output of one run. */
export type OutputTensor = Tensor & { readonly name: string };

/** An input of one request. */
export interface JoinedInput extends Shaped {
  readonly name: string;
  /** The axis along which the requests of a run lie one after another; `shared`: it is the same for all of them. */
  readonly axis: number | 'shared';
}

/** A model, and how it would run several requests at once. */
export interface Provable {
  readonly inputs: readonly JoinedInput[];
  /** The batch size that the model requires, or null when its batch dimension is dynamic. */
  readonly fixedBatch: number | null;
  /** Runs the model with a tensor for each input. */
  run(inputs: readonly Tensor[]): Promise<readonly OutputTensor[]>;
}

export interface ProofSettings {
  /** Rows of the largest batch that the model will get. */
  readonly maxBatchSize: number;
  readonly tolerance: BatchTolerance;
}

export interface Proof {
  /** Why requests must not share a run; null when they may. */
  readonly difference: string | null;
  /** For each output the axis along which the answers lie one after another; null for one without such an axis. */
  readonly axes: readonly (number | null)[];
}

/** The time for the larger batches; and the number of different requests, if there is time for them. */
const budgetMs = 150;
const mostRequests = 8;
/**
 * The first two are tried in any case, in other orders, so that each of two requests has stood before and behind the
 * other. Kernels take different code paths at different sizes, most often at powers of two.
 */
const sizes = [2, 3, 2, 3, 8, 16, 33, 64] as const;
const leastSizes = 2;
/** What larger batches may add to the memory of the process before those that follow are left out. */
const mostGrowth = 128 << 20;
/** Each trial of a model whose run takes longer has two requests, and one batch of them. */
const slowMs = 20;
/** The most characters of a message of ONNX Runtime. */
const mostText = 200;

/** Requests that were run alone. */
export interface Alone {
  readonly requests: readonly (readonly Tensor[])[];
  /** For each request, what the model answers when it runs alone. */
  readonly references: readonly (readonly OutputTensor[])[];
  readonly oneMs: number;
  /** How far the values of each input reach. */
  readonly reachOf: readonly Reach[];
}

type Attempt = Alone | { readonly error: unknown };

/** Runs requests alone, with values that reach as far as the model allows. Rejects with the model's own error. */
export async function runAlone(model: Provable): Promise<Alone> {
  const reachOf = model.inputs.map((): Reach => 'wide');
  const attempt = await runRequests(model, reachOf);
  if ('requests' in attempt) return (await runFar(model, attempt)) ?? attempt;
  // Tries each input with the others at zero: most often one of them is an index, and the rest may stay data.
  const apart: Reach[] = [];
  for (const k of model.inputs.keys()) apart.push(await farthestReach(model, k));
  const together = await runRequests(model, apart);
  if ('requests' in together) return together;
  for (const reach of reaches.slice(2)) {
    const lower = await runRequests(
      model,
      apart.map((own) => (reaches.indexOf(own) > reaches.indexOf(reach) ? own : reach)),
    );
    if ('requests' in lower) return lower;
    if (reach === 0) throw lower.error;
  }
  throw attempt.error;
}

/** Equal answers to all requests show nothing: tries some that reach farther. Null when not needed, or in vain. */
async function runFar(model: Provable, { references }: Alone): Promise<Alone | null> {
  const areAlike = (all: Alone['references']): boolean =>
    all.every((outputs) => outputs.every((output, k) => all[0]?.[k] !== undefined && isSame(output, all[0][k])));
  if (!areAlike(references)) return null;
  const far = await runRequests(
    model,
    model.inputs.map((): Reach => 'far'),
  );
  return 'requests' in far && !areAlike(far.references) ? far : null;
}

function isSame(a: Tensor, b: Tensor): boolean {
  if (a.dtype === 'string' || b.dtype === 'string')
    return a.data.length === b.data.length && a.data.every((item, i) => item === b.data[i]);
  return Buffer.compare(a.data, b.data) === 0;
}

async function farthestReach(model: Provable, k: number): Promise<Reach> {
  for (const reach of reaches.slice(1)) {
    const attempt = await runRequests(
      model,
      model.inputs.map((_, i) => (i === k ? reach : 0)),
      2,
    );
    if ('requests' in attempt) return reach;
  }
  return 0;
}

/** Runs each request alone: in a fixed batch, first and with zeros behind it. */
export async function runRequests(model: Provable, reachOf: readonly Reach[], most = mostRequests): Promise<Attempt> {
  const requests: (readonly Tensor[])[] = [];
  const references: (readonly OutputTensor[])[] = [];
  let oneMs = 0;
  try {
    for (
      let spentMs = 0;
      requests.length < 2 || (requests.length < most && spentMs + oneMs < budgetMs / 4);
      spentMs += oneMs
    ) {
      const sample = sampleRequest(model.inputs, reachOf, requests.length);
      const [first = sample] = requests;
      const request = sample.map((tensor, k) => (model.inputs[k]?.axis === 'shared' ? (first[k] as Tensor) : tensor));
      const startedAt = performance.now();
      references.push(await runTogether(model, [request]));
      requests.push(request);
      oneMs = performance.now() - startedAt;
    }
    return { requests, references, oneMs, reachOf };
  } catch (error) {
    return { error };
  }
}

/** One run of these requests; a fixed batch is filled up with zeros. */
function runTogether(
  { inputs, fixedBatch, run }: Provable,
  requests: readonly (readonly Tensor[])[],
): Promise<readonly OutputTensor[]> {
  const padding =
    fixedBatch === null || fixedBatch <= requests.length
      ? []
      : new Array(fixedBatch - requests.length).fill(
          sampleRequest(
            inputs,
            inputs.map(() => 0),
            0,
          ),
        );
  const all = [...requests, ...padding];
  return run(
    inputs.map(({ axis }, k) => {
      const tensors = all.map((request) => request[k] as Tensor);
      return axis === 'shared' || tensors.length === 1 ? (tensors[0] as Tensor) : joined(tensors, axis);
    }),
  );
}

/** The output whose dimensions depend on the values of the request; null when there is none that shows it. */
export function varyingIn({ references }: Alone): OutputTensor | null {
  const [first] = references as [readonly OutputTensor[]];
  return first.find((output, k) => references.some((outputs) => dimsOf(outputs[k]) !== dimsOf(output))) ?? null;
}

const dimsOf = (tensor: Tensor | undefined): string => String(tensor?.dims);

/**
 * Whether these requests may share a run.
 * @param isBrief compares the smallest batches alone
 */
export async function proveTogether(
  model: Provable,
  alone: Alone,
  { maxBatchSize, tolerance }: ProofSettings,
  isBrief = false,
): Promise<Proof> {
  const { requests, references, oneMs } = alone;
  const [reference] = references as [readonly OutputTensor[]];
  let axes: readonly (number | null)[] = reference.map(({ dims }) => (dims.length === 0 ? null : 0));
  const differing = (difference: string): Proof => ({ difference, axes });
  const varying = varyingIn(alone);
  if (varying !== null)
    return differing(`the output ${varying.name} has other dimensions for other rows: [${varying.dims}] for the first`);

  const scales = scalesOf(references, model.fixedBatch ?? 1);
  const compare = (outputs: readonly OutputTensor[], order: readonly number[]): string | null =>
    firstDifference(outputs, order, references, axes, scales, tolerance, model.fixedBatch);
  const [first] = requests as [readonly Tensor[]];
  const areAlike = requests.every((request) => request.every((tensor, k) => isSame(tensor, first[k] as Tensor)));
  if (areAlike && first.some(({ data }) => data.length > 0))
    return differing('it ran with zeros or ones alone, which show nothing of its rows');

  const random = generator(0);
  const startedAt = performance.now();
  const bytesBefore = process.memoryUsage.rss();
  let rowMs = oneMs;
  for (const [i, size] of sizesToTry(model, alone, maxBatchSize, isBrief).entries()) {
    if (i >= leastSizes) {
      if (performance.now() - startedAt + size * rowMs > budgetMs) continue;
      if (process.memoryUsage.rss() - bytesBefore > mostGrowth) break;
    }
    const order = orderOf(size, requests.length, i, random);
    const beganAt = performance.now();
    let outputs: readonly OutputTensor[];
    try {
      outputs = await runTogether(
        model,
        order.map((row) => requests[row] as readonly Tensor[]),
      );
    } catch (error) {
      return differing(`a batch of ${size} fails: ${briefly(error)}`);
    }
    rowMs = (performance.now() - beganAt) / size;
    if (i === 0 && model.fixedBatch === null) axes = reference.map((output, k) => grownAxis(output, outputs[k], size));
    const difference = compare(outputs, order);
    if (difference === null) continue;
    // A model that answers at random is found out here too; running a row again tells the two apart.
    const unsteady = compare(await runTogether(model, [first]), [0]);
    if (unsteady !== null) return differing(`${unsteady} when the same row is run alone again`);
    return differing(`${difference} in a batch of ${size}`);
  }
  return { difference: null, axes };
}

function sizesToTry(
  { fixedBatch }: Provable,
  { oneMs }: Alone,
  maxBatchSize: number,
  isBrief: boolean,
): readonly number[] {
  if (fixedBatch !== null) return (isBrief ? sizes.slice(0, leastSizes) : sizes).map(() => fixedBatch);
  // A batch of 3 has every two requests of a slow model in it.
  if (isBrief) return isSlow(oneMs) ? [3] : [2, 3];
  return [...sizes, maxBatchSize].filter((size, i) => i < leastSizes || size <= maxBatchSize);
}

/** Whether a run takes so long that few of them must do. */
export const isSlow = (oneMs: number): boolean => oneMs > slowMs;

/** The words of ONNX Runtime, as many as fit into a message. */
export const briefly = (error: unknown): string =>
  textOfThrown(error).replaceAll(/\s+/g, ' ').trim().slice(0, mostText);

/** The axis that has 1 element for one request and `size` for as many; else the first; null for a scalar. */
function grownAxis({ dims }: Tensor, together: Tensor | undefined, size: number): number | null {
  if (dims.length === 0) return null;
  const axis = dims.findIndex((dim, i) => dim === 1 && String(together?.dims) === String(resized(dims, i, size)));
  return axis === -1 ? 0 : axis;
}

/** The requests of a batch: never the same one in all places, and each in new places every time. */
function orderOf(size: number, rows: number, turn: number, random: () => number): readonly number[] {
  const first = Math.floor(random() * rows);
  const order = Array.from({ length: size }, (_, i) => (first + turn + i) % rows);
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j] as number, order[i] as number];
  }
  return order;
}

/** The part of an output that answers its first request. */
const firstOf = (output: OutputTensor, size: number): Tensor =>
  size === 1 ? output : (split(output, 0, [1, size - 1])[0] as Tensor);

/** For each output, by element of an answer, its largest magnitude in the references: differences are relative to it. */
function scalesOf(references: Alone['references'], size: number): readonly Float64Array[] {
  const [first] = references as [readonly OutputTensor[]];
  return first.map((output, k) => {
    if (output.dtype === 'string') return new Float64Array(0);
    const rows = references.map((outputs) => valuesOf(firstOf(outputs[k] as OutputTensor, size)));
    const scale = new Float64Array(rows[0]?.length ?? 0);
    for (const row of rows) {
      for (let i = 0; i < scale.length; i++) {
        const magnitude = Math.abs(row.at(i));
        if (magnitude > (scale[i] as number) && magnitude < Number.POSITIVE_INFINITY) scale[i] = magnitude;
      }
    }
    const mean = scale.reduce((sum, value) => sum + value / scale.length, 0);
    return scale.map((value) => Math.max(value, mean * smallShare));
  });
}

/** The least scale, as a share of the output's mean: rounding errors grow with the terms of a sum, not its result. */
const smallShare = 1e-2;

function firstDifference(
  outputs: readonly OutputTensor[],
  order: readonly number[],
  references: Alone['references'],
  axes: readonly (number | null)[],
  scales: readonly Float64Array[],
  tolerance: BatchTolerance,
  fixedBatch: number | null,
): string | null {
  const size = fixedBatch ?? order.length;
  for (const [k, output] of outputs.entries()) {
    const reference = (references[0] as readonly OutputTensor[])[k] as OutputTensor;
    const axis = axes[k] ?? null;
    if (axis === null && size > 1) return `the output ${output.name} is one number for all rows`;
    const isAlone = size === 1 || axis === null;
    if (!isAlone && reference.dims[axis] !== (fixedBatch ?? 1))
      return `the output ${output.name} has the shape [${reference.dims}] for one row, and [${output.dims}]`;
    const wanted = isAlone ? reference.dims : resized(reference.dims, axis, size);
    if (output.dtype !== reference.dtype || String(output.dims) !== String(wanted))
      return `the output ${output.name} has the shape [${output.dims}], not [${wanted}],`;
    const parts = isAlone ? [output] : split(output, axis, new Array(size).fill(1));
    for (const [place, row] of order.entries()) {
      const alone = firstOf((references[row] as readonly OutputTensor[])[k] as OutputTensor, fixedBatch ?? 1);
      const by = rowDifference(parts[place] as Tensor, alone, scales[k] as Float64Array, tolerance);
      if (by !== null) return `the output ${output.name} differs by ${by} from that of the row alone`;
    }
  }
  return null;
}

/** In which output two answers to the same request differ, and by how much; null when that is tolerated. */
export function differenceBetween(
  answers: readonly OutputTensor[],
  references: readonly OutputTensor[],
  tolerance: BatchTolerance,
): string | null {
  const scales = scalesOf([references], 1);
  for (const [k, reference] of references.entries()) {
    const answer = answers[k] as OutputTensor;
    if (String(answer.dims) !== String(reference.dims) || answer.data.length !== reference.data.length)
      return `the output ${reference.name} has another shape`;
    const by = rowDifference(answer, reference, scales[k] as Float64Array, tolerance);
    if (by !== null) return `the output ${reference.name} differs by ${by}`;
  }
  return null;
}

/** How much a request's output in a batch differs from its output alone; null when the difference is tolerated. */
function rowDifference(together: Tensor, alone: Tensor, scale: Float64Array, tolerance: BatchTolerance): string | null {
  if (isSame(together, alone)) return null;
  if (alone.dtype === 'string') return 'a text';
  if (tolerance === 'exact') return 'some bits';
  const relative = toleratedBy(alone.dtype, tolerance);
  const a = valuesOf(together);
  const b = valuesOf(alone);
  let worst = 0;
  for (let i = 0; i < b.length; i++) {
    const one = a.at(i);
    const other = b.at(i);
    if (Object.is(one, other) || one === other) continue;
    const difference = Math.abs(one - other);
    // An element that is infinite or NaN in only one of the two counts as an infinite difference.
    const tolerated = relative * Math.max(Math.abs(other), scale[i] as number);
    if (Number.isFinite(difference) && difference <= tolerated) continue;
    worst = Math.max(worst, Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference);
  }
  return worst > 0 ? worst.toPrecision(3) : null;
}

/**
 * Integers must be equal. The significand of float16 has 11 bits, where float32 has 24: the last few bits of a float16
 * may differ.
 */
function toleratedBy(dtype: Dtype, tolerance: number): number {
  if (dtype === 'float32' || dtype === 'float64') return tolerance;
  return dtype === 'float16' ? Math.max(tolerance, 2 ** -8) : 0;
}

interface Values {
  readonly length: number;
  at(i: number): number;
}

/** The numbers of a tensor; copied only where they are not aligned. */
function valuesOf({ dtype, dims, data }: Tensor): Values {
  if (dtype === 'string') return { length: 0, at: () => Number.NaN };
  const bytes = data as Uint8Array<ArrayBuffer>;
  const isAligned = bytes.byteOffset % dtypes[dtype].bytes === 0;
  const { buffer, byteOffset } = isAligned ? bytes : bytes.slice();
  const length = elementsIn(dims);
  const values = typedView(dtype, buffer, length, byteOffset);
  return { length, at: dtype === 'float16' ? (i) => fromHalf(Number(values[i])) : (i) => Number(values[i]) };
}
