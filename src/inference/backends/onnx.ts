// ONNX Runtime: loads a model file, finds how its requests may share a run and proves it (find-plan.ts), and serves what
// was found in one of two forms.
//
//   every tensor is rows of a fixed size, batch in front ─▶ rows, joined and cut as bytes (here: the quickest way)
//   all else: dynamic dimensions, other axes, strings …  ─▶ tensors (tensor-model.ts)
//
// A payload is the inputs of one request, in the model's order, little-endian, in the model's own dtypes; a reply is its
// outputs likewise. `InferenceSession.run` blocks the calling thread as long as the model runs. The outputs of each run
// are checked against what was proved: another shape would give clients the replies of others.

import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Tensor } from '../../tensors/axis.js';
import { type Dtype, dtypes, isDtype, typedView } from '../../tensors/dtypes.js';
import type { Replies, ReplyDims, RowSource } from '../batch.js';
import type { KnownModel, Model } from '../model.js';
import { noOverrides, type TensorOverrides } from '../overrides.js';
import type { ModelPlan, TensorPlan } from '../plan.js';
import { findPlan } from './find-plan.js';
import { holdsText } from './onnx-file/bytes.js';
import { type ModelFile, openModelFile } from './onnx-file/open.js';
import ort from './onnx-runtime.js';
import { noteOfPad, provePad } from './pad.js';
import type { OutputTensor, ProofSettings } from './proof.js';
import { payloadOf } from './samples.js';
import { signatureOf, type TensorMetadata } from './signature.js';
import { describeRow, type RowSpec, rowSpec } from './tensor.js';
import { type TensorModelOptions, tensorModel } from './tensor-model.js';
import type { Runnable } from './trials.js';

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
  readonly enableCpuMemArena: boolean;
  readonly enableMemPattern: boolean;
}

export interface LoadSettings extends ProofSettings {
  readonly overrides?: TensorOverrides;
  /** What is known of this very file: it is not proved again. */
  readonly known?: KnownModel | null;
}

/**
 * Loads a model file, or `model.onnx` in a folder, and proves that its rows may share a run; if not, each gets its own.
 * Throws an Error that says how to fix it when the file is missing or broken, when an input cannot be a row, or when
 * the batch has a fixed size and its rows are not independent.
 */
export async function loadOnnxModel(path: string, settings: SessionSettings, proving: LoadSettings): Promise<Model> {
  const pathOfFile = modelFile(path);
  const file = openModelFile(pathOfFile);
  const session = await createSession(file, settings);
  try {
    // Names of operators are plain text in the file.
    const hasBatchScale = () => holdsText(pathOfFile, 'DynamicQuantizeLinear');
    return await provenModel(session, { ...file, hasBatchScale }, proving);
  } catch (error) {
    await session.release();
    throw error;
  }
}

async function createSession({ source, explain }: ModelFile, settings: SessionSettings): Promise<ort.InferenceSession> {
  const { InferenceSession } = ort;
  try {
    return await (typeof source === 'string'
      ? InferenceSession.create(source, settings)
      : InferenceSession.create(source, settings));
  } catch (error) {
    throw explain(error);
  }
}

async function provenModel(
  session: ort.InferenceSession,
  file: FileFacts,
  { known = null, overrides = noOverrides, ...proving }: LoadSettings,
): Promise<Model> {
  const { pad } = overrides;
  overrides = withMask(overrides);
  const signature = signatureOf(
    session.inputMetadata as readonly TensorMetadata[],
    session.outputMetadata as readonly TensorMetadata[],
    overrides,
  );
  const fetches = signature.outputs.filter(({ isReturned }) => isReturned).map(({ name }) => name);
  const run: Runnable['run'] = async (inputs) => tensorsOf(await session.run(tensorFeeds(inputs), fetches), fetches);
  const constants = new Map<string, Tensor>();
  for (const { name, constant } of signature.inputs) if (constant !== null) constants.set(name, constant);
  const { maxBatchSize } = proving;
  const options = { constants, maxBatchSize, pad, run, close: () => session.release() };
  const { plan, sample } = known ?? (await prove({ ...signature, run }, file, options, overrides, proving));
  const payload = sample === null ? null : Buffer.from(sample.buffer, sample.byteOffset, sample.byteLength);
  const rows = pad === null ? rowsIn(plan, openOutputsOf(session)) : null;
  if (rows !== null) return rowModel(session, rows, plan, payload);
  return tensorModel({ ...options, plan, sample: payload });
}

