// Opens a model file for ONNX Runtime: looks at what it declares, takes ZipMap out, and refuses what the runtime cannot
// serve with a message that names the tensor or the file, and says what mends it. The runtime's own messages name
// neither.

import { statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { FileBytes, MalformedFile } from './bytes.js';
import { classesOf } from './classes.js';
import { explain, short } from './explain.js';
import { isOrtFormat, lookOf } from './look.js';
import type { Label } from './nodes.js';
import { type ModelDescription, readModel } from './read.js';
import { type DeclaredValue, describeType, mendFor } from './types.js';
import { isOfMaps, NotByZipMap, takeOutZipMaps } from './zip-map.js';

export interface ModelFile {
  /** What InferenceSession.create loads: the path, or the bytes of a model that was changed. */
  readonly source: string | Uint8Array;
  /**
   * What the model declares, in its order; null when the file does not tell (the runtime's own format). What an exporter
   * declares of an output need not be true: LightGBM's labels are declared as [1], and are [N].
   */
  readonly declared: { readonly inputs: readonly DeclaredValue[]; readonly outputs: readonly DeclaredValue[] } | null;
  /** By output: the classes that its columns stand for. */
  readonly labels: ReadonlyMap<string, readonly Label[]>;
  /** What was changed, a sentence each. */
  readonly notes: readonly string[];
  /** What a failure to load the file means, with what mends it. */
  explain(error: unknown): Error;
}

export interface OpenOptions {
  /** The outputs that a reply has; null: all. Others may be of any type that the runtime can leave aside. */
  readonly returned?: ReadonlySet<string> | null;
  /** A file whose ZipMap is taken out is in memory once more while it is loaded. */
  readonly maxChangedBytes?: number;
}

/** The largest message of protobuf is 2 GB; forests of 1 GB are rare. */
const defaultMaxChangedBytes = 1 << 30;

/** Throws Error that says how to fix it. Reads little of a large file, unless a ZipMap has to be taken out. */
export function openModelFile(path: string, options: OpenOptions = {}): ModelFile {
  if (!statSync(path).isFile()) throw new Error(`${path} is no file`);
  const source = new FileBytes(path);
  try {
    return open(path, source, options);
  } catch (error) {
    if (error instanceof MalformedFile) throw malformed(path, error, source.length);
    throw error;
  } finally {
    source.close();
  }
}

function open(path: string, source: FileBytes, options: OpenOptions): ModelFile {
  const look = lookOf(source);
  if (look !== null) throw new Error(`${path} is no ONNX model but ${look.what}: ${look.mend}`);
  if (isOrtFormat(source)) return { ...plain(path), declared: null };
  const model = readModel(source);
  refuseMissingData(path, model);
  refuseTypes(model.inputs, 'input');
  refuseTypes(
    model.outputs.filter((output) => !isOfMaps(output) && !mayBeLeft(output, options.returned)),
    'output',
  );
  const maps = model.outputs.filter((output) => isOfMaps(output) && !mayBeLeft(output, options.returned));
  if (maps.length > 0) return withoutZipMap(path, source, model, maps, options);
  return { ...plain(path), declared: model, labels: classesOf(source, model) };
}

const plain = (path: string): Omit<ModelFile, 'declared'> => ({
  source: path,
  labels: new Map(),
  notes: [],
  explain: (error) => explain(error, path),
});

/** A value that is no tensor may be left aside; the runtime refuses a model with a tensor that it cannot pass. */
const mayBeLeft = ({ name, type }: DeclaredValue, returned: ReadonlySet<string> | null | undefined): boolean =>
  returned !== null && returned !== undefined && !returned.has(name) && type.kind !== 'tensor';

function refuseTypes(values: readonly DeclaredValue[], direction: 'input' | 'output'): void {
  for (const { name, type } of values) {
    const mend = mendFor(type, direction);
    if (mend !== null)
      throw new Error(
        `the ${direction} ${short(name)} is ${describeType(type)}, which ONNX Runtime for Node.js cannot ${direction === 'input' ? 'take' : 'return'}: ${mend}`,
      );
  }
}

function withoutZipMap(
  path: string,
  source: FileBytes,
  model: ModelDescription,
  maps: readonly DeclaredValue[],
  { maxChangedBytes = defaultMaxChangedBytes }: OpenOptions,
): ModelFile {
  const [first] = maps as [DeclaredValue];
  const refused = (why: string): Error =>
    new Error(
      `the output ${short(first.name)} is a map from class to probability for each row, which ONNX Runtime for Node.js cannot return, and it cannot be turned into a tensor here, as ${why}: ${zipMapMend(model.producer)}`,
    );
  if (model.externalData.length > 0) throw refused('the model keeps its weights in other files');
  if (source.length > maxChangedBytes) throw refused(`the file is larger than ${maxChangedBytes} bytes`);
  try {
    const { bytes, outputs, labels } = takeOutZipMaps(source, model, maps);
    return {
      ...plain(path),
      source: bytes,
      declared: { inputs: model.inputs, outputs },
      labels: new Map([...classesOf(source, model), ...labels]),
      notes: [...labels].map(([output, classes]) => noteOf(output, classes)),
    };
  } catch (error) {
    if (error instanceof NotByZipMap) throw refused(error.message);
    throw error;
  }
}

/** The most classes that a note lists. */
const mostListed = 20;

function noteOf(output: string, labels: readonly Label[]): string {
  const listed = labels.slice(0, mostListed).map((label) => short(String(label)));
  const more = labels.length > mostListed ? `, and ${labels.length - mostListed} more` : '';
  return `the output ${short(output)} is the tensor of probabilities below ZipMap, in place of its maps; its columns are the classes ${listed.join(', ')}${more}`;
}

/** The line of Python that exports such a model without maps. */
export function zipMapMend(producer: string): string {
  if (/skl2onnx/i.test(producer))
    return "export it without ZipMap: `skl2onnx.to_onnx(model, X[:1], options={id(model): {'zipmap': False}})`";
  if (/onnxmltools/i.test(producer))
    return 'export it without ZipMap: `onnxmltools.convert_lightgbm(model, initial_types=…, zipmap=False)`';
  return `take ZipMap out of the file: \`${zipMapRemoval}\``;
}

/** Takes each ZipMap in front of an output out of model.onnx, with the package onnx. */
export const zipMapRemoval = `python3 -c 'import onnx; m = onnx.load("model.onnx"); g = m.graph
for z in [n for n in g.node if n.op_type == "ZipMap"]:
  [o] = [o for o in g.output if o.name == z.output[0]]
  o.CopyFrom(onnx.helper.make_tensor_value_info(z.input[0], onnx.TensorProto.FLOAT, [None, None])); g.node.remove(z)
onnx.save(m, "model.onnx")'`;

function refuseMissingData(path: string, { externalData }: ModelDescription): void {
  const folder = dirname(path);
  for (const { location, bytes } of externalData) {
    const file = resolve(folder, location);
    const size = location.includes('\0') ? undefined : statSync(file, { throwIfNoEntry: false })?.size;
    if (size === undefined)
      throw new Error(
        `${path} keeps weights in the file ${short(location)}, and there is none at ${short(file)}: put it there, under this name`,
      );
    if (size < bytes)
      throw new Error(
        `${short(file)} has ${size} bytes, and ${path} keeps weights in its first ${bytes}: it is not complete, or of another export; copy both files again`,
      );
  }
}

function malformed(path: string, { message }: MalformedFile, length: number): Error {
  return new Error(
    `${path} is no ONNX model, or not a complete one (${length} bytes): ${message}; copy, download or export it again`,
  );
}
