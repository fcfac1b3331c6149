// Batches once an event-loop turn: every frame that arrives in a turn, over all connections, joins the open batch; the
// check phase (setImmediate) closes it and runs the model once. Nobody waits, so nothing is lost at low load, and
// the more arrives the larger the batches become.
//
//   turn:   data data data ──▶ open batch(es) ──▶ setImmediate ──▶ model.run ──▶ settle ──▶ replies leave
//
// While a model runs elsewhere (a promise that is not done yet), the next batches gather behind it, `maxQueue` rows at
// the most.

import { Batch, type BatchOutcome, type Replies } from './batch.js';
import type { Model } from './model.js';

export interface BatcherLimits {
  /** Rows in one call of the model. */
  readonly maxBatchSize: number;
  /** Rows that may wait behind the running batch. */
  readonly maxQueue: number;
}

/** Hears of every batch when it has settled: `runMs` is the time that the model held it. */
export type BatchObserver = (batch: Batch, outcome: BatchOutcome, runMs: number) => void;

export class Batcher {
  readonly model: Model;
  readonly #limits: BatcherLimits;
  readonly #observe: BatchObserver;
  #open = new Batch();
  readonly #full: Batch[] = [];
  #queuedRows = 0;
  #isScheduled = false;
  #isRunning = false;

  constructor(model: Model, limits: BatcherLimits, observe: BatchObserver = () => {}) {
    this.model = model;
    this.#limits = limits;
    this.#observe = observe;
  }

  /** The batch that takes the next row, or null when the queue is full and the row must be refused. */
  openBatch(): Batch | null {
    if (this.#queuedRows >= this.#limits.maxQueue) return null;
    if (this.#open.rows >= this.#limits.maxBatchSize) {
      this.#full.push(this.#open);
      this.#open = new Batch();
    }
    this.#queuedRows++;
    if (!this.#isScheduled && !this.#isRunning) {
      this.#isScheduled = true;
      setImmediate(this.#runQueued);
    }
    return this.#open;
  }

  /** Rows that wait for the model. */
  get queuedRows(): number {
    return this.#queuedRows;
  }

  readonly #runQueued = async (): Promise<void> => {
    this.#isScheduled = false;
    this.#isRunning = true;
    for (let batch = this.#take(); batch !== null; batch = this.#take()) {
      this.#queuedRows -= batch.rows;
      const startedAt = performance.now();
      let outcome: BatchOutcome;
      try {
        const replies = this.model.run(batch);
        outcome = checked(batch, replies instanceof Promise ? await replies : replies);
      } catch (error) {
        outcome = { kind: 'failed', error: error instanceof Error ? error : new Error(String(error)) };
      }
      this.#observe(batch, outcome, performance.now() - startedAt);
      batch.settle(outcome);
    }
    this.#isRunning = false;
  };

  #take(): Batch | null {
    const full = this.#full.shift();
    if (full !== undefined) return full;
    if (this.#open.rows === 0) return null;
    const batch = this.#open;
    this.#open = new Batch();
    return batch;
  }
}

/** A model that returns too few or too many replies would give clients each other's: that fails the batch instead. */
function checked(batch: Batch, replies: Replies): Replies {
  if (replies.kind === 'rows') {
    if (!Array.isArray(replies.rows) || replies.rows.length !== batch.rows) {
      const count = Array.isArray(replies.rows) ? replies.rows.length : typeof replies.rows;
      throw new Error(`the model returned ${count} replies for ${batch.rows} payloads: it must return one for each`);
    }
  } else if (replies.bytes.length < (batch.rows - 1) * replies.stride + replies.rowBytes) {
    throw new Error(`the model returned ${replies.bytes.length} bytes, too few for ${batch.rows} replies`);
  }
  return replies;
}
