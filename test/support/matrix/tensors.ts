// Tensors of a request or an answer as tests hold them, and as bytes of a payload. Written from what the README says of
// payloads, not with the server's own code.

import type { ElementType } from '../onnx-writer.js';

export interface Tensor {
  readonly dtype: ElementType;
  readonly dims: readonly number[];
  /** Little-endian, in C order; texts for strings. */
  readonly data: Buffer | readonly string[];
}

/** By the names of inputs, with every input of the model. */
export type Tensors = Readonly<Record<string, Tensor>>;

/** A number from 0 to 1, the next one in a sequence that `seed` determines. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export const sizeOf = (dims: readonly number[]): number => dims.reduce((product, dim) => product * dim, 1);

const arrays = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  bool: Uint8Array,
} as const;
const wideArrays = { int64: BigInt64Array, uint64: BigUint64Array } as const;

/** A tensor whose element i has the value `at(i)`; of float16, the 16 bits. */
export function tensor(dtype: ElementType, dims: readonly number[], at: (i: number) => number | string): Tensor {
  const count = sizeOf(dims);
  if (dtype === 'string') return { dtype, dims, data: Array.from({ length: count }, (_, i) => String(at(i))) };
  const values = typedArray(dtype, Buffer.alloc(count * elementBytes(dtype)));
  for (let i = 0; i < count; i++)
    values[i] = values instanceof BigInt64Array || values instanceof BigUint64Array ? BigInt(at(i)) : Number(at(i));
  return { dtype, dims, data: Buffer.from(values.buffer, values.byteOffset, values.byteLength) };
}

/** Numbers from -1 to 1. */
export const noise = (dims: readonly number[], random: () => number, scale = 1): Tensor =>
  tensor('float32', dims, () => scale * (2 * random() - 1));

/** Whole numbers from 0 to `below`, without it. */
export const integers = (dtype: ElementType, dims: readonly number[], random: () => number, below: number): Tensor =>
  tensor(dtype, dims, () => Math.floor(random() * below));

/** As part of a payload or a reply: a text is its length as a little-endian u32, then its UTF-8. */
export function bytesOf({ data }: Tensor): Buffer {
  if (Buffer.isBuffer(data)) return data;
  return Buffer.concat(
    data.flatMap((text) => {
      const bytes = Buffer.from(text);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.length);
      return [length, bytes];
    }),
  );
}

/** The elements as ONNX Runtime takes them: a copy, which begins where the type can. */
export function typedArray(dtype: Exclude<ElementType, 'string'>, data: Buffer) {
  const { buffer } = new Uint8Array(data);
  return dtype === 'int64' || dtype === 'uint64' ? new wideArrays[dtype](buffer) : new arrays[dtype](buffer);
}

const elementBytes = (dtype: Exclude<ElementType, 'string'>): number =>
  dtype === 'int64' || dtype === 'uint64' ? 8 : arrays[dtype].BYTES_PER_ELEMENT;

/** The elements, to compare them with tolerance; null for texts. */
export function numbersOf({ dtype, data }: Tensor): readonly number[] | null {
  if (!Buffer.isBuffer(data) || dtype === 'string') return null;
  const values = Array.from<number | bigint, number>(typedArray(dtype, data), Number);
  return dtype === 'float16' ? values.map(fromHalf) : values;
}

/** IEEE 754 binary16. */
function fromHalf(bits: number): number {
  const sign = bits >> 15 === 0 ? 1 : -1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
