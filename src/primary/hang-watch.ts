// Finds workers whose event loop stands still: each gives a sign of life with every record that it publishes.

import type { WorkerHandle } from './worker-handle.js';

const intervalMs = 100;

export class HangWatch {
  readonly #timer: NodeJS.Timeout;
  #lookedAt = performance.now();

  /** @param onHang told of a worker that has been silent for longer than its hangTimeoutMs, again at every look */
  constructor(workers: () => readonly WorkerHandle[], onHang: (worker: WorkerHandle) => void) {
    this.#timer = setInterval(() => {
      for (const worker of this.#silent(workers())) onHang(worker);
    }, intervalMs);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #silent(workers: readonly WorkerHandle[]): readonly WorkerHandle[] {
    const now = performance.now();
    // When this process itself stood still (a machine that slept, a debugger), what workers said has not been read yet.
    const wasHere = now - this.#lookedAt < 2 * intervalMs;
    this.#lookedAt = now;
    if (!wasHere) return [];
    return workers.filter(
      ({ state, heardAt, deployment }) => state === 'ready' && now - heardAt > deployment.config.cluster.hangTimeoutMs,
    );
  }
}
