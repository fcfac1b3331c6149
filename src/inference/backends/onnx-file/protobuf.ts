// The wire format of Protocol Buffers, as far as ONNX uses it: reading fields without what they contain, and writing
// them. The bytes are not trusted: every length is checked against the message around it.
// https://protobuf.dev/programming-guides/encoding/

import { type ByteSource, MalformedFile } from './bytes.js';

/** A field of a message, by where it lies. */
export interface Field {
  readonly number: number;
  readonly kind: 'varint' | 'bytes' | 'fixed';
  /** Of a varint; a bigint where a number would not be exact. */
  readonly value: number | bigint;
  /** Where the field begins, with its tag. */
  readonly start: number;
  /** Where its content begins: behind tag and length. */
  readonly from: number;
  readonly to: number;
}

/** Bytes [from, to) of a source. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

const fixedBytes: Readonly<Record<number, number>> = { 1: 8, 5: 4 };

/** The fields of a message, in their order. Throws MalformedFile. */
export function* fieldsOf(source: ByteSource, { from, to }: Span): Generator<Field> {
  for (let start = from; start < to; ) {
    const tag = varintAt(source, start, to);
    const number = Math.floor(Number(tag.value) / 8);
    const wireType = Number(tag.value) % 8;
    if (number < 1 || number > 0x1fffffff) throw new MalformedFile(`byte ${start} begins no field`);
    const field = fieldAt(source, start, tag.end, to, number, wireType);
    yield field;
    start = field.to;
  }
}

function fieldAt(source: ByteSource, start: number, at: number, to: number, number: number, wireType: number): Field {
  if (wireType === 0) {
    const { value, end } = varintAt(source, at, to);
    return { number, kind: 'varint', value, start, from: at, to: end };
  }
  if (wireType === 2) {
    const { value, end } = varintAt(source, at, to);
    const length = Number(value);
    if (length < 0 || length > to - end)
      throw new MalformedFile(`${length} bytes should follow byte ${end}, and only ${to - end} do`);
    return { number, kind: 'bytes', value: length, start, from: end, to: end + length };
  }
  const length = fixedBytes[wireType];
  if (length === undefined) throw new MalformedFile(`byte ${start} begins no field`);
  if (length > to - at) throw new MalformedFile(`${length} bytes should follow byte ${at}, and only ${to - at} do`);
  return { number, kind: 'fixed', value: 0, start, from: at, to: at + length };
}

/** Seven bytes hold 49 bits, which a number can. */
const exactBytes = 7;

/** As a signed integer of 64 bits. */
function varintAt(source: ByteSource, from: number, to: number): { value: number | bigint; end: number } {
  let value = 0;
  let scale = 1;
  for (let at = from; at < to && at < from + exactBytes; at++) {
    const byte = source.byteAt(at);
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return { value, end: at + 1 };
    scale *= 0x80;
  }
  let large = BigInt(value);
  for (let at = from + exactBytes; at < to && at < from + 10; at++) {
    const byte = source.byteAt(at);
    large |= BigInt(byte & 0x7f) << BigInt(7 * (at - from));
    if (byte >= 0x80) continue;
    const signed = BigInt.asIntN(64, large);
    const isExact = signed >= Number.MIN_SAFE_INTEGER && signed <= Number.MAX_SAFE_INTEGER;
    return { value: isExact ? Number(signed) : signed, end: at + 1 };
  }
  throw new MalformedFile(to - from < 10 ? `it ends within a number at byte ${from}` : `byte ${from} begins no number`);
}

/** The varints of a repeated field, packed or one by one. */
export function* varintsOf(source: ByteSource, field: Field): Generator<number | bigint> {
  if (field.kind === 'varint') yield field.value;
  if (field.kind !== 'bytes') return;
  for (let at = field.from; at < field.to; ) {
    const { value, end } = varintAt(source, at, field.to);
    yield value;
    at = end;
  }
}

/** A text or bytes longer than this is no name. */
const maxTextBytes = 64 << 10;

/** Throws MalformedFile when it is longer than a name can be. */
export function textOf(source: ByteSource, { from, to }: Span): string {
  if (to - from > maxTextBytes) throw new MalformedFile(`a name has ${to - from} bytes`);
  return source.copy(from, to).toString('utf8');
}

export const message = (...fields: readonly Uint8Array[]): Buffer => Buffer.concat(fields);

/** A field with a varint (not negative), a text, or bytes. */
export function field(number: number, value: number | string | Uint8Array): Buffer {
  if (typeof value === 'number') return Buffer.concat([varint(number * 8), varint(value)]);
  const bytes = typeof value === 'string' ? Buffer.from(value) : value;
  return Buffer.concat([header(number, bytes.length), bytes]);
}

/** What begins a field of `length` bytes. */
export const header = (number: number, length: number): Buffer =>
  Buffer.concat([varint(number * 8 + 2), varint(length)]);

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 0x80)) {
    if (rest < 0x80) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 0x80) | 0x80);
  }
}
