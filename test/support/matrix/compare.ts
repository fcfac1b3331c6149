// Compares a reply with what a model answers to that request alone.

import { bytesOf, numbersOf, type Tensor } from './tensors.js';

/**
 * How much a reply may differ: not by a bit, or by this share of a number's size. Then a number counts as no smaller
 * than a hundredth of its tensor's mean, since rounding grows with the terms of a sum and not with its result.
 */
export type Tolerance = 'exact' | number;

/** How far a reply is from the answer: 0 when no bit differs; or why it is wrong. */
export type Difference = number | string;

/** @param answer the outputs of the model, in the order in which a reply holds them */
export function differenceOf(reply: Buffer, answer: readonly Tensor[], tolerance: Tolerance): Difference {
  const expected = Buffer.concat(answer.map(bytesOf));
  if (reply.equals(expected)) return 0;
  if (reply.length === 0) return 'it was refused or failed';
  if (reply.length !== expected.length) return `it has ${reply.length} bytes, not ${expected.length}`;
  let at = 0;
  let most = 0;
  for (const [k, output] of answer.entries()) {
    const { length } = bytesOf(output);
    const part = reply.subarray(at, at + length);
    at += length;
    const differs = relativeDifference({ ...output, data: part }, output);
    if (tolerance === 'exact' ? differs > 0 : differs > toleratedBy(output, tolerance))
      return `output ${k} differs by ${differs.toPrecision(3)} of its size`;
    most = Math.max(most, differs);
  }
  return most;
}

/** Integers, booleans and texts must be equal; the last bits of a float16 may differ. */
function toleratedBy({ dtype }: Tensor, tolerance: number): number {
  if (dtype === 'float32' || dtype === 'float64') return tolerance;
  return dtype === 'float16' ? Math.max(tolerance, 2 ** -8) : 0;
}

function relativeDifference(actual: Tensor, expected: Tensor): number {
  if (bytesOf(expected).equals(actual.data as Buffer)) return 0;
  const a = numbersOf(actual);
  const b = expected.dtype === 'string' ? null : numbersOf(expected);
  if (a === null || b === null) return Number.POSITIVE_INFINITY;
  const least = b.reduce((sum, value) => sum + (Number.isFinite(value) ? Math.abs(value) / b.length : 0), 0) / 100;
  // Two NaN, or two zeros, that differ in bits: least of all differences, yet one.
  let most = Number.MIN_VALUE;
  for (const [i, value] of b.entries()) {
    const other = a[i] as number;
    if (value === other || (Number.isNaN(value) && Number.isNaN(other))) continue;
    const differs = Math.abs(value - other) / Math.max(Math.abs(value), least);
    most = Math.max(most, Number.isNaN(differs) ? Number.POSITIVE_INFINITY : differs);
  }
  return most;
}
