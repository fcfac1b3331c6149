// Keeps the memory of finished batches for later ones, so that it need not be garbage-collected.

import type { Memory } from './rows.js';

/** How much is kept: many small pieces, or a large one. */
const most = 64;
const mostBytes = 16 << 20;

export class SpareMemory {
  readonly #pieces: Memory[] = [];
  #bytes = 0;

  take(): Memory | undefined {
    const memory = this.#pieces.pop();
    if (memory !== undefined) this.#bytes -= memory.length;
    return memory;
  }

  keep(memory: Memory): void {
    if (this.#pieces.length === most || this.#bytes + memory.length > mostBytes) return;
    this.#pieces.push(memory);
    this.#bytes += memory.length;
  }
}
