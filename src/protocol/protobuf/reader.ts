// Reads the wire format of Protocol Buffers, field by field, without copying and without allocating: a message inside
// of a message is read by moving `end`. No length is trusted: each is compared with what is left of the message around
// it. https://protobuf.dev/programming-guides/encoding/
//
//   reader.open(source, start, end);
//   while (reader.next()) {
//     if (reader.field === 1) name = reader.text();
//     else if (reader.field === 2) {
//       const outer = reader.enter();
//       while (reader.next()) …
//       reader.end = outer;
//     } else reader.skip();
//   }

import { isUtf8 } from 'node:buffer';
import { InvalidMessage } from '../invalid-message.js';

export const wireTypes = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

/** Up to here, putting characters together is quicker than the call into native code. */
const shortText = 16;
const nothing: Buffer = Buffer.alloc(0);

export class WireReader {
  source: Buffer = nothing;
  at = 0;
  /** Of the message that is being read. */
  end = 0;
  /** After `next`: the number of the field, and how it is encoded. */
  field = 0;
  wireType = 0;
  /** After `varint64`: the halves, as signed integers of 32 bits. */
  low = 0;
  high = 0;
  #start = 0;

  /** Begins with the message `source[start, end)`. */
  open(source: Buffer, start: number, end: number): void {
    this.source = source;
    this.at = this.#start = start;
    this.end = end;
  }

  /** Goes to a part of the message, as if it were one. */
  goTo(start: number, end: number): void {
    this.at = start;
    this.end = end;
  }

  /** Moves to the next field; its content must then be read, or skipped. False at the end of the message. */
  next(): boolean {
    const { at } = this;
    if (at >= this.end) return false;
    const byte = this.source[at] as number;
    if (byte < 0x80) {
      this.at = at + 1;
      this.field = byte >>> 3;
      this.wireType = byte & 7;
    } else {
      this.varint64();
      if (this.high !== 0) this.#fail('no field has this number', at);
      this.field = this.low >>> 3;
      this.wireType = this.low & 7;
    }
    if (this.field === 0) this.#fail('no field has the number 0', at);
    return true;
  }

  /** A varint of 64 bits, into `low` and `high`. */
  varint64(): void {
    const { source, end } = this;
    const from = this.at;
    let { at } = this;
    let low = 0;
    let high = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (at >= end) this.#fail('it ends within a number', from);
      const byte = source[at++] as number;
      if (shift < 28) low |= (byte & 0x7f) << shift;
      else if (shift === 28) {
        low |= (byte & 0x7f) << 28;
        high = (byte & 0x7f) >>> 4;
      } else high |= (byte & 0x7f) << (shift - 32);
      if (byte >= 0x80) continue;
      this.low = low;
      this.high = high;
      this.at = at;
      return;
    }
    this.#fail('a number has more than 10 bytes', from);
  }

  /** A varint of 64 bits as a number: a bigint where a number would not be exact. */
  integer(isSigned: boolean): number | bigint {
    this.varint64();
    const high = isSigned ? this.high : this.high >>> 0;
    const low = this.low >>> 0;
    if (high <= 0x1f_ffff && high > -0x20_0000) return high * 0x1_0000_0000 + low;
    return BigInt(high) * 0x1_0000_0000n + BigInt(low);
  }

  /** Reads the length of a text, of bytes or of a message, and moves to its first byte. */
  length(): number {
    this.expect(wireTypes.bytes);
    const { at } = this;
    let length = at < this.end ? (this.source[at] as number) : 0x80;
    if (length < 0x80) this.at = at + 1;
    else {
      this.varint64();
      length = (this.high >>> 0) * 0x1_0000_0000 + (this.low >>> 0);
    }
    this.#check(length);
    return length;
  }

  /** Begins with a message that this field is. @returns the end of the message around it, to set `end` to */
  enter(): number {
    const length = this.length();
    const outer = this.end;
    this.end = this.at + length;
    return outer;
  }

  text(): string {
    return this.textOf(this.length());
  }

  /** A text whose length was read. */
  textOf(length: number): string {
    const from = this.at;
    const to = from + length;
    this.at = to;
    const { source } = this;
    if (length <= shortText) {
      let text = '';
      let at = from;
      for (; at < to; at++) {
        const byte = source[at] as number;
        if (byte >= 0x80) break;
        text += String.fromCharCode(byte);
      }
      if (at === to) return text;
    }
    if (!isUtf8(source.subarray(from, to))) this.#fail('a text is not UTF-8', from);
    return source.toString('utf8', from, to);
  }

  skip(): void {
    switch (this.wireType) {
      case wireTypes.varint:
        this.varint64();
        return;
      case wireTypes.fixed64:
        this.move(8);
        return;
      case wireTypes.bytes:
        this.move(this.length());
        return;
      case wireTypes.fixed32:
        this.move(4);
        return;
      default:
        this.fail('a field is a group, or nothing known');
    }
  }

  /** Moves over bytes of the message. */
  move(bytes: number): void {
    this.#check(bytes);
    this.at += bytes;
  }

  #check(bytes: number): void {
    const left = this.end - this.at;
    if (bytes > left) this.#fail(`${bytes} bytes should follow, and there are ${left}`, this.at);
  }

  /** Throws unless the field is encoded like this. */
  expect(wireType: number): void {
    if (this.wireType !== wireType) this.fail(`field ${this.field} has wire type ${this.wireType}, not ${wireType}`);
  }

  fail(what: string): never {
    return this.#fail(what, this.at);
  }

  #fail(what: string, at: number): never {
    throw new InvalidMessage(`${what} (byte ${at - this.#start} of the message)`);
  }
}
