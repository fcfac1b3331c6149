// The tensors of a run that requests share: joined along their batch axes, straight from the memory of the batch.

import { eachPiece, elementsIn, filled, joined, resized, type Tensor } from '../../tensors/axis.js';
import { type Dtype, dtypes } from '../../tensors/dtypes.js';
import { tensorOf } from '../../tensors/literal.js';
import type { RowSource } from '../batch.js';
import type { PadSettings } from '../overrides.js';
import type { Field, ParsedPayload, PayloadLayout } from '../payload.js';
import type { InputPlan, ModelPlan } from '../plan.js';

/** A request of a batch. */
export interface Request extends ParsedPayload {
  /** Its index in the batch. */
  readonly index: number;
  readonly rows: number;
}

/** A run of the model. */
export interface Run {
  readonly requests: readonly Request[];
  /** The size that the open dimension has in it; requests are padded up to it. */
  readonly size: number;
  readonly isPadded: boolean;
  /** The bytes of the inputs that all of its requests share. */
  readonly shared: string;
  readonly rows: number;
  /** Rows of requests; those beyond fill up a fixed batch. */
  readonly filledRows: number;
}

export interface RunContext {
  readonly plan: ModelPlan;
  readonly layout: PayloadLayout;
  readonly constants: ReadonlyMap<string, Tensor>;
  readonly pad: PadSettings | null;
}

/** Whether a run has more than one request has: other requests, rows that fill a fixed batch, or padding. */
export const isShared = ({ requests, rows, filledRows, isPadded }: Run): boolean =>
  requests.length > 1 || rows !== filledRows || isPadded;

export function inputsOf(source: RowSource, run: Run, context: RunContext): Record<string, Tensor> {
  const { plan, layout, pad } = context;
  const inputs: Record<string, Tensor> = {};
  for (const [k, field] of layout.fields.entries())
    inputs[field.input.name] =
      field.input.dtype === 'string'
        ? joinedStrings(field, k, run, layout)
        : joinedNumbers(source, field, k, run, context);
  for (const input of plan.inputs) {
    if (!input.isConstant) continue;
    inputs[input.name] = input.name === pad?.mask ? maskOf(input, run, layout) : constantOf(input, run, context);
  }
  return inputs;
}

function joinedNumbers(source: RowSource, field: Field, k: number, run: Run, { layout, pad }: RunContext): Tensor {
  const { input, elementBytes } = field;
  const { batchAxis } = input;
  const { requests, size, rows, filledRows, isPadded } = run;
  const dtype = input.dtype as Dtype;
  if (typeof batchAxis !== 'number') {
    const dims = layout.dimsOf(input, size);
    const data = allocated(elementsIn(dims) * elementBytes);
    const [{ index, offsets }] = requests as [Request];
    source.copyRow(index, data, 0, offsets[k] as number, data.length);
    return { dtype, dims, data };
  }
  const dims = resized(layout.dimsOf(input, size), batchAxis, rows);
  const bytes = elementsIn(dims) * elementBytes;
  const isBatch = requests.length === source.rows && rows === filledRows && !isPadded;
  if (source.packed !== undefined && isBatch && batchAxis === 0 && layout.fields.length === 1)
    return { dtype, dims, data: new Uint8Array(source.packed, 0, bytes) };
  const data = isPadded || rows !== filledRows ? filledWith(pad?.value ?? 0, dtype, dims) : allocated(bytes);
  eachBlock(field, run, layout, dims, ({ index, offsets }, part, origin) => {
    const offset = offsets[k] as number;
    eachPiece(part, dims, origin, (partAt, wholeAt, length) =>
      source.copyRow(index, data, wholeAt * elementBytes, offset + partAt * elementBytes, length * elementBytes),
    );
  });
  return { dtype, dims, data };
}