type FileFacts = Pick<ModelFile, 'labels' | 'notes'> & Pick<Runnable, 'hasBatchScale'>;

/** Finds the plan of a model, and proves it. */
async function prove(
  model: Omit<Runnable, 'hasBatchScale'>,
  { hasBatchScale, labels, notes }: FileFacts,
  options: Omit<TensorModelOptions, 'plan' | 'sample'>,
  overrides: TensorOverrides,
  settings: ProofSettings,
): Promise<KnownModel> {
  const found = await findPlan({ ...model, hasBatchScale }, overrides, settings);
  const plan: ModelPlan = {
    ...found.plan,
    outputs: found.plan.outputs.map((output) => ({ ...output, labels: labels.get(output.name) ?? null })),
    notes: [...found.plan.notes, ...notes],
  };
  const sample = found.sample === null ? null : payloadOf(found.sample);
  const { pad = null } = options;
  if (pad === null) return { plan, sample };
  const { reachOf } = found;
  await provePad({ options: { ...options, plan, sample, pad }, reachOf, tolerance: settings.tolerance });
  return { plan: { ...plan, notes: [...plan.notes, noteOfPad(pad)] }, sample };
}

/** The mask of a request that is not padded is 1 everywhere. */
function withMask(overrides: TensorOverrides): TensorOverrides {
  const { pad, constants } = overrides;
  if (pad?.mask === undefined) return overrides;
  if (Object.hasOwn(constants, pad.mask))
    throw new Error(`pad.mask: ${pad.mask} has a value in constants too: leave one of the two out`);
  return { ...overrides, constants: { ...constants, [pad.mask]: 1 } };
}

function rowModel(
  session: ort.InferenceSession,
  { signature, outputs }: RowForm,
  plan: ModelPlan,
  sample: Buffer | null,
): Model {
  const mayDiffer = outputs.some(({ isVarying, isOpen }) => isVarying || isOpen);
  return {
    inputBytes: signature.inputBytes,
    outputBytes: outputs.some(({ isVarying }) => isVarying) ? null : outputs.reduce((sum, { bytes }) => sum + bytes, 0),
    fixedRows: signature.fixedBatch,
    runsAloneBecause: null,
    plan,
    concurrency: 1,
    mayReplyWithInput: false,
    sample,
    description: `onnx ${signature.inputs.map(describeRow).join(' + ')} → ${outputs.map(describeOutput).join(' + ')}`,
    run: (rows, onLot) => run(session, signature, outputs, mayDiffer, rows, onLot),
    close: () => session.release(),
  };
}

interface OutputSpec extends RowSpec {
  /** Whether its dimensions differ from row to row: then each row is a run of its own. */
  readonly isVarying: boolean;
  /** Whether the model leaves a dimension besides the batch open: it may differ for rows that were not tried. */
  readonly isOpen: boolean;
}

interface RowForm {
  readonly signature: Signature;
  readonly outputs: readonly OutputSpec[];
}

/** The plan as rows of a fixed size; null when requests are anything else. */
function rowsIn(
  { inputs, outputs, fixedBatch, runsAloneBecause }: ModelPlan,
  openOutputs: ReadonlySet<string>,
): RowForm | null {
  const isRow = ({ dtype, batchAxis, requestDims }: TensorPlan): boolean =>
    dtype !== 'string' && batchAxis === 0 && requestDims[0] === 1;
  const isFixed = ({ requestDims }: TensorPlan): boolean => requestDims.every((dim) => typeof dim === 'number');
  const areRows =
    runsAloneBecause === null &&
    inputs.every((input) => isRow(input) && isFixed(input)) &&
    outputs.every((output) => isRow(output) && output.isReturned && (isFixed(output) || fixedBatch === 1));
  if (!areRows) return null;
  const spec = ({ name, dtype, requestDims }: TensorPlan): RowSpec =>
    rowSpec(
      name,
      dtype as Dtype,
      requestDims.slice(1).map((dim) => (typeof dim === 'number' ? dim : 0)),
    );
  const specs = inputs.map(spec);
  const inputBytes = specs.reduce((sum, { bytes }) => sum + bytes, 0);
  return {
    signature: { inputs: specs, inputBytes, fixedBatch },
    outputs: outputs.map((output) => ({
      ...spec(output),
      isVarying: !isFixed(output),
      isOpen: openOutputs.has(output.name),
    })),
  };
}

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

