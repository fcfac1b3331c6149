// Proves, before the model serves, that a batch does not change an answer: rows that look like data are run alone and
// together, in several orders and at several batch sizes, and the shapes and values of the outputs are compared. Most
// models treat each row by itself. Some do not: dynamically quantised ones use one scale for the whole batch, others
// have a softmax or a sum over the batch, or an output that does not grow with it. Such a model must run one request at
// a time, or clients get answers that depend on the requests of others.
//
//   rows alone ─▶ references ─▶ 2, 2, 3, 8, 16 … rows together, other orders, other neighbours ─▶ equal? ─▶ batches
//                                                                                              └ no ─▶ alone, and why
//
// It takes some milliseconds for a small model. A slow one gets fewer rows and sizes: at least two rows, and batches of
// 2 and 3.

import { type Dtype, dtypes, typedView } from '../../tensors/dtypes.js';
import { textOfThrown } from '../../thrown.js';
import type { BatchTolerance } from '../model.js';
import { fromHalf, generator, type Reach, reaches, sampleRow } from './sample-rows.js';
import type { RowSpec } from './tensor.js';

/** One output of one run. */
export interface OutputTensor {
  readonly name: string;
  readonly dtype: Dtype;
  readonly dims: readonly number[];
  /** The bytes of its elements. */
  readonly bytes: Uint8Array;
}

/** A model to be proved. */
export interface Provable {
  readonly inputs: readonly RowSpec[];
  /** The batch size that the model requires, or null when its batch dimension is dynamic. */
  readonly fixedBatch: number | null;
  /** The outputs with a dimension besides the batch whose size the model does not state. */
  readonly openOutputs: ReadonlySet<string>;
  /** Runs these rows as one batch; with a fixed batch size there are exactly that many. */
  run(rows: readonly Buffer[]): Promise<readonly OutputTensor[]>;
}

export interface ProofSettings {
  /** Rows of the largest batch that the model will get. */
  readonly maxBatchSize: number;
  readonly tolerance: BatchTolerance;
}

export interface Proof {
  /** The outputs that answer one row. */
  readonly outputs: readonly OutputSpec[];
  /** Why rows must not share a run; null when they may. */
  readonly runsAloneBecause: string | null;
  /** A row that the model accepts, and that looks like data. */
  readonly sample: Buffer;
}

export interface OutputSpec extends RowSpec {
  /** Whether its dimensions differ from row to row: then `dims` and `bytes` are those of the first row tried. */
  readonly isVarying: boolean;
  /** Whether the model leaves a dimension besides the batch open: it may differ for rows that were not tried. */
  readonly isOpen: boolean;
}

/** The time for the larger batches; and the number of different rows, if there is time for them. */
const budgetMs = 500;
const mostRows = 8;
/** Kernels take different code paths at different sizes, most often at powers of two. */
const sizes = [2, 2, 3, 3, 8, 16, 33, 64] as const;
const leastSizes = 4;
/** The most characters of a message of ONNX Runtime. */
const mostText = 200;

/** Rejects with the model's own error when it cannot run a single row. */
export async function prove(model: Provable, { maxBatchSize, tolerance }: ProofSettings): Promise<Proof> {
  const { rows, references, oneMs } = await runAlone(model);
  const outputs = specsOf(model, references);
  const [sample] = rows as [Buffer];
  const proof = (runsAloneBecause: string | null): Proof => ({ outputs, runsAloneBecause, sample });
  // In a fixed batch of 1 each row is a lot of its own, so its bytes are its own.
  if (maxBatchSize === 1 || model.fixedBatch === 1) return proof(null);
  const varying = outputs.find(({ isVarying }) => isVarying);
  if (varying !== undefined)
    return proof(`the output ${varying.name} has other dimensions for other rows: [${varying.dims}] for the first`);
  return proof(await differenceIn(model, rows, references, oneMs, maxBatchSize, tolerance));
}

interface Alone {
  readonly rows: readonly Buffer[];
  /** For each row, what the model answers when the row runs alone. */
  readonly references: readonly (readonly OutputTensor[])[];
  readonly oneMs: number;
}

