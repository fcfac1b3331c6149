// ONNX Runtime. A payload is one row of the batch: every input's row, in the model's order, little-endian, in the
// model's own dtype and shape without the batch dimension. A reply is every output's row likewise.
// `InferenceSession.run` blocks the calling thread as long as the model runs.
// The outputs of each run are checked against those that were proved (proof.ts): the batch is the first dimension of
// every output, and each row has the expected number of bytes.

import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { dtypes, isDtype, typedView } from '../../tensors/dtypes.js';
import type { Replies, RowSource } from '../batch.js';
import type { Model } from '../model.js';
import type { TensorOverrides } from '../overrides.js';
import type { ModelPlan, TensorPlan } from '../plan.js';
import ort from './onnx-runtime.js';
import { type OutputSpec, type OutputTensor, type ProofSettings, prove } from './proof.js';
import { describeRow, type RowSpec, rowSpec } from './tensor.js';

interface Signature {
  readonly inputs: readonly RowSpec[];
  readonly inputBytes: number;
  /** The batch size that the model requires, or null when its batch dimension is dynamic. */
  readonly fixedBatch: number | null;
}

/** How ONNX Runtime runs a model; its documentation explains each setting. */
export interface SessionSettings {
  readonly intraOpNumThreads: number;
  readonly interOpNumThreads: number;
  readonly executionProviders: readonly string[];
  readonly graphOptimizationLevel: 'disabled' | 'basic' | 'extended' | 'all';
}

/**
 * Loads a model file, or `model.onnx` in a folder, and proves that its rows may share a run; if not, each gets its own.
 * Throws an Error that says how to fix it when the file is missing or broken, when an input cannot be a row, or when
 * the batch has a fixed size and its rows are not independent.
 */
export async function loadOnnxModel(
  path: string,
  settings: SessionSettings,
  proving: ProofSettings & { readonly overrides?: TensorOverrides },
): Promise<Model> {
  const session = await ort.InferenceSession.create(modelFile(path), settings);
  try {
    return await provenModel(session, proving);
  } catch (error) {
    await session.release();
    throw error;
  }
}

async function provenModel(session: ort.InferenceSession, proving: ProofSettings): Promise<Model> {
  const signature = signatureOf(session);
  const { inputs, inputBytes, fixedBatch } = signature;
  const provable = {
    inputs,
    fixedBatch,
    openOutputs: openOutputsOf(session),
    run: async (rows: readonly Buffer[]) =>
      outputsOf(session, await session.run(feeds(signature, sourceOf(rows), 0, rows.length), quietly)),
  };
  const { outputs, runsAloneBecause, sample } = await prove(provable, proving);
  if (runsAloneBecause !== null && fixedBatch !== null)
    throw new Error(
      `its batch has a fixed size of ${fixedBatch}, and its rows are not independent: ${runsAloneBecause}; export it with a dynamic batch dimension, or with one of 1`,
    );
  return {
    inputBytes,
    outputBytes: outputs.some(({ isVarying }) => isVarying) ? null : outputs.reduce((sum, { bytes }) => sum + bytes, 0),
    fixedRows: fixedBatch,
    runsAloneBecause,
    plan: planOf(signature, outputs, runsAloneBecause),
    concurrency: 1,
    mayReplyWithInput: false,
    sample,
    description: `onnx ${inputs.map(describeRow).join(' + ')} → ${outputs.map(describeOutput).join(' + ')}`,
    run: (rows, onLot) => run(session, signature, outputs, rows, onLot),
    close: () => session.release(),
  };
}

function planOf(
  { inputs, fixedBatch }: Signature,
  outputs: readonly OutputSpec[],
  runsAloneBecause: string | null,
): ModelPlan {
  const tensor = ({ name, dtype, dims }: RowSpec): TensorPlan => ({
    name,
    dtype,
    dims: [fixedBatch ?? 'batch', ...dims],
    batchAxis: runsAloneBecause === null ? 0 : 'none',
    requestDims: [1, ...dims],
  });
  return {
    inputs: inputs.map((input) => ({ ...tensor(input), isConstant: false })),
    outputs: outputs.map((output) => ({ ...tensor(output), isReturned: true, labels: null })),
    fixedBatch,
    runsAloneBecause,
    notes: [],
  };
}

