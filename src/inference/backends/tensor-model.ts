// A model whose requests are more than rows of a fixed size: tensors of differing shapes, with their batch along any
// axis or none, strings, inputs that are constant or that requests must agree on.
//
//   payloads ─▶ taken apart (payload.ts) ─▶ grouped by shape ─▶ joined ─▶ a run for each group ─▶ split ─▶ replies
//
// Requests of a batch share a run when all their tensors have the same shape apart from the batch axis, and the inputs
// that requests share have the same bytes. A request is never split, and a run never has more rows than a batch may have.
// What comes out of a shared run is checked against the plan, since otherwise clients could get each other's replies;
// when it is not what was proved, or the run fails, its requests fail with a SharedRunError: alone they may succeed.

import { eachPiece, elementsIn, joined, partOf, resized, type Tensor } from '../../tensors/axis.js';
import { type Dtype, dtypes } from '../../tensors/dtypes.js';
import { encodeStrings } from '../../tensors/strings.js';
import { toError } from '../../thrown.js';
import type { Replies, RowSource } from '../batch.js';
import { type Model, SharedRunError } from '../model.js';
import { acceptance, type Field, layoutOf, mostRowsOf, type ParsedPayload, type PayloadLayout } from '../payload.js';
import type { InputPlan, ModelPlan, OutputPlan, TensorPlan } from '../plan.js';

export type NamedTensor = Tensor & { readonly name: string };

export interface TensorModelOptions {
  readonly plan: ModelPlan;
  /** The value of each constant input; one element fills a tensor of any shape. */
  readonly constants: ReadonlyMap<string, Tensor>;
  /** The most rows in a run. */
  readonly maxBatchSize: number;
  /** A payload that the model accepts. */
  readonly sample: Buffer | null;
  /** Runs the model; resolves to the outputs that are returned, in the order of the model. */
  run(inputs: Readonly<Record<string, Tensor>>): Promise<readonly NamedTensor[]>;
  close(): Promise<void>;
}

/** Inputs that requests share are compared byte by byte, up to this size; with larger ones each runs alone. */
const mostSharedBytes = 64;
/** How many shapes are remembered with those of their outputs. */
const mostShapes = 1024;

