// Where the rows of a batch lie until the model has run: copied out of the chunks that sockets read into, which are
// used again for the next read. So a worker holds what it was asked, and nothing that came with it.
//
// Rows of one size lie side by side, as a tensor wants them. Rows of any size are copied together, a stretch of a chunk
// at a time, with the length fields that are between them: one copy for a read, however many frames are in it.

/** Bytes of the rows of one batch. */
export interface Rows {
  readonly count: number;
  /** Adds `source[start, end)`, which must not change before the next `keep`. */
  add(source: Buffer, start: number, end: number): void;
  /** Whatever was added is the batch's own from here on. */
  keep(): void;
  /** Row `i` as a view, no copy. */
  payload(i: number): Buffer;
  /** Copies bytes [from, from + length) of row `i` to `target` at `at`. */
  copyRow(i: number, target: Uint8Array, at: number, from: number, length: number): void;
  /** All rows side by side, from the first byte on, where they have one size. */
  readonly packed: ArrayBuffer | undefined;
  /** What rows of the next batch may need, to be reserved with its first one. */
  readonly size: number;
}

/** @param rowBytes bytes of every row, or null when rows differ; `expected`: the size of the batch before this one */
export function createRows(rowBytes: number | null, expected: number): Rows {
  return rowBytes === null ? new MixedRows(expected) : new EvenRows(rowBytes, expected);
}

const nothing: Buffer<ArrayBuffer> = Buffer.allocUnsafeSlow(0);

/** Capacity doubles, so that many small additions cost no more than one large one. */
function grown(bytes: Buffer, used: number, needed: number, expected: number): Buffer<ArrayBuffer> {
  const larger = Buffer.allocUnsafeSlow(Math.max(needed, used === 0 ? expected : 2 * bytes.length));
  if (used > 0) bytes.copy(larger, 0, 0, used);
  return larger;
}

class EvenRows implements Rows {
  count = 0;
  readonly #rowBytes: number;
  readonly #expected: number;
  #bytes = nothing;

  constructor(rowBytes: number, expected: number) {
    this.#rowBytes = rowBytes;
    this.#expected = expected;
  }

  add(source: Buffer, start: number, end: number): void {
    const at = this.count++ * this.#rowBytes;
    const length = at + this.#rowBytes;
    if (length > this.#bytes.length) this.#bytes = grown(this.#bytes, at, length, this.#expected);
    source.copy(this.#bytes, at, start, end);
  }

  keep(): void {}

  payload(i: number): Buffer {
    const begin = this.#begin(i);
    return this.#bytes.subarray(begin, begin + this.#rowBytes);
  }

  copyRow(i: number, target: Uint8Array, at: number, from: number, length: number): void {
    const begin = this.#begin(i) + from;
    this.#bytes.copy(target, at, begin, begin + length);
  }

  get packed(): ArrayBuffer {
    return this.#bytes.buffer;
  }

  get size(): number {
    return this.count * this.#rowBytes;
  }

  #begin(i: number): number {
    if (i < 0 || i >= this.count) throw new RangeError(`a batch of ${this.count} rows has no row ${i}`);
    return i * this.#rowBytes;
  }
}

class MixedRows implements Rows {
  readonly packed = undefined;
  readonly #expected: number;
  #bytes = nothing;
  #size = 0;
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  /** A stretch that is not copied yet: it begins here, and will lie behind what has been. */
  #source: Buffer = nothing;
  #from = 0;
  #to = 0;

  constructor(expected: number) {
    this.#expected = expected;
  }

  get count(): number {
    return this.#starts.length;
  }

  get size(): number {
    return this.#size;
  }

  add(source: Buffer, start: number, end: number): void {
    if (source !== this.#source) {
      this.keep();
      this.#source = source;
      this.#from = start;
    }
    const shift = this.#size - this.#from;
    this.#to = end;
    this.#starts.push(start + shift);
    this.#ends.push(end + shift);
  }

  keep(): void {
    const length = this.#size + this.#to - this.#from;
    if (length > this.#bytes.length) this.#bytes = grown(this.#bytes, this.#size, length, this.#expected);
    this.#source.copy(this.#bytes, this.#size, this.#from, this.#to);
    this.#size = length;
    this.#source = nothing;
    this.#from = this.#to = 0;
  }

  payload(i: number): Buffer {
    return this.#bytes.subarray(this.#begin(i), this.#ends[i]);
  }

  copyRow(i: number, target: Uint8Array, at: number, from: number, length: number): void {
    const begin = this.#begin(i) + from;
    this.#bytes.copy(target, at, begin, begin + length);
  }

  #begin(i: number): number {
    const start = this.#starts[i];
    if (start === undefined) throw new RangeError(`a batch of ${this.count} rows has no row ${i}`);
    return start;
  }
}