/** Visits the shape of each request's tensor, and where it begins in that of the run. */
function eachBlock(
  { input }: Pick<Field, 'input'>,
  { requests }: Run,
  layout: PayloadLayout,
  whole: readonly number[],
  visit: (request: Request, part: readonly number[], origin: readonly number[]) => void,
): void {
  const batchAxis = input.batchAxis as number;
  const origin = new Array<number>(whole.length).fill(0);
  for (const request of requests) {
    visit(request, resized(layout.dimsOf(input, request.size), batchAxis, request.rows), origin);
    origin[batchAxis] = (origin[batchAxis] as number) + request.rows;
  }
}

function joinedStrings({ input }: Field, k: number, { requests, size, rows, filledRows }: Run, layout: PayloadLayout) {
  const { batchAxis } = input;
  const dims = layout.dimsOf(input, size);
  const parts = requests.map((request): Tensor => {
    const own = typeof batchAxis === 'number' ? resized(dims, batchAxis, request.rows) : dims;
    return { dtype: 'string', dims: own, data: request.strings[k] ?? [] };
  });
  if (typeof batchAxis !== 'number') return parts[0] as Tensor;
  if (rows === filledRows) return joined(parts, batchAxis);
  const missing = resized(dims, batchAxis, rows - filledRows);
  return joined([...parts, tensorOf('', 'string', missing)], batchAxis);
}

function constantOf(input: InputPlan, { size, rows }: Run, { plan, layout, constants }: RunContext): Tensor {
  const { batchAxis, requestDims, name } = input;
  const value = constants.get(name);
  if (value === undefined) throw new Error(`the constant ${name} has no value`);
  const own = requestDims.map((dim) => {
    if (typeof dim === 'number') return dim;
    return dim === layout.open ? size : (fixedSizes(plan).get(dim) ?? 1);
  });
  const dims = typeof batchAxis === 'number' ? resized(own, batchAxis, rows) : own;
  if (String(value.dims) === String(dims)) return value;
  if (elementsIn(value.dims) === 1) return filled(value, dims);
  if (typeof batchAxis === 'number') return joined(new Array<Tensor>(rows).fill(value), batchAxis);
  throw new Error(`the constant ${name} has the shape [${value.dims}], not [${dims}]`);
}

/** 1 where requests are, and 0 where they are padded. */
function maskOf(input: InputPlan, run: Run, layout: PayloadLayout): Tensor {
  const dtype = input.dtype as Dtype;
  const own = layout.dimsOf(input, run.size);
  const dims = typeof input.batchAxis === 'number' ? resized(own, input.batchAxis, run.rows) : own;
  if (!run.isPadded || typeof input.batchAxis !== 'number') return tensorOf(1, dtype, dims);
  const { bytes } = dtypes[dtype];
  const { data } = tensorOf(0, dtype, dims) as { data: Uint8Array<ArrayBuffer> };
  const one = tensorOf(1, dtype, []) as { data: Uint8Array<ArrayBuffer> };
  eachBlock({ input }, run, layout, dims, (_, part, origin) =>
    eachPiece(part, dims, origin, (_, at, length) => {
      for (let i = at; i < at + length; i++) data.set(one.data, i * bytes);
    }),
  );
  return { dtype, dims, data };
}

/** Not from Node's pool, so that it begins at offset 0; its content is not defined. */
function allocated(bytes: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer);
}

const filledWith = (value: number, dtype: Dtype, dims: readonly number[]): Uint8Array<ArrayBuffer> =>
  tensorOf(value, dtype, dims).data as Uint8Array<ArrayBuffer>;

/** Dimensions that the model leaves open and config fixes: the size of each, by name. */
export function fixedSizes({ inputs }: ModelPlan): ReadonlyMap<string, number> {
  const sizes = new Map<string, number>();
  for (const { dims, requestDims, batchAxis } of inputs)
    for (const [i, dim] of dims.entries()) {
      const size = requestDims[i];
      if (typeof dim === 'string' && typeof size === 'number' && i !== batchAxis) sizes.set(dim, size);
    }
  return sizes;
}
