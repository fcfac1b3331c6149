// Strings as they travel: each is its length in bytes, a little-endian unsigned integer of 32 bits, then its UTF-8
// bytes, as BYTES in the Open Inference Protocol. ONNX Runtime cuts a string at a NUL and takes nothing that is no
// UTF-8: neither is valid.

import { isUtf8 } from 'node:buffer';

export const lengthBytes = 4;

/** Where the string that begins at `at` ends; -1 when it is not valid, or does not end by `end`. */
export function stringEnd(source: Buffer, at: number, end: number): number {
  const begin = at + lengthBytes;
  if (begin > end) return -1;
  const stop = begin + source.readUInt32LE(at);
  if (stop > end) return -1;
  const bytes = source.subarray(begin, stop);
  return bytes.includes(0) || !isUtf8(bytes) ? -1 : stop;
}

/** `count` strings that begin at `at`, one after the other; they must be valid. */
export function readStrings(source: Buffer, at: number, count: number): string[] {
  const strings = new Array<string>(count);
  for (let i = 0; i < count; i++) {
    const begin = at + lengthBytes;
    at = begin + source.readUInt32LE(at);
    strings[i] = source.toString('utf8', begin, at);
  }
  return strings;
}

export function encodeStrings(strings: readonly string[]): Buffer {
  const lengths = strings.map((text) => Buffer.byteLength(text));
  const bytes = Buffer.allocUnsafe(lengths.reduce((sum, length) => sum + lengthBytes + length, 0));
  let at = 0;
  for (const [i, text] of strings.entries()) {
    const length = lengths[i] as number;
    bytes.writeUInt32LE(length, at);
    bytes.write(text, at + lengthBytes, length);
    at += lengthBytes + length;
  }
  return bytes;
}
