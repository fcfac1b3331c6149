// Buffers for large frames and replies, used again: under a flood of them the garbage that waits to be collected would
// otherwise be many times what is held.

/** Smaller ones cost less to make than to keep. */
const smallest = 4096;

export class BufferPool {
  readonly #maxKeptBytes: number;
  #keptBytes = 0;
  /** By size, a power of two. */
  readonly #kept = new Map<number, Buffer[]>();

  /** @param maxKeptBytes what may lie in the pool, used by nobody */
  constructor(maxKeptBytes: number) {
    this.#maxKeptBytes = maxKeptBytes;
  }

  get keptBytes(): number {
    return this.#keptBytes;
  }

  /** A buffer of at least so many bytes, with whatever is in them. */
  take(bytes: number): Buffer {
    if (bytes < smallest) return Buffer.allocUnsafeSlow(bytes);
    const size = 2 ** Math.ceil(Math.log2(bytes));
    const buffer = this.#kept.get(size)?.pop();
    if (buffer === undefined) return Buffer.allocUnsafeSlow(size);
    this.#keptBytes -= size;
    return buffer;
  }

  /** A buffer of exactly so many bytes, for what is soon gone; small ones lie side by side. */
  takeBriefly(bytes: number): Buffer {
    return bytes < smallest ? Buffer.allocUnsafe(bytes) : this.take(bytes).subarray(0, bytes);
  }

  /** Gives a buffer of `take` or `takeBriefly` back, when nobody reads or writes it any more. */
  give(taken: Buffer): void {
    if (taken.length < smallest) return;
    const buffer = taken.length === taken.buffer.byteLength ? taken : Buffer.from(taken.buffer);
    const { length } = buffer;
    if (this.#keptBytes + length > this.#maxKeptBytes) return;
    const kept = this.#kept.get(length);
    if (kept === undefined) this.#kept.set(length, [buffer]);
    else kept.push(buffer);
    this.#keptBytes += length;
  }
}
