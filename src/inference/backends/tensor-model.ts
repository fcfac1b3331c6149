// A model whose requests are more than rows of a fixed size: tensors of differing shapes, with their batch along any
// axis or none, strings, inputs that are constant or that requests must agree on.
//
//   payloads ─▶ taken apart (payload.ts) ─▶ grouped by shape ─▶ joined ─▶ a run for each group ─▶ split ─▶ replies
//
// Requests of a batch share a run when all their tensors have the same shape apart from the batch axis, and the inputs
// that requests share have the same bytes. With buckets, requests of differing lengths share one as well: each is padded
// up to the next bucket. A request is never split, and a run never has more rows than a batch may have.
// When a shared run fails, or does not answer as was proved (run-outputs.ts), its requests fail with a SharedRunError:
// alone they may succeed.

import { elementsIn, type Tensor } from '../../tensors/axis.js';
import { dtypes } from '../../tensors/dtypes.js';
import { toError } from '../../thrown.js';
import type { Replies, ReplyDims, RowSource } from '../batch.js';
import { type Model, SharedRunError } from '../model.js';
import type { PadSettings } from '../overrides.js';
import { acceptance, layoutOf, mostRowsOf, type PayloadLayout } from '../payload.js';
import type { ModelPlan, TensorPlan } from '../plan.js';
import { inputsOf, type Request, type Run } from './run-inputs.js';
import { type NamedTensor, RunOutputs } from './run-outputs.js';

export interface TensorModelOptions {
  readonly plan: ModelPlan;
  /** The value of each constant input; one element fills a tensor of any shape. */
  readonly constants: ReadonlyMap<string, Tensor>;
  /** The most rows in a run. */
  readonly maxBatchSize: number;
  /** A payload that the model accepts. */
  readonly sample: Buffer | null;
  /** How requests are padded; it must be proved. */
  readonly pad?: PadSettings | null;
  /** Runs the model; resolves to the outputs that are returned, in the order of the model. */
  run(inputs: Readonly<Record<string, Tensor>>): Promise<readonly NamedTensor[]>;
  close(): Promise<void>;
}

/** Inputs that requests share are compared byte by byte, up to this size; with larger ones each runs alone. */
const mostSharedBytes = 64;

/** @throws Error that says what would mend it, when payloads cannot say the shapes of the plan */
export function tensorModel(options: TensorModelOptions): Model {
  const { plan, sample, maxBatchSize } = options;
  const runner = new TensorRunner(options);
  return {
    inputBytes: runner.layout.bytes,
    outputBytes: outputBytesOf(plan),
    fixedRows: plan.fixedBatch,
    runsAloneBecause: plan.runsAloneBecause,
    plan,
    concurrency: 1,
    mayReplyWithInput: false,
    sample,
    description: describePlan(plan),
    ...acceptance(plan, maxBatchSize, runner.layout),
    run: (source, onLot) => runner.run(source, onLot),
    close: () => options.close(),
  };
}

/** Bytes of a reply, or null when they differ. */
function outputBytesOf({ outputs, runsAloneBecause }: ModelPlan): number | null {
  let bytes = 0;
  for (const { dtype, requestDims, isReturned } of outputs) {
    if (!isReturned) continue;
    if (dtype === 'string' || requestDims.some((dim) => typeof dim === 'string')) return null;
    bytes += elementsIn(requestDims as readonly number[]) * dtypes[dtype].bytes;
  }
  // A model may give its output another shape than it states.
  return runsAloneBecause === null ? bytes : null;
}

/** For logs: `onnx x float32[1,seq] → y float32[1,8]`. */
function describePlan({ inputs, outputs }: ModelPlan): string {
  const text = ({ name, dtype, requestDims }: TensorPlan): string => `${name} ${dtype}[${requestDims.join(',')}]`;
  const sent = inputs.filter(({ isConstant }) => !isConstant);
  const returned = outputs.filter(({ isReturned }) => isReturned);
  return `onnx ${sent.map(text).join(' + ')} → ${returned.map(text).join(' + ')}`;
}

/** Requests that share a run. */
interface Group {
  readonly requests: Request[];
  /** The bucket that they are padded up to when they differ in length; null: they have one shape. */
  readonly bucket: number | null;
  /** The bytes of the inputs that they share. */
  readonly shared: string;
  totalRows: number;
}

class TensorRunner {
  readonly layout: PayloadLayout;
  readonly #options: TensorModelOptions;
  readonly #outputs: RunOutputs;
  readonly #mostRows: number;
  readonly #isAlone: boolean;
  /** Fields that the requests of a run must agree on. */
  readonly #sharedFields: readonly number[];
  readonly #buckets: readonly number[];

