// Reuses the buffers of large frames and replies: under a flood of them, the garbage that waits for collection would
// otherwise be many times the memory in use.

/** Smaller buffers are cheaper to allocate than to keep. */
const smallest = 4096;
const nothing: Buffer = Buffer.alloc(0);

export class BufferPool {
  readonly #maxKeptBytes: number;
  #keptBytes = 0;
  /** Kept buffers by size, a power of two. */
  readonly #kept = new Map<number, Buffer[]>();
  /** The small buffer that came back last: the replies of a model often have one size, and leave one at a time. */
  #lastSmall = nothing;

  /** @param maxKeptBytes how many unused bytes the pool may keep */
  constructor(maxKeptBytes: number) {
    this.#maxKeptBytes = maxKeptBytes;
  }

  get keptBytes(): number {
    return this.#keptBytes;
  }

  /** A buffer of at least so many bytes, with arbitrary contents. */
  take(bytes: number): Buffer {
    if (bytes < smallest) return Buffer.allocUnsafeSlow(bytes);
    const size = 2 ** Math.ceil(Math.log2(bytes));
    const buffer = this.#kept.get(size)?.pop();
    if (buffer === undefined) return Buffer.allocUnsafeSlow(size);
    this.#keptBytes -= size;
    return buffer;
  }

  /** A buffer of exactly so many bytes, for short-lived data; small ones share Node's own pool. */
  takeBriefly(bytes: number): Buffer {
    if (bytes >= smallest) return this.take(bytes).subarray(0, bytes);
    const last = this.#lastSmall;
    if (last.length !== bytes) return Buffer.allocUnsafe(bytes);
    this.#lastSmall = nothing;
    return last;
  }

  /** Returns a buffer of `take` or `takeBriefly` to the pool, once it is no longer read or written. */
  give(taken: Buffer): void {
    if (taken.length < smallest) {
      this.#lastSmall = taken;
      return;
    }
    const buffer = taken.length === taken.buffer.byteLength ? taken : Buffer.from(taken.buffer);
    const { length } = buffer;
    if (this.#keptBytes + length > this.#maxKeptBytes) return;
    const kept = this.#kept.get(length);
    if (kept === undefined) this.#kept.set(length, [buffer]);
    else kept.push(buffer);
    this.#keptBytes += length;
  }
}
