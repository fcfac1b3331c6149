// Replies that leave together lie side by side in memory of the pool: a buffer for each, to be joined when they leave,
// would cost more than writing them.

import type { BufferPool } from '../../protocol/buffer-pool.js';
import type { ReplyWriter } from '../framed/reply-writer.js';

const memoryBytes = 16 * 1024;
/** So few are copied out, and the memory goes back at once. */
const fewBytes = 4096;
const nothing: Buffer = Buffer.alloc(0);

export class ReplyGathering {
  readonly #writer: ReplyWriter;
  readonly #pool: BufferPool;
  #memory = nothing;
  /** Where the next reply begins. */
  at = 0;

  constructor(writer: ReplyWriter, pool: BufferPool) {
    this.#writer = writer;
    this.#pool = pool;
  }

  /** Memory with room for so many bytes from `at` on; what writes them there moves `at`. */
  room(bytes: number): Buffer {
    if (this.at + bytes > this.#memory.length) {
      this.post();
      this.#memory = this.#pool.take(Math.max(bytes, memoryBytes));
    }
    return this.#memory;
  }

  /** Hands what was gathered to the writer. */
  post(): void {
    const memory = this.#memory;
    const { at } = this;
    if (at === 0) return;
    this.#memory = nothing;
    this.at = 0;
    if (at >= fewBytes) {
      this.#writer.post(memory.subarray(0, at));
      return;
    }
    const few = this.#writer.take(at);
    memory.copy(few, 0, 0, at);
    this.#pool.give(memory);
    this.#writer.post(few);
  }

  /** Nothing will leave any more. */
  close(): void {
    this.#pool.give(this.#memory);
    this.#memory = nothing;
    this.at = 0;
  }
}
