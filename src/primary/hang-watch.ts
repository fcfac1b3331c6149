// Finds workers whose event loop stands still: each gives a sign of life with every record that it publishes.

import type { WorkerHandle } from './worker-handle.js';

export class HangWatch {
  readonly #timeoutMs: number;
  readonly #intervalMs: number;
  readonly #timer: NodeJS.Timeout;
  #lookedAt = performance.now();

  /** @param onHang told of a worker that has been silent for longer than `timeoutMs`, again at every look */
  constructor(timeoutMs: number, workers: () => readonly WorkerHandle[], onHang: (worker: WorkerHandle) => void) {
    this.#timeoutMs = timeoutMs;
    this.#intervalMs = timeoutMs / 4;
    this.#timer = setInterval(() => {
      for (const worker of this.#silent(workers())) onHang(worker);
    }, this.#intervalMs);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #silent(workers: readonly WorkerHandle[]): readonly WorkerHandle[] {
    const now = performance.now();
    // When this process itself stood still (a machine that slept, a debugger), what workers said has not been read yet.
    const wasHere = now - this.#lookedAt < 2 * this.#intervalMs;
    this.#lookedAt = now;
    if (!wasHere) return [];
    return workers.filter(({ state, heardAt }) => state === 'ready' && now - heardAt > this.#timeoutMs);
  }
}
