// Bytes that are read piece by piece: a model file may be larger than memory, and little of it says what the model is.

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

/** A file that is not what it should be, or ends too early. */
export class MalformedFile extends Error {}

/** Where a reader of protobuf takes its bytes from. */
export interface ByteSource {
  readonly length: number;
  /** Throws MalformedFile beyond the end. */
  byteAt(offset: number): number;
  /** A copy of these bytes. Throws MalformedFile beyond the end. */
  copy(from: number, to: number): Buffer;
  /** Puts bytes [from, to) at `at` of the target. Throws MalformedFile beyond the end. */
  copyInto(target: Uint8Array, at: number, span: { readonly from: number; readonly to: number }): void;
}

/** What a walk reads at once; larger pieces would be read in vain where it skips weights. */
const pageBytes = 16 << 10;

/** A file, of which one page is in memory. Reads are synchronous: those of a walk lie close together. */
export class FileBytes implements ByteSource {
  readonly length: number;
  /** Bytes that were read from the file in all. */
  bytesRead = 0;
  readonly #descriptor: number;
  #page: Buffer = Buffer.alloc(0);
  #pageAt = 0;

  constructor(path: string) {
    this.#descriptor = openSync(path, 'r');
    this.length = fstatSync(this.#descriptor).size;
  }

  byteAt(offset: number): number {
    const inPage = offset - this.#pageAt;
    if (inPage >= 0 && inPage < this.#page.length) return this.#page[inPage] as number;
    if (offset >= this.length) throw new MalformedFile(`it ends at byte ${this.length}`);
    this.#turnTo(offset);
    return this.#page[0] as number;
  }

  #turnTo(offset: number): void {
    const page = Buffer.allocUnsafeSlow(Math.min(pageBytes, this.length - offset));
    this.#read(page, 0, offset, page.length);
    this.#page = page;
    this.#pageAt = offset;
  }

  copy(from: number, to: number): Buffer {
    this.#check(from, to);
    const bytes = Buffer.allocUnsafeSlow(to - from);
    if (from < to) this.copyInto(bytes, 0, { from, to });
    return bytes;
  }

  copyInto(target: Uint8Array, at: number, { from, to }: { readonly from: number; readonly to: number }): void {
    this.#check(from, to);
    if (to - from > pageBytes) {
      this.#read(target, at, from, to - from);
      return;
    }
    if (from < this.#pageAt || to > this.#pageAt + this.#page.length) this.#turnTo(from);
    this.#page.copy(target, at, from - this.#pageAt, to - this.#pageAt);
  }

  #check(from: number, to: number): void {
    if (from > to || to > this.length) throw new MalformedFile(`it ends at byte ${this.length}`);
  }

  #read(target: Uint8Array, at: number, from: number, length: number): void {
    for (let done = 0; done < length; ) {
      const read = readSync(this.#descriptor, target, at + done, length - done, from + done);
      if (read === 0) throw new MalformedFile('it was made shorter while it was read');
      done += read;
      this.bytesRead += read;
    }
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

/** What a search reads at once. */
const pieceBytes = 1 << 20;

/** Whether a file holds this text anywhere. @param text of ASCII */
export function holdsText(path: string, text: string): boolean {
  const source = new FileBytes(path);
  try {
    // The pieces overlap, so that a text which lies across two of them is whole in one.
    for (let from = 0; from < source.length; from += pieceBytes) {
      const to = Math.min(source.length, from + pieceBytes + text.length - 1);
      if (source.copy(from, to).includes(text)) return true;
    }
    return false;
  } finally {
    source.close();
  }
}