/** @throws Error that says what would mend it, when payloads cannot say the shapes of the plan */
export function tensorModel(options: TensorModelOptions): Model {
  const { plan, sample, maxBatchSize } = options;
  const runner = new TensorRunner(options);
  const { layout } = runner;
  return {
    inputBytes: layout.bytes,
    outputBytes: outputBytesOf(plan),
    fixedRows: plan.fixedBatch,
    runsAloneBecause: plan.runsAloneBecause,
    plan,
    concurrency: 1,
    mayReplyWithInput: false,
    sample,
    description: describePlan(plan),
    ...acceptance(plan, maxBatchSize, layout),
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

/** Requests of one shape that may share a run. */
interface Group {
  /** Of the open dimension. */
  readonly size: number;
  /** Indices of its requests in the batch. */
  readonly requests: number[];
  /** The rows of each. */
  readonly rows: number[];
  totalRows: number;
}

/** Whether a run has other rows than those of one request: of others, or added to fill a fixed batch. */
const isShared = ({ requests, totalRows }: Group, rows: number): boolean => requests.length > 1 || rows !== totalRows;

class TensorRunner {
  readonly layout: PayloadLayout;
  readonly #plan: ModelPlan;
  readonly #options: TensorModelOptions;
  readonly #mostRows: number;
  readonly #constants: readonly InputPlan[];
  readonly #returned: readonly OutputPlan[];
  /** Fields that the requests of a run must agree on. */
  readonly #sharedFields: readonly number[];
  readonly #hasStrings: boolean;
  /** Sizes that dimensions of inputs have in every request, by name. */
  readonly #sizes: ReadonlyMap<string, number>;
  /** The dimensions that outputs had for a shape, where the plan leaves them open. */
  readonly #seenDims = new Map<number, readonly string[]>();

  constructor(options: TensorModelOptions) {
    const { plan, maxBatchSize } = options;
    this.#options = options;
    this.#plan = plan;
    this.#mostRows = mostRowsOf(plan, maxBatchSize);
    this.layout = layoutOf(plan, maxBatchSize);
    const { fields } = this.layout;
    this.#constants = plan.inputs.filter(({ isConstant }) => isConstant);
    this.#returned = plan.outputs.filter(({ isReturned }) => isReturned);
    this.#sharedFields = [...fields.keys()].filter((i) => typeof fields[i]?.input.batchAxis !== 'number');
    this.#hasStrings = fields.some(({ input }) => input.dtype === 'string');
    this.#sizes = fixedSizes(plan);
  }

  async run(source: RowSource, onLot: () => void = () => {}): Promise<Replies> {
    const parsed: (ParsedPayload | null)[] = [];
    const replies = new Array<Uint8Array | Error>(source.rows);
    const groups = this.#groupsOf(source, parsed, replies);
    for (const group of groups) {
      const first = group.requests[0] as number;
      try {
        const answer = await this.#runGroup(source, group, parsed);
        if (answer.uniform !== null && group.requests.length === source.rows) {
          onLot();
          return answer.uniform;
        }
        for (const [i, reply] of answer.replies().entries()) replies[group.requests[i] ?? first] = reply;
      } catch (error) {
        const reason = group.requests.length > 1 ? new SharedRunError(toError(error)) : toError(error);
        for (const request of group.requests) replies[request] = reason;
      }
      onLot();
    }
    return { kind: 'rows', rows: replies };
  }

  /** Groups the requests of a batch, the oldest first. A payload that is none gets its error. */
  #groupsOf(source: RowSource, parsed: (ParsedPayload | null)[], replies: (Uint8Array | Error)[]): readonly Group[] {
    const { layout } = this;
    const isAlone = this.#plan.runsAloneBecause !== null;
    const groups: Group[] = [];
    const open = new Map<number | string, Group>();
    for (let i = 0; i < source.rows; i++) {
      let size = 0;
      if (layout.bytes === null) {
        const payload = source.payload(i);
        const one = this.#hasStrings ? layout.parse(payload) : null;
        size = one === null ? (this.#hasStrings ? -1 : layout.sizeOf(payload.length)) : one.size;
        if (this.#hasStrings) parsed[i] = one;
        if (size < 0) {
          replies[i] = new Error(`a payload of ${payload.length} bytes is no request of this model`);
          continue;
        }
      } else if (this.#hasStrings) parsed[i] = layout.parse(source.payload(i));
      const rows = layout.rowsFor(size);
      const key = isAlone ? i : this.#keyOf(source, i, size, parsed[i]);
      const group = key === null ? undefined : open.get(key);
      if (group !== undefined && group.totalRows + rows <= this.#mostRows) {
        group.requests.push(i);
        group.rows.push(rows);
        group.totalRows += rows;
        continue;
      }
      const begun: Group = { size, requests: [i], rows: [rows], totalRows: rows };
      groups.push(begun);
      if (key !== null) open.set(key, begun);
    }
    return groups;
  }

  /** Requests with the same key may share a run; null: none may. */
  #keyOf(source: RowSource, i: number, size: number, parsed: ParsedPayload | null | undefined): number | string | null {
    const shape = this.layout.isOpenRows ? 0 : size;
    if (this.#sharedFields.length === 0) return shape;
    const offsets = parsed?.offsets ?? this.layout.offsetsOf(size);
    const payload = source.payload(i);
    let key = `${shape}`;
    for (const k of this.#sharedFields) {
      const begin = offsets[k] as number;
      const end = offsets[k + 1] ?? payload.length;
      if (end - begin > mostSharedBytes) return null;
      key += `:${payload.toString('latin1', begin, end)}`;
    }
    return key;
  }

  async #runGroup(source: RowSource, group: Group, parsed: readonly (ParsedPayload | null)[]): Promise<Answer> {
    const inputs: Record<string, Tensor> = {};
    const rows = this.#plan.fixedBatch ?? group.totalRows;
    for (const [k, field] of this.layout.fields.entries())
      inputs[field.input.name] =
        field.input.dtype === 'string'
          ? this.#joinedStrings(field, k, group, rows, parsed)
          : this.#joinedNumbers(source, field, k, group, rows, parsed);
    for (const input of this.#constants) inputs[input.name] = this.#constant(input, group.size, rows);
    const outputs = await this.#options.run(inputs);
    this.#check(outputs, group, rows);
    return new Answer(this.#returned, outputs, group.rows, isShared(group, rows));
  }

  #joinedNumbers(
    source: RowSource,
    { input, elementBytes }: Field,
    k: number,
    group: Group,
    rows: number,
    parsed: readonly (ParsedPayload | null)[],
  ): Tensor {
    const { layout } = this;
    const { batchAxis } = input;
    const dtype = input.dtype as Dtype;
    const dims = layout.dimsOf(input, group.size);
    const sameOffset = this.#hasStrings || layout.isOpenRows ? null : (layout.offsetsOf(group.size)[k] as number);
    const offsetOf = (i: number): number =>
      sameOffset ??
      parsed[group.requests[i] as number]?.offsets[k] ??
      (layout.offsetsOf(group.rows[i] as number)[k] as number);
    if (typeof batchAxis !== 'number') {
      const data = new Uint8Array(elementsIn(dims) * elementBytes);
      source.copyRow(group.requests[0] as number, data, 0, offsetOf(0), data.length);
      return { dtype, dims, data };
    }
    const whole = resized(dims, batchAxis, rows);
    const bytes = elementsIn(whole) * elementBytes;
    const isWholeBatch = group.requests.length === source.rows && rows === group.totalRows;
    if (source.packed !== undefined && isWholeBatch && batchAxis === 0 && layout.fields.length === 1)
      return { dtype, dims: whole, data: new Uint8Array(source.packed, 0, bytes) };
    // Rows that a fixed batch has beyond those of requests are zeros.
    const data = rows === group.totalRows ? allocated(bytes) : new Uint8Array(bytes);
    const origin = new Array<number>(dims.length).fill(0);
    for (const [i, request] of group.requests.entries()) {
      const offset = offsetOf(i);
      const own = group.rows[i] as number;
      eachPiece(resized(dims, batchAxis, own), whole, origin, (partAt, wholeAt, length) =>
        source.copyRow(request, data, wholeAt * elementBytes, offset + partAt * elementBytes, length * elementBytes),
      );
      origin[batchAxis] = (origin[batchAxis] as number) + own;
    }
    return { dtype, dims: whole, data };
  }

  #joinedStrings(
    { input }: Field,
    k: number,
    group: Group,
    rows: number,
    parsed: readonly (ParsedPayload | null)[],
  ): Tensor {
    const { batchAxis } = input;
    const dims = this.layout.dimsOf(input, group.size);
    const parts = group.requests.map((request, i): Tensor => {
      const data = parsed[request]?.strings[k] ?? [];
      const own = typeof batchAxis === 'number' ? resized(dims, batchAxis, group.rows[i] as number) : dims;
      return { dtype: 'string', dims: own, data };
    });
    if (typeof batchAxis !== 'number') return parts[0] as Tensor;
    const missing = resized(dims, batchAxis, rows - group.totalRows);
    const padding = { dtype: 'string', dims: missing, data: new Array<string>(elementsIn(missing)).fill('') } as const;
    return joined(rows === group.totalRows ? parts : [...parts, padding], batchAxis);
  }

  #constant(input: InputPlan, size: number, rows: number): Tensor {
    const { batchAxis, requestDims, name } = input;
    const value = this.#options.constants.get(name);
    if (value === undefined) throw new Error(`the constant ${name} has no value`);
    const own = requestDims.map((dim) => (typeof dim === 'number' ? dim : (this.#sizes.get(dim) ?? (size || 1))));
    const dims = typeof batchAxis === 'number' ? resized(own, batchAxis, rows) : own;
    if (String(value.dims) === String(dims)) return value;
    if (value.data.length > 0 && elementsIn(value.dims) === 1) return filled(value, dims);
    if (typeof batchAxis === 'number') return joined(new Array<Tensor>(rows).fill(value), batchAxis);
    throw new Error(`the constant ${name} has the shape [${value.dims}], not [${dims}]`);
  }

  /**
   * Throws when a run that requests share has not answered as the plan says. The answer to a request alone is its own,
   * whatever its shape.
   */
  #check(outputs: readonly NamedTensor[], group: Group, rows: number): void {
    for (const [k, { name, dtype }] of this.#returned.entries())
      if (outputs[k]?.name !== name || outputs[k].dtype !== dtype)
        throw new Error(`the model answered with ${outputs[k]?.name} ${outputs[k]?.dtype}, not ${name} ${dtype}`);
    const hasOthers = isShared(group, rows);
    const open: string[] = [];
    for (const [k, output] of this.#returned.entries()) {
      const { dims, name } = outputs[k] as NamedTensor;
      const wanted = this.#wantedDims(output, group.size, rows);
      const isWanted = dims.length === wanted.length && wanted.every((size, i) => size === null || size === dims[i]);
      if (hasOthers && !isWanted)
        throw new Error(
          `the output ${name} has the shape [${dims}] in a run of ${rows} rows, not [${wanted.map((size, i) => size ?? output.dims[i])}]: what belongs to which request is not known`,
        );
      if (output.batchAxis === 'none' && hasOthers) throw new Error(`the output ${name} has no batch axis`);
      open.push(dims.filter((_, i) => wanted[i] === null).join());
    }
    this.#remember(group, open, hasOthers);
  }

  /** Dimensions that only outputs have depend on the shape alone: otherwise requests would not share a run. */
  #remember(group: Group, open: readonly string[], hasOthers: boolean): void {
    if (this.#plan.runsAloneBecause !== null || open.every((text) => text === '')) return;
    const key = this.layout.isOpenRows ? 0 : group.size;
    const seen = this.#seenDims.get(key);
    if (seen === undefined) {
      if (this.#seenDims.size >= mostShapes) this.#seenDims.clear();
      this.#seenDims.set(key, open);
    } else if (hasOthers && String(seen) !== String(open)) {
      const k = open.findIndex((text, i) => text !== seen[i]);
      throw new Error(
        `the output ${this.#returned[k]?.name} has other dimensions (${open[k]}) than in an earlier run of the same shape (${seen[k]})`,
      );
    }
  }

  /** The dimensions that an output of a run must have; null where the plan does not tell. */
  #wantedDims({ requestDims, batchAxis }: OutputPlan, size: number, rows: number): readonly (number | null)[] {
    return requestDims.map((dim, i) => {
      if (i === batchAxis) return rows;
      if (typeof dim === 'number') return dim;
      return dim === this.layout.open ? size : (this.#sizes.get(dim) ?? null);
    });
  }
}

/** What a run has answered, as replies to its requests. */
class Answer {
  readonly #plans: readonly OutputPlan[];
  readonly #outputs: readonly NamedTensor[];
  readonly #rows: readonly number[];
  readonly #isShared: boolean;

  /** @param isShared if not, all of it is the answer to one request */
  constructor(
    plans: readonly OutputPlan[],
    outputs: readonly NamedTensor[],
    rows: readonly number[],
    isShared: boolean,
  ) {
    this.#isShared = isShared;
    this.#plans = plans;
    this.#outputs = outputs;
    this.#rows = rows;
  }

  /** The replies as they lie in the output, if it is one whose batch comes first. */
  get uniform(): Replies | null {
    const [plan] = this.#plans;
    const [output] = this.#outputs;
    const [rows] = this.#rows;
    if (this.#outputs.length !== 1 || plan?.batchAxis !== 0 || output === undefined || output.dtype === 'string')
      return null;
    if (this.#rows.some((other) => other !== rows)) return null;
    const total = output.dims[0] ?? 0;
    const rowBytes = this.#isShared ? (output.data.length / total) * (rows as number) : output.data.length;
    const bytes = output.data.subarray(0, rowBytes * this.#rows.length);
    return { kind: 'uniform', bytes, rowBytes, stride: rowBytes };
  }

  replies(): readonly Uint8Array[] {
    const parts = this.#outputs.map((output, k) => this.#partsOf(this.#plans[k] as OutputPlan, output));
    const [only] = parts;
    if (parts.length === 1 && only !== undefined) return only;
    return this.#rows.map((_, i) => Buffer.concat(parts.map((part) => part[i] as Uint8Array)));
  }

  /** The bytes that each request gets of an output. */
  #partsOf({ batchAxis }: OutputPlan, output: Tensor): readonly Uint8Array[] {
    if (!this.#isShared || typeof batchAxis !== 'number') {
      const bytes = bytesOf(output);
      return this.#rows.map(() => bytes);
    }
    const origin = new Array<number>(output.dims.length).fill(0);
    return this.#rows.map((rows) => {
      const part = partOf(output, resized(output.dims, batchAxis, rows), origin);
      origin[batchAxis] = (origin[batchAxis] as number) + rows;
      return bytesOf(part);
    });
  }
}

const bytesOf = (tensor: Tensor): Uint8Array => (tensor.dtype === 'string' ? encodeStrings(tensor.data) : tensor.data);

/** Not from Node's pool, so that it begins at offset 0; its content is not defined. */
function allocated(bytes: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer);
}

function filled(value: Tensor, dims: readonly number[]): Tensor {
  const elements = elementsIn(dims);
  if (value.dtype === 'string')
    return { dtype: 'string', dims, data: new Array<string>(elements).fill(value.data[0] as string) };
  const data = allocated(elements * value.data.length);
  Buffer.from(data.buffer).fill(value.data);
  return { dtype: value.dtype, dims, data };
}

/** Dimensions that the model leaves open and config fixes: the size of each, by name. */
function fixedSizes({ inputs }: ModelPlan): ReadonlyMap<string, number> {
  const sizes = new Map<string, number>();
  for (const { dims, requestDims, batchAxis } of inputs)
    for (const [i, dim] of dims.entries()) {
      const size = requestDims[i];
      if (typeof dim === 'string' && typeof size === 'number' && i !== batchAxis) sizes.set(dim, size);
    }
  return sizes;
}