function tensorFeeds(inputs: Readonly<Record<string, Tensor>>): Record<string, ort.Tensor> {
  const feeds: Record<string, ort.Tensor> = {};
  for (const [name, { dtype, dims, data }] of Object.entries(inputs)) feeds[name] = ortTensor(dtype, dims, data);
  return feeds;
}

function ortTensor(dtype: Tensor['dtype'], dims: readonly number[], data: Tensor['data']): ort.Tensor {
  if (dtype === 'string') return new ort.Tensor('string', data as string[], dims);
  const { buffer, byteOffset, byteLength } = data as Uint8Array<ArrayBuffer>;
  return new ort.Tensor(dtype, typedView(dtype, buffer, byteLength / dtypes[dtype].bytes, byteOffset) as never, dims);
}

/** The outputs of a run, in the order of the model. */
function tensorsOf(results: ort.InferenceSession.ReturnType, names: readonly string[]): readonly OutputTensor[] {
  return names.map((name) => {
    const { type, dims, data } = results[name] as ort.Tensor;
    if (type === 'string') return { name, dtype: 'string', dims, data: data as string[] };
    if (!isDtype(type)) throw new Error(`the output ${name} has the dtype ${type}, which cannot be a reply`);
    const { buffer, byteOffset, byteLength } = data as Uint8Array<ArrayBuffer>;
    return { name, dtype: type, dims, data: new Uint8Array(buffer, byteOffset, byteLength) };
  });
}

function modelFile(path: string): string {
  const file = existsSync(path) && statSync(path).isDirectory() ? join(path, 'model.onnx') : path;
  if (!existsSync(file)) throw new Error(`there is no model file at ${file}`);
  return file;
}

async function run(
  session: ort.InferenceSession,
  signature: Signature,
  outputs: readonly OutputSpec[],
  mayDiffer: boolean,
  batch: RowSource,
  onLot: () => void = () => {},
): Promise<Replies> {
  const step = signature.fixedBatch ?? batch.rows;
  const lots: Lot[] = [];
  for (let first = 0; first < batch.rows; first += step) {
    const rows = Math.min(step, batch.rows - first);
    const results = await session.run(feeds(signature, batch, first, rows));
    const bytes = joinOutputs(outputs, results, signature.fixedBatch ?? rows, rows);
    const dims = mayDiffer && rows === 1 ? openDims(outputs, results) : null;
    lots.push({ bytes, rows, rowBytes: bytes.length / rows, dims });
    onLot();
  }
  const [{ bytes, rowBytes, dims }] = lots as [Lot];
  if (lots.length === 1) {
    const replies = { kind: 'uniform', bytes, rowBytes, stride: rowBytes } as const;
    return dims === null ? replies : { ...replies, dims };
  }
  if (lots.some((lot) => lot.dims !== null))
    return { kind: 'rows', rows: lots.flatMap(rowsOfLot), dims: lots.flatMap(dimsOfLot) };
  if (lots.some((lot) => lot.rowBytes !== rowBytes)) return { kind: 'rows', rows: lots.flatMap(rowsOfLot) };
  return { kind: 'uniform', bytes: Buffer.concat(lots.map((lot) => lot.bytes)), rowBytes, stride: rowBytes };
}

/** The result of one run of the session. */
interface Lot {
  readonly bytes: Uint8Array;
  readonly rows: number;
  readonly rowBytes: number;
  /** Of its only row; null where the plan tells them. */
  readonly dims: ReplyDims | null;
}

const dimsOfLot = ({ dims, rows }: Lot): readonly (ReplyDims | null)[] => new Array<ReplyDims | null>(rows).fill(dims);

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

/** The dimensions of the outputs of a row that was run alone, where one of them has others than the plan tells. */
function openDims(specs: readonly OutputSpec[], results: ort.InferenceSession.ReturnType): ReplyDims | null {
  const rowDims = ({ name }: OutputSpec): readonly number[] => (results[name] as ort.Tensor).dims.slice(1);
  const differs = (spec: OutputSpec): boolean =>
    spec.isVarying || (spec.isOpen && String(rowDims(spec)) !== String(spec.dims));
  return specs.some(differs) ? specs.map((spec) => [1, ...rowDims(spec)]) : null;
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
