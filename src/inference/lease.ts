// A model that is in use: rows may share a run only if they have the same lease. When a model is replaced, its lease
// tells when the last batch that was meant for it is done.

import type { BatchSize } from './batch-size.js';
import type { Model } from './model.js';

export class Lease {
  readonly model: Model;
  /** How many rows a run may have. */
  readonly size: BatchSize;
  #outstanding = 0;
  #onIdle: (() => void) | null = null;

  constructor(model: Model, size: BatchSize) {
    this.model = model;
    this.size = size;
  }

  /** One more batch needs the model. */
  take(): void {
    this.#outstanding++;
  }

  release(): void {
    this.#outstanding--;
    if (this.#outstanding === 0) this.#onIdle?.();
  }

  /** Resolves when no batch needs the model. */
  async idle(): Promise<void> {
    if (this.#outstanding === 0) return;
    await new Promise<void>((resolve) => {
      this.#onIdle = resolve;
    });
  }
}
