// From the tensors of a request to the payloads of a model. In a payload, the inputs lie one after another, each with one
// row; in a request, each input has all of its rows:
//
//   x [2, 3]  x0 x0 x0 x1 x1 x1        payload 0   x0 x0 x0 y0
//   y [2]     y0 y1               ─▶   payload 1   x1 x1 x1 y1
//
// Where the bytes lie as they should, as with one input whose rows are its first axis, they stay where they are.

import { isUtf8 } from 'node:buffer';
import { type InferTensor, inputNamed } from '../../protocol/oip/infer.js';
import { eachPiece, resized } from '../../tensors/axis.js';
import { lengthBytes } from '../../tensors/strings.js';
import { badInput, type CheckedShapes, looksOf, type SignatureInput } from './request-check.js';

export interface RequestPayloads {
  readonly source: Buffer;
  /** One more than there are payloads: payload i is source[bounds[i], bounds[i + 1]). */
  readonly bounds: readonly number[];
}

/**
 * @param sent inputs that were checked
 * @throws CallError BAD_INPUT when their data is not what their looks say, or no valid text
 */
export function payloadsIn(
  inputs: readonly SignatureInput[],
  sent: readonly InferTensor[],
  { order, payloads }: CheckedShapes,
): RequestPayloads {
  const [only] = inputs;
  if (inputs.length === 1 && only !== undefined && (payloads === 1 || only.rowAxis === 0))
    return viewed(only, sent[0] as InferTensor, payloads);
  const fields = inputs.map((input, k) => fieldOf(input, sent[order[k] as number] as InferTensor, payloads));
  return gathered(fields, payloads);
}

/** The payloads are the rows of the input, as they lie in it. */
function viewed({ elementBytes }: SignatureInput, tensor: InferTensor, payloads: number): RequestPayloads {
  const { start, end } = tensor;
  const source = bufferOf(tensor.source);
  if (elementBytes > 0) checkSize(tensor, elementBytes);
  // A push to `[start]` would allocate room for seventeen.
  if (elementBytes > 0 && payloads === 1) return { source, bounds: [start, end] };
  const bounds = [start];
  if (elementBytes > 0) {
    const rowBytes = (end - start) / payloads;
    for (let i = 1; i <= payloads; i++) bounds.push(start + i * rowBytes);
  } else {
    const ends = endsOfTexts(tensor, source);
    const elements = tensor.spec.elements / payloads;
    for (let i = 1; i <= payloads; i++) bounds.push(ends[i * elements] as number);
  }
  return { source, bounds };
}

/** An input of a request that has to be moved. */
interface Field {
  readonly source: Buffer;
  readonly start: number;
  readonly end: number;
  readonly shape: readonly number[];
  /** -1: each payload has the whole of it. */
  readonly rowAxis: number;
  readonly elementBytes: number;
  /** Where each element begins, and the last one ends; empty for numbers. */
  readonly ends: readonly number[];
}

function fieldOf({ rowAxis, elementBytes }: SignatureInput, tensor: InferTensor, payloads: number): Field {
  const { spec, start, end } = tensor;
  const source = bufferOf(tensor.source);
  if (elementBytes > 0) checkSize(tensor, elementBytes);
  const ends = elementBytes > 0 ? noEnds : endsOfTexts(tensor, source);
  return { source, start, end, shape: spec.shape, rowAxis: payloads === 1 ? -1 : rowAxis, elementBytes, ends };
}

const noEnds: readonly number[] = [];

function gathered(fields: readonly Field[], payloads: number): RequestPayloads {
  let bytes = 0;
  for (const { start, end, rowAxis } of fields) bytes += (end - start) * (rowAxis < 0 ? payloads : 1);
  const target = Buffer.allocUnsafe(bytes);
  const bounds = [0];
  let at = 0;
  for (let row = 0; row < payloads; row++) {
    for (const field of fields) at = copyRow(field, row, payloads, target, at);
    bounds.push(at);
  }
  return { source: target, bounds };
}

/** Copies one row of an input to `at`, and returns where it ends there. */
function copyRow(field: Field, row: number, rows: number, target: Buffer, at: number): number {
  const { source, start, end, shape, rowAxis, elementBytes, ends } = field;
  if (rowAxis < 0) return at + source.copy(target, at, start, end);
  if (rowAxis === 0 && elementBytes > 0) {
    const rowBytes = (end - start) / rows;
    return at + source.copy(target, at, start + row * rowBytes, start + (row + 1) * rowBytes);
  }
  const origin = shape.map((_, axis) => (axis === rowAxis ? row : 0));
  eachPiece(resized(shape, rowAxis, 1), shape, origin, (_, from, length) => {
    const begin = elementBytes > 0 ? start + from * elementBytes : (ends[from] as number);
    const stop = elementBytes > 0 ? begin + length * elementBytes : (ends[from + length] as number);
    at += source.copy(target, at, begin, stop);
  });
  return at;
}

function checkSize({ spec, start, end }: InferTensor, elementBytes: number): void {
  const bytes = spec.elements * elementBytes;
  if (end - start !== bytes)
    throw badInput(`${inputNamed(spec.name)} should have ${bytes} bytes for ${looksOf(spec)}, and has ${end - start}`);
}

/** Where each text begins with its length, and where the last one ends. */
export function endsOfTexts({ spec, start, end }: InferTensor, source: Buffer): readonly number[] {
  const ends = [start];
  let at = start;
  for (let i = 0; i < spec.elements; i++) {
    const begin = at + lengthBytes;
    at = begin <= end ? begin + source.readUInt32LE(at) : begin;
    if (at > end) break;
    const text = source.subarray(begin, at);
    if (text.includes(0))
      throw badInput(
        `element ${i} of ${inputNamed(spec.name)} should be a text without NUL, and has one at ${text.indexOf(0)}: the model would not see what is behind it`,
      );
    if (!isUtf8(text)) throw badInput(`element ${i} of ${inputNamed(spec.name)} should be UTF-8, and is not`);
    ends.push(at);
  }
  if (at !== end || ends.length !== spec.elements + 1)
    throw badInput(
      `${inputNamed(spec.name)} should have ${spec.elements} strings for ${looksOf(spec)}, each behind its length in 4 bytes, and has not`,
    );
  return ends;
}

export const bufferOf = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
