// The unit that a client waits for: requests that came in one read and are side by side in one batch (or refused
// together). Counting, timing and answering happen once per group, not once per request. It knows nothing of protocols:
// a protocol encodes the replies from `outcome`, many at a time, or from `reply`, one by one.

import type { Batch, BatchEntry, BatchOutcome, ReplyDims } from '../inference/batch.js';
import type { ModelCounter } from '../metrics/recorder.js';

/** Why requests have no outcome of the model, as the name of their counter. */
export type RequestRefusal = Extract<ModelCounter, `refused${string}` | 'expired'>;

/** Where a reply lies: `source[start, end)`. A view of it would cost more than all else that is done for it. */
export interface ReplySpan {
  readonly source: Uint8Array;
  readonly start: number;
  readonly end: number;
}

/** Whose requests they are. */
export interface GroupOwner {
  /** The replies of a group that waited for a batch can be encoded. */
  groupSettled(): void;
  /** A part of the requests of `group` is a group of its own now, right after it. */
  groupSplit(group: RequestGroup, rest: RequestGroup): void;
}

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
  /** When requests that were refused for now are likely to be served; 0 when nothing is known. */
  retryAfterMs = 0;
  /** Bytes of the first of its requests, where the model does not take them. */
  refusedBytes = 0;
  readonly arrivedAt: number;
  readonly #owner: GroupOwner;
  #target: Batch | RequestRefusal;
  #first: number;

  constructor(target: Batch | RequestRefusal, arrivedAt: number, owner: GroupOwner) {
    this.#target = target;
    this.#first = typeof target === 'string' ? 0 : target.rows;
    this.arrivedAt = arrivedAt;
    this.#owner = owner;
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

  /** The reply to its row `i`; null when there is none. */
  reply(i: number): ReplySpan | null {
    const { outcome } = this;
    if (outcome === null || outcome.kind === 'failed') return null;
    const row = this.#first + i;
    if (outcome.kind === 'uniform') {
      const start = row * outcome.stride;
      return { source: outcome.bytes, start, end: start + outcome.rowBytes };
    }
    const reply = outcome.rows[row];
    return reply instanceof Uint8Array ? { source: reply, start: 0, end: reply.length } : null;
  }

  /** Why a row of it has no reply, of the first such row; null when all have one. */
  firstError(): Error | null {
    const { outcome } = this;
    if (outcome === null) return new Error('it was refused');
    if (outcome.kind === 'failed') return outcome.error;
    if (outcome.kind === 'uniform') return null;
    for (let row = this.#first; row < this.#first + this.rows; row++) {
      const reply = outcome.rows[row];
      if (!(reply instanceof Uint8Array)) return reply ?? new Error('there is no reply');
    }
    return null;
  }

  /** Whether the model tells the dimensions of the outputs in replies of its batch. */
  get hasReplyDims(): boolean {
    const { outcome } = this;
    return outcome !== null && outcome.kind !== 'failed' && outcome.dims !== undefined;
  }

  /** The dimensions of the outputs in the reply to its row `i`; null when the plan and the request tell them. */
  replyDims(i: number): ReplyDims | null {
    const { outcome } = this;
    if (outcome === null || outcome.kind === 'failed' || outcome.dims === undefined) return null;
    return outcome.kind === 'uniform' ? outcome.dims : (outcome.dims[this.#first + i] ?? null);
  }

  /** The batch owns its rows from here on. */
  retain(): void {
    if (typeof this.#target !== 'string') this.#target.retain();
  }

  split(rows: number): RequestGroup {
    const rest = new RequestGroup(this.#target, this.arrivedAt, this.#owner);
    rest.#first = this.#first + rows;
    rest.rows = this.rows - rows;
    rest.bytes = Math.floor((this.bytes * rest.rows) / this.rows);
    // Requests of one row each are divided; one of several rows stays one, and is counted here.
    if (this.requests === this.rows) {
      rest.requests = rest.rows;
      this.requests = rows;
    }
    this.rows = rows;
    this.bytes -= rest.bytes;
    this.#owner.groupSplit(this, rest);
    return rest;
  }

  moved(batch: Batch, first: number): void {
    this.#target = batch;
    this.#first = first;
  }

  expired(): void {
    this.#target = 'expired';
    this.#owner.groupSettled();
  }

  settled(): void {
    this.#owner.groupSettled();
  }
}