/** A run that fails during the proof is not an error: ONNX Runtime must not write it to stderr. */
const quietly = { logSeverityLevel: 4 } as const;

/** The outputs with a dimension, besides the batch, that may depend on the data, as the model does not state it. */
function openOutputsOf(session: ort.InferenceSession): ReadonlySet<string> {
  const open = session.outputMetadata.filter(
    (output) =>
      output.isTensor && (output.shape.length === 0 || output.shape.slice(1).some((dim) => typeof dim !== 'number')),
  );
  return new Set(open.map(({ name }) => name));
}

const describeOutput = (output: OutputSpec): string =>
  output.isVarying ? `${output.name} ${output.dtype}[varying]` : describeRow(output);

const sourceOf = (rows: readonly Buffer[]): Pick<RowSource, 'rows' | 'copyRow'> => ({
  rows: rows.length,
  copyRow: (i, target, at, from, length) => void rows[i]?.copy(target, at, from, from + length),
});

function modelFile(path: string): string {
  const file = existsSync(path) && statSync(path).isDirectory() ? join(path, 'model.onnx') : path;
  if (!existsSync(file)) throw new Error(`there is no model file at ${file}`);
  return file;
}

function signatureOf(session: ort.InferenceSession): Signature {
  const batchDims = new Set<number | string>();
  const inputs = session.inputMetadata.map((input) => {
    if (!input.isTensor) throw new Error(`input ${input.name} is no tensor: only tensors can be a payload`);
    if (!isDtype(input.type))
      throw new Error(
        `input ${input.name} has dtype ${input.type}: a row needs elements of a fixed size (${Object.keys(dtypes).join(', ')})`,
      );
    const [batchDim, ...dims] = input.shape;
    if (batchDim === undefined)
      throw new Error(`input ${input.name} has no batch dimension: export the model with one in front`);
    const dynamic = dims.find((dim) => typeof dim !== 'number' || dim < 1);
    if (dynamic !== undefined)
      throw new Error(
        `input ${input.name} has the dynamic dimension ${dynamic} besides the batch: export the model with a fixed one`,
      );
    batchDims.add(typeof batchDim === 'number' && batchDim > 0 ? batchDim : 'dynamic');
    return rowSpec(input.name, input.type, dims as number[]);
  });
  if (inputs.length === 0) throw new Error('the model has no input');
  if (batchDims.size > 1) throw new Error(`the inputs disagree on the batch dimension (${[...batchDims].join(', ')})`);
  const [batchDim] = batchDims;
  return {
    inputs,
    inputBytes: inputs.reduce((sum, input) => sum + input.bytes, 0),
    fixedBatch: typeof batchDim === 'number' ? batchDim : null,
  };
}

/** The outputs of a run, in the order of the model. */
function outputsOf(session: ort.InferenceSession, results: ort.InferenceSession.ReturnType): readonly OutputTensor[] {
  return session.outputNames.map((name) => {
    const { type, dims, data } = results[name] as ort.Tensor;
    if (!isDtype(type))
      throw new Error(
        `output ${name} has dtype ${type}: a reply needs elements of a fixed size (${Object.keys(dtypes).join(', ')})`,
      );
    const { buffer, byteOffset, byteLength } = data as Uint8Array;
    return { name, dtype: type, dims, bytes: new Uint8Array(buffer, byteOffset, byteLength) };
  });
}

async function run(
  session: ort.InferenceSession,
  signature: Signature,
  outputs: readonly OutputSpec[],
  batch: RowSource,
  onLot: () => void = () => {},
): Promise<Replies> {
  const step = signature.fixedBatch ?? batch.rows;
  const lots: Lot[] = [];
  for (let first = 0; first < batch.rows; first += step) {
    const rows = Math.min(step, batch.rows - first);
    const results = await session.run(feeds(signature, batch, first, rows));
    const bytes = joinOutputs(outputs, results, signature.fixedBatch ?? rows, rows);
    lots.push({ bytes, rows, rowBytes: bytes.length / rows });
    onLot();
  }
  const [{ bytes, rowBytes }] = lots as [Lot];
  if (lots.length === 1) return { kind: 'uniform', bytes, rowBytes, stride: rowBytes };
  if (lots.some((lot) => lot.rowBytes !== rowBytes)) return { kind: 'rows', rows: lots.flatMap(rowsOfLot) };
  return { kind: 'uniform', bytes: Buffer.concat(lots.map((lot) => lot.bytes)), rowBytes, stride: rowBytes };
}

