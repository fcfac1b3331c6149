// What a file that is no ONNX model looks like, by its first bytes. People name the wrong file, or a download or a
// checkout has put something else in its place.

import type { ByteSource } from './bytes.js';

/** What it is, and what mends that. */
export interface Look {
  readonly what: string;
  readonly mend: string;
}

const exportFromTorch = 'export the model in Python: `torch.onnx.export(model, args, "model.onnx")`';
const exportFromTensorFlow = 'convert it with tf2onnx: `python -m tf2onnx.convert …`';
const unpack = 'unpack it, and name the .onnx file inside';

interface Signature extends Look {
  readonly at?: number;
  readonly bytes: string | readonly number[];
}

/** The first that fits counts. */
const signatures: readonly Signature[] = [
  {
    bytes: 'version https://git-lfs.github.com/spec/',
    what: 'a pointer of Git LFS, in place of the file itself',
    mend: 'fetch the file: `git lfs pull`',
  },
  {
    bytes: 'CBM1',
    what: 'a CatBoost model',
    mend: 'export it in Python: `model.save_model("model.onnx", format="onnx")`',
  },
  { bytes: 'tree\n', what: 'a LightGBM model', mend: 'export it in Python: `onnxmltools.convert_lightgbm(…)`' },
  { bytes: 'GGUF', what: 'a GGUF file', mend: exportFromTorch },
  { bytes: [0x89, 0x48, 0x44, 0x46], what: 'an HDF5 file (a Keras model, most often)', mend: exportFromTensorFlow },
  { bytes: [0x1f, 0x8b], what: 'a gzip file', mend: 'unpack it (`gunzip`, or `tar -xzf` for a .tar.gz)' },
  { bytes: 'BZh', what: 'a bzip2 file', mend: unpack },
  { bytes: [0xfd, 0x37, 0x7a, 0x58, 0x5a], what: 'an xz file', mend: unpack },
  { bytes: [0x28, 0xb5, 0x2f, 0xfd], what: 'a zstd file', mend: unpack },
  { bytes: [0x80, 0x02], what: 'a Python pickle (of PyTorch or joblib, most often)', mend: exportFromTorch },
  { bytes: [0x80, 0x03], what: 'a Python pickle (of PyTorch or joblib, most often)', mend: exportFromTorch },
  {
    bytes: [0x80, 0x04],
    what: 'a Python pickle (of scikit-learn or joblib, most often)',
    mend: 'export the model in Python: `skl2onnx.to_onnx(model, X[:1])`',
  },
  {
    bytes: [0x80, 0x05],
    what: 'a Python pickle (of scikit-learn or joblib, most often)',
    mend: 'export the model in Python: `skl2onnx.to_onnx(model, X[:1])`',
  },
  {
    at: 4,
    bytes: 'TFL3',
    what: 'a TensorFlow Lite model',
    mend: 'convert it with tf2onnx: `python -m tf2onnx.convert --tflite …`',
  },
  { at: 257, bytes: 'ustar', what: 'a tar archive', mend: unpack },
];

/** Null when it may be an ONNX model. */
export function lookOf(source: ByteSource): Look | null {
  if (source.length === 0) return { what: 'empty', mend: 'copy or download it again' };
  const head = source.copy(0, Math.min(source.length, 512));
  return (
    signatures.find(({ at = 0, bytes }) => isAt(head, at, bytes)) ??
    zipLook(head) ??
    safetensorsLook(head) ??
    textLook(head)
  );
}

/** ONNX Runtime's own format (.ort): it has other fields, and the runtime reads it as it is. */
export const isOrtFormat = (source: ByteSource): boolean => source.length >= 8 && isAt(source.copy(0, 8), 4, 'ORTM');

function isAt(head: Buffer, at: number, bytes: string | readonly number[]): boolean {
  const wanted = typeof bytes === 'string' ? Buffer.from(bytes) : Buffer.from(bytes);
  return head.subarray(at, at + wanted.length).equals(wanted);
}

function zipLook(head: Buffer): Look | null {
  if (!isAt(head, 0, 'PK')) return null;
  // The name of the first entry follows the 30 bytes before it.
  const name = head.toString('latin1', 30, 30 + (head.length > 28 ? head.readUInt16LE(26) : 0));
  return /\/(data\.pkl|version|byteorder|\.format_version)$/.test(name)
    ? { what: 'a PyTorch file (.pt)', mend: exportFromTorch }
    : { what: 'a zip archive', mend: unpack };
}

/** A length of 8 bytes, then JSON. */
function safetensorsLook(head: Buffer): Look | null {
  if (head.length < 10 || !isAt(head, 8, '{"') || head.readUInt32LE(4) !== 0) return null;
  return { what: 'a safetensors file: weights without a graph', mend: exportFromTorch };
}

function textLook(head: Buffer): Look | null {
  const text = head.toString('latin1').trimStart().toLowerCase();
  if (/^(<!doctype html|<html|<head)/.test(text))
    return { what: 'a web page, most often of an error', mend: 'download the file itself' };
  if (text.startsWith('<?xml') || text.startsWith('<net'))
    return { what: 'XML (an OpenVINO model, or an error of a store)', mend: 'name the .onnx file' };
  if (text.startsWith('{'))
    return { what: 'JSON (an XGBoost model, or an error of a store)', mend: 'export or download the .onnx file' };
  return null;
}