  constructor(options: TensorModelOptions) {
    const { plan, maxBatchSize, pad } = options;
    this.#options = options;
    this.layout = layoutOf(plan, maxBatchSize);
    this.#outputs = new RunOutputs(plan, this.layout.open, pad ?? null);
    this.#mostRows = mostRowsOf(plan, maxBatchSize);
    this.#isAlone = plan.runsAloneBecause !== null;
    const { fields } = this.layout;
    this.#sharedFields = [...fields.keys()].filter((i) => typeof fields[i]?.input.batchAxis !== 'number');
    this.#buckets = pad?.buckets ?? [];
  }

  async run(source: RowSource, onLot: () => void = () => {}): Promise<Replies> {
    const replies = new Array<Uint8Array | Error>(source.rows);
    let dims: (ReplyDims | null)[] | null = null;
    for (const group of this.#groupsOf(source, replies)) {
      const { requests } = group;
      try {
        const answer = await this.#runGroup(source, group);
        if (requests.length === source.rows) {
          onLot();
          return answer;
        }
        if (answer.dims !== undefined) dims ??= new Array<ReplyDims | null>(source.rows).fill(null);
        for (const [i, { index }] of requests.entries()) {
          replies[index] = replyOf(answer, i);
          if (dims !== null) dims[index] = dimsOf(answer, i);
        }
      } catch (error) {
        const reason = requests.length > 1 ? new SharedRunError(toError(error)) : toError(error);
        for (const { index } of requests) replies[index] = reason;
      }
      onLot();
    }
    return dims === null ? { kind: 'rows', rows: replies } : { kind: 'rows', rows: replies, dims };
  }

  /** Groups the requests of a batch, the oldest first. A payload that is none gets its error. */
  #groupsOf(source: RowSource, replies: (Uint8Array | Error)[]): readonly Group[] {
    const groups: Group[] = [];
    const open = new Map<number | string, Group>();
    for (let index = 0; index < source.rows; index++) {
      const payload = source.payload(index);
      const parsed = this.layout.parse(payload);
      if (parsed === null) {
        replies[index] = new Error(`a payload of ${payload.length} bytes is no request of this model`);
        continue;
      }
      const request: Request = { ...parsed, index, rows: this.layout.rowsFor(parsed.size) };
      const bucket = this.#buckets.find((size) => size >= request.size) ?? null;
      const shared = this.#isAlone ? '' : this.#sharedBytes(payload, request);
      const key = this.#isAlone || shared === null ? null : this.#keyOf(request, bucket, shared);
      const group = key === null ? undefined : open.get(key);
      if (group !== undefined && group.totalRows + request.rows <= this.#mostRows) {
        group.requests.push(request);
        group.totalRows += request.rows;
        continue;
      }
      const begun: Group = { requests: [request], bucket, shared: shared ?? '', totalRows: request.rows };
      groups.push(begun);
      if (key !== null) open.set(key, begun);
    }
    return groups;
  }

  /** Requests with the same key may share a run. */
  #keyOf({ size }: Request, bucket: number | null, shared: string): number | string {
    const shape = bucket ?? (this.layout.isOpenRows ? 0 : size);
    return shared === '' ? shape : `${shape}${shared}`;
  }

  /** The bytes of the inputs that a run has once for all of its requests; null when they are too many to compare. */
  #sharedBytes(payload: Buffer, { offsets }: Request): string | null {
    let shared = '';
    for (const k of this.#sharedFields) {
      const begin = offsets[k] as number;
      const end = offsets[k + 1] ?? payload.length;
      if (end - begin > mostSharedBytes) return null;
      shared += `:${payload.toString('latin1', begin, end)}`;
    }
    return shared;
  }

  async #runGroup(source: RowSource, { requests, bucket, shared, totalRows }: Group): Promise<Replies> {
    const { plan, constants, pad = null } = this.#options;
    const [{ size }] = requests as [Request];
    // One length alone is cheaper as it is.
    const isPadded = bucket !== null && requests.some((other) => other.size !== size);
    const run: Run = {
      requests,
      size: isPadded ? bucket : size,
      isPadded,
      shared,
      rows: plan.fixedBatch ?? totalRows,
      filledRows: totalRows,
    };
    const inputs = inputsOf(source, run, { plan, layout: this.layout, constants, pad });
    return this.#outputs.repliesOf(await this.#options.run(inputs), run);
  }
}

function replyOf(answer: Replies, i: number): Uint8Array | Error {
  if (answer.kind === 'rows') return answer.rows[i] as Uint8Array | Error;
  return answer.bytes.subarray(i * answer.stride, i * answer.stride + answer.rowBytes);
}

const dimsOf = (answer: Replies, i: number): ReplyDims | null =>
  (answer.kind === 'uniform' ? answer.dims : answer.dims?.[i]) ?? null;
