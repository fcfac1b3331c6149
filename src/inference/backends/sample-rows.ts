// Rows that look like data, to try a model with; they are the same at each start. Rows of zeros would hide most effects
// of rows on one another, and rows of 0 and 1 are so unlike data that rounding errors grow by a factor of ten thousand
// in some models (magika's: 7e-3, against 4e-7 on bytes).

import { type Dtype, dtypes, typedView } from '../../tensors/dtypes.js';
import type { RowSpec } from './tensor.js';

/**
 * How far the values of an input reach. `data`: floats around 0, integers from 0 to 255 (to 127 for int8). `wide`: like
 * `data`, but the floats of every second row are between 0 and 255, like raw pixels. `far`: like `wide`, with floats a
 * hundred times as large. Integers may be indices into a smaller table: then `few` (0 to 15) or `bits` (0 and 1) are
 * tried. Floats are between 0 and 1 in both.
 */
export type Reach = 'far' | 'wide' | 'data' | 'few' | 'bits' | 'zeros';

/** From the farthest on; `far` is for models that give equal answers to all other rows. */
export const reaches: readonly Reach[] = ['far', 'wide', 'data', 'few', 'bits', 'zeros'];

const largest: Readonly<Record<Reach, number>> = { far: 255, wide: 255, data: 255, few: 15, bits: 1, zeros: 0 };

/** Rows also differ in magnitude, like loud and quiet sounds: this reveals a scale that is taken from a whole batch. */
const scales = [1, 0.3, 2.5, 0.7] as const;

/**
 * Row number `index`: the rows of all inputs, one after another.
 * @param reachOf the reach of each input, in order
 */
export function sampleRow(inputs: readonly RowSpec[], reachOf: readonly Reach[], index: number): Buffer {
  const random = generator(index + 1);
  return Buffer.concat(inputs.map((input, k) => inputRow(input, reachOf[k] ?? 'zeros', random, index)));
}

function inputRow({ dtype, bytes }: RowSpec, reach: Reach, random: () => number, index: number): Buffer {
  const row = Buffer.alloc(bytes);
  if (reach === 'zeros') return row;
  const elements = bytes / dtypes[dtype].bytes;
  const values = typedView(dtype, row.buffer as ArrayBuffer, elements, row.byteOffset);
  const next = drawn(dtype, reach, random, index);
  for (let i = 0; i < elements; i++) values[i] = next() as never;
  return row;
}

function drawn(dtype: Dtype, reach: Reach, random: () => number, index: number): () => number | bigint {
  const float = drawnFloat(reach, random, index);
  const whole = (most: number) => Math.floor(random() * (most + 1));
  switch (dtype) {
    case 'float32':
    case 'float64':
      return float;
    case 'float16':
      return () => halfOf(float());
    case 'bool':
      return () => whole(1);
    case 'int64':
    case 'uint64':
      return () => BigInt(whole(largest[reach]));
    case 'int8':
      return () => whole(Math.min(largest[reach], 127));
    default:
      return () => whole(largest[reach]);
  }
}

function drawnFloat(reach: Reach, random: () => number, index: number): () => number {
  if (reach === 'few' || reach === 'bits') return random;
  if (reach === 'data') return () => normal(random) * (scales[index % scales.length] as number);
  const size = reach === 'far' ? 100 : 1;
  if (index % 2 === 1) return () => random() * 255 * size;
  const scale = (scales[(index / 2) % scales.length] as number) * size;
  return () => normal(random) * scale;
}

/** Mulberry32: uniform in [0, 1), the same for the same seed on every machine. */
export function generator(seed: number): () => number {
  let state = Math.imul(seed, 0x9e3779b1);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Normally distributed, with mean 0 and deviation 1 (Box and Muller). */
function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** The 16 bits of a number as IEEE 754 half, rounded towards 0; too small becomes 0, too large becomes 65504. */
export function halfOf(value: number): number {
  const sign = value < 0 ? 0x8000 : 0;
  const size = Math.min(Math.abs(value), 65504);
  if (size < 2 ** -14) return sign;
  const exponent = Math.floor(Math.log2(size));
  return sign | ((exponent + 15) << 10) | Math.floor((size / 2 ** exponent - 1) * 1024);
}

/** The number that 16 bits represent as IEEE 754 half. */
export function fromHalf(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size =
    exponent === 31
      ? fraction === 0
        ? Number.POSITIVE_INFINITY
        : Number.NaN
      : exponent === 0
        ? fraction * 2 ** -24
        : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -size : size;
}