/** Runs rows alone, with values that reach as far as the model allows. */
async function runAlone(model: Provable): Promise<Alone> {
  const reachOf = model.inputs.map((): Reach => 'wide');
  const attempt = await runRows(model, reachOf);
  if ('rows' in attempt) return (await runFar(model, attempt)) ?? attempt;
  // Tries each input with the others at zero: most often one of them is an index, and the rest may stay data.
  const apart: Reach[] = [];
  for (const k of model.inputs.keys()) apart.push(await farthestReach(model, k));
  const together = await runRows(model, apart);
  if ('rows' in together) return together;
  for (const reach of reaches.slice(2)) {
    const lower = await runRows(
      model,
      apart.map((own) => (reaches.indexOf(own) > reaches.indexOf(reach) ? own : reach)),
    );
    if ('rows' in lower) return lower;
    if (reach === 'zeros') throw lower.error;
  }
  throw attempt.error;
}

/** Equal answers to all rows show nothing: tries rows that reach farther. Null when not needed, or no more is shown. */
async function runFar(model: Provable, { references }: Alone): Promise<Alone | null> {
  const areAlike = (all: Alone['references']): boolean =>
    all.every((outputs) =>
      outputs.every(({ bytes }, k) => all[0]?.[k] !== undefined && isSame(bytes, all[0][k].bytes)),
    );
  if (!areAlike(references)) return null;
  const far = await runRows(
    model,
    model.inputs.map((): Reach => 'far'),
  );
  return 'rows' in far && !areAlike(far.references) ? far : null;
}

const isSame = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

async function farthestReach(model: Provable, k: number): Promise<Reach> {
  for (const reach of reaches.slice(1)) {
    const attempt = await runRows(
      model,
      model.inputs.map((_, i) => (i === k ? reach : 'zeros')),
      2,
    );
    if ('rows' in attempt) return reach;
  }
  return 'zeros';
}

/** Runs each row alone: in a fixed batch, first and with zeros behind it. */
async function runRows(
  model: Provable,
  reachOf: readonly Reach[],
  most = mostRows,
): Promise<Alone | { readonly error: unknown }> {
  const rows: Buffer[] = [];
  const references: (readonly OutputTensor[])[] = [];
  let oneMs = 0;
  try {
    for (let spentMs = 0; rows.length < 2 || (rows.length < most && spentMs + oneMs < budgetMs / 4); spentMs += oneMs) {
      const row = sampleRow(model.inputs, reachOf, rows.length);
      const startedAt = performance.now();
      references.push(await model.run(padded(model, [row])));
      rows.push(row);
      oneMs = performance.now() - startedAt;
    }
    return { rows, references, oneMs };
  } catch (error) {
    return { error };
  }
}

function padded({ fixedBatch, inputs }: Provable, rows: readonly Buffer[]): readonly Buffer[] {
  if (fixedBatch === null) return rows;
  const zeros = Buffer.alloc(inputs.reduce((sum, { bytes }) => sum + bytes, 0));
  return Array.from({ length: fixedBatch }, (_, i) => rows[i] ?? zeros);
}

function specsOf(model: Provable, references: Alone['references']): readonly OutputSpec[] {
  const size = model.fixedBatch ?? 1;
  const [first] = references as [readonly OutputTensor[]];
  for (const outputs of references) {
    const wrong = outputs.find(({ dims }) => dims[0] !== size);
    if (wrong !== undefined)
      throw new Error(
        `output ${wrong.name} has the shape [${wrong.dims}] for a batch of ${size}: the batch must be its first dimension`,
      );
  }
  return first.map(({ name, dtype, dims }, k) => {
    const rowDims = dims.slice(1);
    const bytes = rowDims.reduce((product, dim) => product * dim, dtypes[dtype].bytes);
    const isVarying = references.some((outputs) => String(outputs[k]?.dims) !== String(dims));
    return { name, dtype, dims: rowDims, bytes, isVarying, isOpen: model.openOutputs.has(name) };
  });
}

