// Inputs that look like data, to try a model with; they are the same at each start. Zeros would hide most effects of
// requests on one another, and numbers that are all 0 or 1 are so unlike data that rounding errors grow by a factor of
// ten thousand in some models (magika's: 7e-3, against 4e-7 on bytes).

import { elementsIn, type Tensor } from '../../tensors/axis.js';
import { type Dtype, dtypes, typedView } from '../../tensors/dtypes.js';
import { encodeStrings } from '../../tensors/strings.js';

/**
 * How far the values of an input reach. `data`: floats around 0, integers from 0 to 255 (to 127 for int8). `wide`: like
 * `data`, but the floats of every second request are between 0 and 255, like raw pixels. `far`: like `wide`, with floats
 * a hundred times as large. Integers may be indices into a smaller table: then `few` (0 to 15) or `bits` (0 and 1) are
 * tried. Floats are between 0 and 1 in both. A number: that is the value of all elements.
 */
export type Reach = 'far' | 'wide' | 'data' | 'few' | 'bits' | number;

/** From the farthest on; `far` is for models that give equal answers to all other requests. */
export const reaches: readonly Reach[] = ['far', 'wide', 'data', 'few', 'bits', 1, 0];

/** What single integers often are: a mode, a count, a sample rate. */
export const usualNumbers = [0, 1, 2, 8000, 16_000] as const;

const largest = { far: 255, wide: 255, data: 255, few: 15, bits: 1 } as const;

/** Requests also differ in magnitude, like loud and quiet sounds: this reveals a scale that is taken from a whole batch. */
const scales = [1, 0.3, 2.5, 0.7] as const;

/** Texts that a model may have categories for. */
const words = ['a', 'b', 'yes', 'no', 'red', 'blue', 'male', 'female', 'cat', 'dog', '1', '2', 'hello world', 'ÿ €'];

/** What a tensor of an input looks like. */
export interface Shaped {
  readonly dtype: Dtype | 'string';
  readonly dims: readonly number[];
}

/**
 * Request number `index`: a tensor for each input.
 * @param reachOf the reach of each input, in order
 */
export function sampleRequest(inputs: readonly Shaped[], reachOf: readonly Reach[], index: number): readonly Tensor[] {
  const random = generator(index + 1);
  return inputs.map((input, k) => sampleTensor(input, reachOf[k] ?? 0, random, index));
}

/** The tensors of a request as its payload. */
export const payloadOf = (request: readonly Tensor[]): Buffer =>
  Buffer.concat(
    request.map(({ dtype, data }) => (dtype === 'string' ? encodeStrings(data as string[]) : data) as Uint8Array),
  );

function sampleTensor({ dtype, dims }: Shaped, reach: Reach, random: () => number, index: number): Tensor {
  const elements = elementsIn(dims);
  if (dtype === 'string') {
    const word = (): string => (reach === 0 ? '' : (words[Math.floor(random() * words.length)] as string));
    return { dtype, dims, data: Array.from({ length: elements }, word) };
  }
  const data = new Uint8Array(elements * dtypes[dtype].bytes);
  const values = typedView(dtype, data.buffer, elements);
  const next = typeof reach === 'number' ? () => numberAs(dtype, reach) : drawn(dtype, reach, random, index);
  if (reach !== 0) for (let i = 0; i < elements; i++) values[i] = next() as never;
  return { dtype, dims, data };
}

function numberAs(dtype: Dtype, value: number): number | bigint {
  if (dtype === 'int64' || dtype === 'uint64') return BigInt(value);
  return dtype === 'float16' ? halfOf(value) : dtype === 'bool' ? Number(value !== 0) : value;
}

function drawn(
  dtype: Dtype,
  reach: Exclude<Reach, number>,
  random: () => number,
  index: number,
): () => number | bigint {
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

function drawnFloat(reach: Exclude<Reach, number>, random: () => number, index: number): () => number {
  if (reach === 'few' || reach === 'bits') return random;
  if (reach === 'data') return scaled(normals(random), scales[index % scales.length] as number);
  const size = reach === 'far' ? 100 : 1;
  if (index % 2 === 1) return () => random() * 255 * size;
  return scaled(normals(random), (scales[(index / 2) % scales.length] as number) * size);
}

const scaled =
  (next: () => number, scale: number): (() => number) =>
  () =>
    next() * scale;

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

/** Normally distributed, with mean 0 and deviation 1: two of two uniform ones (Box and Muller). */
function normals(random: () => number): () => number {
  let next: number | null = null;
  return () => {
    if (next !== null) {
      const value = next;
      next = null;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - random()));
    const angle = 2 * Math.PI * random();
    next = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
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
