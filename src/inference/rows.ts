// Keeps the rows of a batch until the model has run. They are copied out of the chunks that sockets read into, since
// the next read overwrites those. So a worker holds only the requests, and not the chunks that they came in.
//
// Rows of one size lie side by side, as a tensor needs them. Rows of various sizes are copied together, a stretch of a
// chunk at a time, with the length fields between them: one copy per read, however many frames it has.

/** Bytes of the rows of one batch. */
export interface Rows {
  readonly count: number;
  /** Adds `source[start, end)`, which must not change before the next `retain`. */
  add(source: Buffer, start: number, end: number): void;
  /** Copies what was added, where that is still to be done: its source may change from then on. */
  retain(): void;
  /** Adds rows [first, first + count) of others of the same kind, which are retained, in one copy. */
  append(others: Rows, first: number, count: number): void;
  /** Row `i` as a view, no copy. */
  payload(i: number): Buffer;
  /** Copies bytes [from, from + length) of row `i` to `target` at `at`. */
  copyRow(i: number, target: Uint8Array, at: number, from: number, length: number): void;
  /** All rows side by side, from the first byte on, if they have one size. */
  readonly packed: ArrayBuffer | undefined;
  /** Bytes that the rows take. */
  readonly size: number;
  /** Hands over the memory of rows of one size: they cannot be read before it is given back. Null: they have many. */
  lend(): ArrayBuffer | null;
  giveBack(lent: ArrayBuffer): void;
  /** The memory that holds them. */
  readonly memory: Memory;
}

export type Memory = Buffer<ArrayBuffer>;

/**
 * @param rowBytes bytes of every row, or null when rows differ
 * @param memory holds the rows as long as it is large enough
 */
export function createRows(rowBytes: number | null, memory: Memory): Rows {
  return rowBytes === null ? new MixedRows(memory) : new EvenRows(rowBytes, memory);
}

export const noMemory: Memory = Buffer.allocUnsafeSlow(0);

/** Doubles the capacity, so that many small additions cost no more than one large one. */
function grown(memory: Memory, used: number, needed: number): Memory {
  const larger = Buffer.allocUnsafeSlow(Math.max(needed, 2 * memory.length));
  memory.copy(larger, 0, 0, used);
  return larger;
}

class EvenRows implements Rows {
  count = 0;
  readonly #rowBytes: number;
  #memory: Memory;

  constructor(rowBytes: number, memory: Memory) {
    this.#rowBytes = rowBytes;
    this.#memory = memory;
  }

  get memory(): Memory {
    return this.#memory;
  }

  add(source: Buffer, start: number, end: number): void {
    const at = this.count++ * this.#rowBytes;
    const length = at + this.#rowBytes;
    if (length > this.#memory.length) this.#memory = grown(this.#memory, at, length);
    source.copy(this.#memory, at, start, end);
  }

  retain(): void {}

  append({ memory }: Rows, first: number, count: number): void {
    const at = this.size;
    const length = at + count * this.#rowBytes;
    if (length > this.#memory.length) this.#memory = grown(this.#memory, at, length);
    memory.copy(this.#memory, at, first * this.#rowBytes, (first + count) * this.#rowBytes);
    this.count += count;
  }

  payload(i: number): Buffer {
    const begin = this.#begin(i);
    return this.#memory.subarray(begin, begin + this.#rowBytes);
  }

  copyRow(i: number, target: Uint8Array, at: number, from: number, length: number): void {
    const begin = this.#begin(i) + from;
    this.#memory.copy(target, at, begin, begin + length);
  }

  get packed(): ArrayBuffer {
    return this.#memory.buffer;
  }

  lend(): ArrayBuffer | null {
    const { buffer } = this.#memory;
    if (buffer.byteLength === 0) return null; // several batches may have it
    this.#memory = noMemory;
    return buffer;
  }

  giveBack(lent: ArrayBuffer): void {
    this.#memory = Buffer.from(lent);
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
  #memory: Memory;
  #size = 0;
  /** Where each row starts and ends: two elements a row. */
  #bounds: number[] = [];
  /** The stretch that is not copied yet; it will lie behind the bytes already copied. */
  #source: Buffer = noMemory;
  #from = 0;
  #to = 0;

  constructor(memory: Memory) {
    this.#memory = memory;
  }

  get memory(): Memory {
    return this.#memory;
  }

  get count(): number {
    return this.#bounds.length / 2;
  }

  get size(): number {
    return this.#size;
  }

  add(source: Buffer, start: number, end: number): void {
    if (source !== this.#source) {
      this.retain();
      this.#source = source;
      this.#from = start;
    }
    const shift = this.#size - this.#from;
    this.#to = end;
    // Most batches of a calm server have one row: a push to an empty array allocates room for seventeen elements.
    if (this.#bounds.length > 0) this.#bounds.push(start + shift, end + shift);
    else this.#bounds = [start + shift, end + shift];
  }

  retain(): void {
    const length = this.#size + this.#to - this.#from;
    if (length > this.#memory.length) this.#memory = grown(this.#memory, this.#size, length);
    this.#source.copy(this.#memory, this.#size, this.#from, this.#to);
    this.#size = length;
    this.#source = noMemory;
    this.#from = this.#to = 0;
  }

  append(others: MixedRows, first: number, count: number): void {
    this.retain();
    const from = others.#begin(first);
    const to = others.#bounds[2 * (first + count) - 1] as number;
    const length = this.#size + to - from;
    if (length > this.#memory.length) this.#memory = grown(this.#memory, this.#size, length);
    others.#memory.copy(this.#memory, this.#size, from, to);
    const shift = this.#size - from;
    for (let i = 2 * first; i < 2 * (first + count); i++) this.#bounds.push((others.#bounds[i] as number) + shift);
    this.#size = length;
  }

  lend(): null {
    return null;
  }

  giveBack(): void {}

  payload(i: number): Buffer {
    return this.#memory.subarray(this.#begin(i), this.#bounds[2 * i + 1]);
  }

  copyRow(i: number, target: Uint8Array, at: number, from: number, length: number): void {
    const begin = this.#begin(i) + from;
    this.#memory.copy(target, at, begin, begin + length);
  }

  #begin(i: number): number {
    const start = this.#bounds[2 * i];
    if (start === undefined) throw new RangeError(`a batch of ${this.count} rows has no row ${i}`);
    return start;
  }
}
