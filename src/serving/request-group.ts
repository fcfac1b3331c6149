// The unit that a client waits for: requests that came in one read and are side by side in one batch (or refused
// together). Counting, timing and answering happen once per group, not once per request. It knows nothing of protocols:
// a protocol encodes the replies from `outcome`, many at a time, or from `reply`, one by one.

import type { Batch, BatchEntry, BatchOutcome } from '../inference/batch.js';
import type { ModelCounter } from '../metrics/recorder.js';

/** Why requests have no outcome of the model, as the name of their counter. */
export type RequestRefusal = Extract<ModelCounter, `refused${string}` | 'expired'>;

export class RequestGroup implements BatchEntry {
  requests = 0;
  /** Rows that its requests have in the batch. */
  rows = 0;
  /** Bytes of its rows in a batch, and of the replies that they will have. */
  bytes = 0;
  /**
   * Requests that the model failed on, or whose replies the protocol cannot encode; set when the replies are encoded.
   */
  failed = 0;
  readonly arrivedAt: number;
  readonly #onSettled: () => void;
  #target: Batch | RequestRefusal;
  #first: number;

  /** @param onSettled called when the replies of a group that waited for a batch can be encoded */
  constructor(target: Batch | RequestRefusal, arrivedAt: number, onSettled: () => void) {
    this.#target = target;
    this.#first = typeof target === 'string' ? 0 : target.rows;
    this.arrivedAt = arrivedAt;
    this.#onSettled = onSettled;
  }

  /** The batch that holds its rows, or why there is none: then each request is refused. */
  get target(): Batch | RequestRefusal {
    return this.#target;
  }

  get first(): number {
    return this.#first;
  }

  /** Whether its replies can be encoded. */
  get isSettled(): boolean {
    return typeof this.#target === 'string' || this.#target.outcome !== null;
  }

  /** The outcome of its batch; null when its requests were refused. Throws before it is settled. */
  get outcome(): BatchOutcome | null {
    if (typeof this.#target === 'string') return null;
    if (this.#target.outcome === null) throw new Error('the batch of this group is not settled');
    return this.#target.outcome;
  }

  /** The reply to its request `i`, as a view; null when there is none. */
  reply(i: number): Uint8Array | null {
    const { outcome } = this;
    if (outcome === null || outcome.kind === 'failed') return null;
    const row = this.#first + i;
    if (outcome.kind === 'uniform')
      return outcome.bytes.subarray(row * outcome.stride, row * outcome.stride + outcome.rowBytes);
    const reply = outcome.rows[row];
    return reply instanceof Uint8Array ? reply : null;
  }

  /** The batch owns its rows from here on. */
  retain(): void {
    if (typeof this.#target !== 'string') this.#target.retain();
  }

  moved(batch: Batch, first: number): void {
    this.#target = batch;
    this.#first = first;
  }

  expired(): void {
    this.#target = 'expired';
    this.#onSettled();
  }

  settled(): void {
    this.#onSettled();
  }
}
