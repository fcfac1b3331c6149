// Keeps the memory of finished batches for later ones, so that it need not be garbage-collected.

import type { Memory } from './rows.js';

/** How much is kept: a few small pieces, or a large one. */
const most = 4;
const mostBytes = 16 << 20;

export class SpareMemory {
  readonly #pieces: Memory[] = [];

  take(): Memory | undefined {
    return this.#pieces.pop();
  }

  keep(memory: Memory): void {
    const kept = this.#pieces.reduce((sum, { length }) => sum + length, memory.length);
    if (kept <= mostBytes && this.#pieces.length < most) this.#pieces.push(memory);
  }
}