/** The result of one run of the session. */
interface Lot {
  readonly bytes: Uint8Array;
  readonly rows: number;
  readonly rowBytes: number;
}

const rowsOfLot = ({ bytes, rows, rowBytes }: Lot): readonly Uint8Array[] =>
  Array.from({ length: rows }, (_, i) => bytes.subarray(i * rowBytes, (i + 1) * rowBytes));

/** Rows [first, first + rows) as tensors; a fixed batch that is not filled is padded with zeros. */
function feeds(
  signature: Signature,
  source: Pick<RowSource, 'rows' | 'copyRow' | 'packed'>,
  first: number,
  rows: number,
): Record<string, ort.Tensor> {
  const size = signature.fixedBatch ?? rows;
  const feed: Record<string, ort.Tensor> = {};
  let offset = 0;
  for (const input of signature.inputs) {
    const isPacked = source.packed !== undefined && input.bytes === signature.inputBytes && source.rows === size;
    const buffer = isPacked ? source.packed : gather(source, first, rows, size, offset, input.bytes);
    const data = typedView(input.dtype, buffer, (size * input.bytes) / dtypes[input.dtype].bytes);
    feed[input.name] = new ort.Tensor(input.dtype, data as never, [size, ...input.dims]);
    offset += input.bytes;
  }
  return feed;
}

/** Copies one input of some rows side by side: a slice of a socket's buffer is seldom aligned for its dtype. */
function gather(
  source: Pick<RowSource, 'copyRow'>,
  first: number,
  rows: number,
  size: number,
  offset: number,
  inputBytes: number,
): ArrayBuffer {
  const bytes = size === rows ? Buffer.allocUnsafeSlow(size * inputBytes) : Buffer.alloc(size * inputBytes);
  for (let i = 0; i < rows; i++) source.copyRow(first + i, bytes, i * inputBytes, offset, inputBytes);
  return bytes.buffer; // whole and at offset 0: neither allocation uses Node's pool
}

/** The first `rows` of `size` computed rows; several outputs are interleaved row by row. */
function joinOutputs(
  specs: readonly OutputSpec[],
  results: ort.InferenceSession.ReturnType,
  size: number,
  rows: number,
): Uint8Array {
  const outputs = specs.map((spec) => checkedOutput(spec, results[spec.name] as ort.Tensor, size, rows));
  const [only] = outputs;
  if (outputs.length === 1 && only !== undefined) return only.subarray(0, (only.length / size) * rows);
  const rowBytes = outputs.map((bytes) => bytes.length / size);
  const joined = new Uint8Array(rows * rowBytes.reduce((sum, bytes) => sum + bytes, 0));
  let at = 0;
  for (let i = 0; i < rows; i++) {
    outputs.forEach((bytes, k) => {
      const length = rowBytes[k] as number;
      joined.set(bytes.subarray(i * length, (i + 1) * length), at);
      at += length;
    });
  }
  return joined;
}

/**
 * Another number of rows than were asked for, or of bytes per row, would give clients the replies of others. A row that
 * is run alone may have a reply of any length if the model leaves that open.
 */
function checkedOutput(spec: OutputSpec, { dims, data }: ort.Tensor, size: number, rows: number): Uint8Array {
  const { buffer, byteOffset, byteLength } = data as Uint8Array;
  const mayDiffer = rows === 1 && (spec.isVarying || spec.isOpen);
  if (dims[0] !== size || (byteLength !== size * spec.bytes && !mayDiffer))
    throw new Error(
      `the output ${spec.name} has the shape [${dims}] for a batch of ${size}, not [${[size, ...spec.dims]}]: what belongs to which row is not known`,
    );
  return new Uint8Array(buffer, byteOffset, byteLength);
}