/** Why the rows of this model must not share a run; null when they may. */
async function differenceIn(
  model: Provable,
  rows: readonly Buffer[],
  references: Alone['references'],
  oneMs: number,
  maxBatchSize: number,
  tolerance: BatchTolerance,
): Promise<string | null> {
  const again = await model.run(padded(model, [rows[0] as Buffer]));
  const scales = scalesOf(references, model.fixedBatch ?? 1);
  const compare = (outputs: readonly OutputTensor[], order: readonly number[], size: number): string | null =>
    firstDifference(outputs, order, size, references, scales, tolerance, model.fixedBatch ?? 1);
  const unsteady = compare(again, [0], model.fixedBatch ?? 1);
  if (unsteady !== null) return `${unsteady} when the same row is run alone again`;

  const random = generator(0);
  const all = model.fixedBatch === null ? [...sizes, maxBatchSize] : sizes.map(() => model.fixedBatch as number);
  const wanted = all.filter((size) => model.fixedBatch !== null || size <= maxBatchSize);
  const startedAt = performance.now();
  let rowMs = oneMs;
  for (const [i, size] of wanted.entries()) {
    if (i >= leastSizes && performance.now() - startedAt + size * rowMs > budgetMs) continue;
    const order = orderOf(size, rows.length, i, random);
    const beganAt = performance.now();
    let outputs: readonly OutputTensor[];
    try {
      outputs = await model.run(order.map((row) => rows[row] as Buffer));
    } catch (error) {
      return `a batch of ${size} fails: ${textOfThrown(error).slice(0, mostText)}`;
    }
    rowMs = (performance.now() - beganAt) / size;
    const difference = compare(outputs, order, size);
    if (difference !== null) return `${difference} in a batch of ${size}`;
  }
  return null;
}

/** The rows of a batch: never the same one in all places, and each in new places every time. */
function orderOf(size: number, rows: number, turn: number, random: () => number): readonly number[] {
  const first = Math.floor(random() * rows);
  const order = Array.from({ length: size }, (_, i) => (first + turn + i) % rows);
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j] as number, order[i] as number];
  }
  return order;
}

/** For each output, by element of a row, its largest magnitude in the references: differences are relative to it. */
function scalesOf(references: Alone['references'], size: number): readonly Float64Array[] {
  const [first] = references as [readonly OutputTensor[]];
  return first.map((_, k) => {
    const rows = references.map((outputs) => rowOf(outputs[k] as OutputTensor, 0, size));
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
  size: number,
  references: Alone['references'],
  scales: readonly Float64Array[],
  tolerance: BatchTolerance,
  aloneSize: number,
): string | null {
  for (const [k, output] of outputs.entries()) {
    const alone = (references[0] as readonly OutputTensor[])[k] as OutputTensor;
    const wanted = [size, ...alone.dims.slice(1)];
    if (output.dtype !== alone.dtype || String(output.dims) !== String(wanted))
      return `the output ${output.name} has the shape [${output.dims}], not [${wanted}],`;
    for (const [place, row] of order.entries()) {
      const reference = (references[row] as readonly OutputTensor[])[k] as OutputTensor;
      const by = rowDifference(output, place, size, reference, aloneSize, scales[k] as Float64Array, tolerance);
      if (by !== null) return `the output ${output.name} differs by ${by} from that of the row alone`;
    }
  }
  return null;
}

/** How much a row's output in a batch differs from its output alone; null when the difference is tolerated. */
function rowDifference(
  output: OutputTensor,
  place: number,
  size: number,
  reference: OutputTensor,
  aloneSize: number,
  scale: Float64Array,
  tolerance: BatchTolerance,
): string | null {
  const together = rowOf(output, place, size);
  const alone = rowOf(reference, 0, aloneSize);
  if (together.bytes.equals(alone.bytes)) return null;
  if (tolerance === 'exact') return 'some bits';
  const relative = toleratedBy(output.dtype, tolerance);
  let worst = 0;
  for (let i = 0; i < alone.length; i++) {
    const a = together.at(i);
    const b = alone.at(i);
    if (Object.is(a, b) || a === b) continue;
    const difference = Math.abs(a - b);
    // An element that is infinite or NaN in only one of the two counts as an infinite difference.
    const tolerated = relative * Math.max(Math.abs(b), scale[i] as number);
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

interface RowValues {
  readonly bytes: Buffer;
  readonly length: number;
  at(i: number): number;
}

/** One row of an output, no copy. */
function rowOf({ dtype, bytes }: OutputTensor, place: number, size: number): RowValues {
  const rowBytes = bytes.length / size;
  const begin = bytes.byteOffset + place * rowBytes;
  const length = rowBytes / dtypes[dtype].bytes;
  const values = typedView(dtype, bytes.buffer as ArrayBuffer, length, begin);
  return {
    bytes: Buffer.from(bytes.buffer, begin, rowBytes),
    length,
    at: dtype === 'float16' ? (i) => fromHalf(Number(values[i])) : (i) => Number(values[i]),
  };
}
