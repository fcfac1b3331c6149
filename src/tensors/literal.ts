// A tensor written down in config: a number, a text, or lists of them.

import { elementsIn, type Tensor } from './axis.js';
import { type Dtype, dtypes, typedView } from './dtypes.js';

/** A number, a text, or lists of them as deep as the tensor has dimensions. */
export type Literal = number | string | boolean | readonly Literal[];

type Scalar = Exclude<Literal, readonly Literal[]>;

/** The shape of nested lists; [] for a value that is no list. Throws Error when they are ragged. */
export function shapeOf(literal: Literal): readonly number[] {
  if (!isList(literal)) return [];
  const [first, ...rest] = literal.map(shapeOf);
  const ragged = rest.find((shape) => String(shape) !== String(first));
  if (ragged !== undefined) throw new Error(`its lists differ in length: [${first}] and [${ragged}]`);
  return [literal.length, ...(first ?? [])];
}

/**
 * @param dims of the tensor; a value that is no list fills it
 * @throws Error that says which value does not fit the dtype, or that the shape is another
 */
export function tensorOf(literal: Literal, dtype: Dtype | 'string', dims: readonly number[]): Tensor {
  const elements = elementsIn(dims);
  if (isList(literal) && String(shapeOf(literal)) !== String(dims))
    throw new Error(`it has the shape [${shapeOf(literal)}], not [${dims}]`);
  const scalars = scalarsOf(literal);
  if (dtype === 'string') {
    const texts = scalars.map(textOf);
    return { dtype, dims, data: isList(literal) ? texts : new Array<string>(elements).fill(texts[0] as string) };
  }
  const data = new Uint8Array(elements * dtypes[dtype].bytes);
  const view = typedView(dtype, data.buffer, elements);
  const values = scalars.map((scalar) => elementOf(scalar, dtype));
  if (isList(literal)) for (const [i, value] of values.entries()) view[i] = value as never;
  else view.fill(values[0] as never);
  return { dtype, dims, data };
}

const isList = (literal: Literal): literal is readonly Literal[] => Array.isArray(literal);

function scalarsOf(literal: Literal): readonly Scalar[] {
  return isList(literal) ? literal.flatMap(scalarsOf) : [literal];
}

function textOf(scalar: Scalar): string {
  if (typeof scalar !== 'string') throw new Error(`${scalar} is no text`);
  if (scalar.includes('\0')) throw new Error('a text must not have a NUL in it');
  return scalar;
}

const ranges: Partial<Record<Dtype, readonly [bigint, bigint]>> = {
  int8: signed(8),
  int16: signed(16),
  int32: signed(32),
  int64: signed(64),
  uint8: unsigned(8),
  uint16: unsigned(16),
  uint32: unsigned(32),
  uint64: unsigned(64),
  bool: [0n, 1n],
};

function signed(bits: number): readonly [bigint, bigint] {
  return [-(2n ** BigInt(bits - 1)), 2n ** BigInt(bits - 1) - 1n];
}

function unsigned(bits: number): readonly [bigint, bigint] {
  return [0n, 2n ** BigInt(bits) - 1n];
}

/** As its typed array takes it. A text may write a number that JSON cannot: 9007199254740993, NaN, -Infinity. */
function elementOf(scalar: Scalar, dtype: Dtype): number | bigint {
  const wrong = (): Error => new Error(`${JSON.stringify(scalar).slice(0, 50)} is no ${dtype}`);
  const range = ranges[dtype];
  if (range === undefined) {
    if (typeof scalar === 'boolean' || scalar === '') throw wrong();
    const number = Number(scalar);
    if (Number.isNaN(number) && scalar !== 'NaN') throw wrong();
    return dtype === 'float16' ? nearestHalf(number) : number;
  }
  const isWhole = typeof scalar === 'string' ? /^[+-]?\d{1,20}$/.test(scalar) : Number.isSafeInteger(Number(scalar));
  if (!isWhole || (typeof scalar === 'boolean' && dtype !== 'bool')) throw wrong();
  const whole = BigInt(scalar);
  if (whole < range[0] || whole > range[1]) throw wrong();
  return dtype === 'int64' || dtype === 'uint64' ? whole : Number(whole);
}

/** The 16 bits of the IEEE 754 half that is nearest to a number; of two, the one with an even fraction. */
export function nearestHalf(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size >= 65520) return sign | 0x7c00;
  // Below 2^-14, all halves are multiples of 2^-24.
  const exponent = Math.max(-14, Math.floor(Math.log2(size)));
  const fraction = size / 2 ** (exponent - 10);
  const floor = Math.floor(fraction);
  const rest = fraction - floor;
  const rounded = rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
  // A fraction that is rounded up to 2048 carries into the exponent; below 1024 there is none (subnormal).
  return sign | (((exponent + 14) << 10) + rounded);
}
