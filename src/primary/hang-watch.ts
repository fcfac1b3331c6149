// Finds workers that stand still: each gives a sign of life with every record that it publishes; one that starts has a
// time to be ready.

import type { WorkerHandle } from './worker-handle.js';

const intervalMs = 100;

export class HangWatch {
  readonly #timer: NodeJS.Timeout;
  #lookedAt = performance.now();

  /** @param onHang told of a worker that exceeds its time, and which time, again at every look */
  constructor(workers: () => readonly WorkerHandle[], onHang: (worker: WorkerHandle, limit: string) => void) {
    this.#timer = setInterval(() => {
      if (!this.#wasHere()) return;
      for (const worker of workers()) {
        const limit = exceeded(worker);
        if (limit !== null) onHang(worker, limit);
      }
    }, intervalMs);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** When this process itself stood still (a machine that slept, a debugger), what workers said has not been read yet. */
  #wasHere(): boolean {
    const now = performance.now();
    const wasHere = now - this.#lookedAt < 2 * intervalMs;
    this.#lookedAt = now;
    return wasHere;
  }
}

/** The setting that a worker does not keep to; null when it is well. */
function exceeded({ state, ageMs, heardAt, deployment }: WorkerHandle): string | null {
  const { bootTimeoutSeconds, hangTimeoutMs } = deployment.config.cluster;
  if (state === 'starting' && ageMs > bootTimeoutSeconds * 1000)
    return `not ready after ${bootTimeoutSeconds} s (cluster.bootTimeoutSeconds)`;
  if (state === 'ready' && performance.now() - heardAt > hangTimeoutMs)
    return `its event loop stood still for ${hangTimeoutMs} ms (cluster.hangTimeoutMs)`;
  return null;
}
