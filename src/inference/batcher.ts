// Batches once per event-loop turn: every frame that arrives in a turn, over all connections, joins the open batch; the
// check phase (setImmediate) closes it and runs the model once. No row waits beyond its turn, so batching costs nothing
// at low load, and batches grow with the load. With one connection there is nothing to gather: its rows run at once.
//
//   turn:   data data data ──▶ open batch(es) ──▶ setImmediate ──▶ model.run ──▶ settle ──▶ replies leave
//
// With maxQueueDelayMs the open batch waits that long for more rows, counted from its first one, unless it fills up
// earlier. While a model runs (in a thread, say), the next batches gather behind it, at most `maxQueue` rows. A row
// that could only be answered after its deadline, or whose client has gone, never costs a run. A model can be swapped
// between two batches: rows that were queued for the old one are run by the old one.

import { soon } from '../soon.js';
import { toError } from '../thrown.js';
import { Batch, type BatchEntry, type BatchOutcome, type Replies } from './batch.js';
import { type Model, ThreadLostError } from './model.js';
import { checked, longestHoldMs, rowsToRetry, runRowByRow } from './outcome.js';
import type { Memory } from './rows.js';
import { TimeEstimate } from './time-estimate.js';

/** How much memory of batches is kept for reuse: a few small pieces, or a large one. */
const maxReused = 4;
const maxReusedBytes = 16 << 20;

export interface BatcherLimits {
  /** Rows in one call of the model. */
  readonly maxBatchSize: number;
  /** Rows that may wait for the model. */
  readonly maxQueue: number;
  /** How long an open batch waits for more rows; 0: until the end of the event-loop turn. */
  readonly maxQueueDelayMs: number;
  /** The longest time from a request's arrival to its reply, beyond which it is not worth a run; 0: no limit. */
  readonly deadlineMs: number;
  /** Whether a failed batch is run again row by row, once, so that a bad row fails alone. */
  readonly retryRows: boolean;
}

/** Why a batch was closed. */
export type CloseReason = 'full' | 'turn' | 'delay' | 'drain';

export interface FinishedBatch {
  readonly batch: Batch;
  readonly outcome: BatchOutcome;
  /** How many rows its requests have together: a request may have several. */
  readonly modelRows: number;
  readonly closedBy: CloseReason;
  /** When it left the queue, in milliseconds of the monotonic clock. */
  readonly startedAt: number;
  /** How long the model took, including retries. */
  readonly runMs: number;
  /** How many rows were run again by themselves. */
  readonly retriedRows: number;
}

/** Called with every batch just before its replies leave. */
export type BatchObserver = (finished: FinishedBatch) => void;

/** A model and the number of batches that still need it. Rows may share a run only if they have the same lease. */
interface Lease {
  readonly model: Model;
  /** The most rows in one call of the model. */
  readonly maxRows: number;
  outstanding: number;
  onIdle: (() => void) | null;
}

interface Queued {
  readonly batch: Batch;
  readonly lease: Lease;
  readonly closedBy: CloseReason;
}

export class Batcher {
  readonly #limits: BatcherLimits;
  readonly #observe: BatchObserver;
  #lease: Lease;
  #open: Batch;
  readonly #closed: Queued[] = [];
  readonly #memories: Memory[] = [];
  #queuedRows = 0;
  #replyBytes = 0;
  #running = 0;
  #isScheduled = false;
  #hasOtherSources = true;
  #isDraining = false;
  #delayTimer: NodeJS.Timeout | undefined;
  #sweepTimer: NodeJS.Timeout | undefined;
  #isDelayOver = false;
  /** When the event loop last ran other work. */
  #turnBegan = 0;
  /** How long a run takes: a request must have that much of its deadline left to be worth a run. */
  #runEstimate = new TimeEstimate();

  /** @param maxRows the most rows in one call of this model, if fewer than maxBatchSize */
  constructor(
    model: Model,
    limits: BatcherLimits,
    observe: BatchObserver = () => {},
    maxRows = Number.POSITIVE_INFINITY,
  ) {
    this.#limits = limits;
    this.#lease = this.#leaseOf(model, maxRows);
    this.#observe = observe;
    this.#open = new Batch(model.inputBytes);
  }

  /** Whether the model that gets the next row accepts `source[start, end)`. */
  admits(source: Buffer, start: number, end: number): boolean {
    const { inputBytes } = this.#lease.model;
    return end - start === inputBytes || (inputBytes === null && this.#accepts(source, start, end));
  }

  #accepts(source: Buffer, start: number, end: number): boolean {
    const { model } = this.#lease;
    return model.accepts === undefined || model.accepts(source, start, end);
  }

  /** Bytes of a reply in the last batch that had one; 0 before that. */
  get replyBytes(): number {
    return this.#replyBytes;
  }

  /** The most rows in one call of the model. */
  get maxRows(): number {
    return this.#lease.maxRows;
  }

  /** Rows that wait for the model. */
  get queuedRows(): number {
    return this.#queuedRows;
  }

  /** Sets whether others may add rows in the same turn of the event loop; if not, waiting for its end gains nothing. */
  setHasOtherSources(hasOtherSources: boolean): void {
    this.#hasOtherSources = hasOtherSources;
  }

  /** The batch that takes the next row, or null when the queue is full and the row must be refused. */
  openBatch(): Batch | null {
    if (this.#queuedRows >= this.#limits.maxQueue) return null;
    const { maxRows } = this.#lease;
    if (this.#open.rows >= maxRows) this.#closed.push(this.#closeOpen('full'));
    this.#queuedRows++;
    if (this.#open.rows === 0) this.#begun(maxRows === 1);
    else if (this.#open.rows + 1 === maxRows) this.#schedule();
    return this.#open;
  }

  /** Drops an entry of `batch` whose client has gone, and frees its place in the queue. */
  cancel(batch: Batch, entry: BatchEntry): void {
    if (batch.isTaken) return;
    batch.cancel(entry);
    this.#queuedRows -= entry.rows;
  }

  /** From now on, runs what is queued without waiting for more rows. */
  drain(): void {
    this.#isDraining = true;
    if (this.#open.rows > 0) this.#schedule();
  }

  /** Gives new rows to `model`; resolves when the old model has run its last batch and may be closed. */
  async swap(model: Model, maxRows = Number.POSITIVE_INFINITY): Promise<void> {
    const old = this.#lease;
    if (this.#open.rows > 0) this.#closed.push(this.#closeOpen('drain'));
    this.#lease = this.#leaseOf(model, maxRows);
    this.#open = new Batch(model.inputBytes);
    this.#runEstimate = new TimeEstimate();
    this.#schedule();
    if (old.outstanding > 0) {
      await new Promise<void>((resolve) => {
        old.onIdle = resolve;
      });
    }
  }

  #leaseOf(model: Model, maxRows: number): Lease {
    return { model, maxRows: Math.min(this.#limits.maxBatchSize, maxRows), outstanding: 0, onIdle: null };
  }

  /** The open batch gets its first row. */
  #begun(isFull: boolean): void {
    const { maxQueueDelayMs } = this.#limits;
    if (maxQueueDelayMs === 0 || this.#isDraining || isFull)
      this.#schedule(this.#hasOtherSources ? setImmediate : soon);
    else this.#delayTimer ??= setTimeout(this.#delayOver, maxQueueDelayMs);
    if (this.#running > 0) this.#watchDeadlines();
  }

  readonly #delayOver = (): void => {
    this.#delayTimer = undefined;
    this.#isDelayOver = true;
    this.#pump();
  };

  /** @param when at the end of the event-loop turn; or of the current callback, which the pump must not use */
  #schedule(when: (run: () => void) => void = setImmediate): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    when(this.#onTurn);
  }

  readonly #onTurn = (): void => {
    this.#isScheduled = false;
    this.#turnBegan = performance.now();
    this.#pump(this.#turnBegan);
  };

  /**
   * Starts as many runs as the model can do at once.
   * @param now by the monotonic clock, which is not asked again while nothing has taken time
   */
  #pump(now = performance.now()): void {
    while (this.#running < this.#lease.model.concurrency) {
      if (this.#queuedRows > 0 && now - this.#turnBegan > longestHoldMs) {
        this.#schedule();
        return;
      }
      const queued = this.#take(now);
      if (queued === null) return;
      this.#run(queued);
      if (this.#queuedRows > 0) now = performance.now();
    }
  }

  /** Begins a new batch; returns the one that was open, which is in no queue then. */
  #closeOpen(closedBy: CloseReason): Queued {
    const queued = { batch: this.#open, lease: this.#lease, closedBy };
    this.#lease.outstanding++;
    this.#open = new Batch(this.#lease.model.inputBytes, this.#memories.pop());
    this.#isDelayOver = false;
    clearTimeout(this.#delayTimer);
    this.#delayTimer = undefined;
    return queued;
  }

  /** Makes rows behind a run that does not end expire at their deadline, not when the run ends. */
  #watchDeadlines(): void {
    const { deadlineMs } = this.#limits;
    if (deadlineMs === 0 || this.#sweepTimer !== undefined || this.#queuedRows === 0) return;
    this.#sweepTimer = setTimeout(this.#sweep, deadlineMs / 4);
    this.#sweepTimer.unref();
  }

  readonly #sweep = (): void => {
    this.#sweepTimer = undefined;
    const now = performance.now();
    const arrivedBefore = now - this.#limits.deadlineMs;
    for (;;) {
      if (this.#closed.length === 0 && this.#open.newestAt < arrivedBefore) this.#closed.push(this.#closeOpen('turn'));
      const [queued] = this.#closed;
      if (queued === undefined || queued.batch.newestAt >= arrivedBefore) break;
      this.#closed.shift();
      this.#withoutStale(queued.batch, now);
      this.#release(queued.lease);
    }
    this.#watchDeadlines();
  };

  /** The next batch that is due, without cancelled and expired rows; null when there is none. */
  #take(now: number): Queued | null {
    for (;;) {
      const queued = this.#nextDue();
      if (queued === null) return null;
      const batch = this.#withoutStale(queued.batch, now);
      if (batch.rows === 0) this.#release(queued.lease);
      else {
        batch.isTaken = true;
        this.#fill(batch, queued.lease, now);
        this.#queuedRows -= batch.rows;
        return batch === queued.batch ? queued : { ...queued, batch };
      }
    }
  }

  /** Fills a batch that has lost rows with those of the next ones: overload must not make batches smaller. */
  #fill(batch: Batch, lease: Lease, now: number): void {
    while (batch.rows < lease.maxRows) {
      const next = this.#nextDue();
      if (next === null) return;
      if (next.lease !== lease) {
        this.#closed.unshift(next);
        return;
      }
      const rest = batch.absorb(this.#withoutStale(next.batch, now), lease.maxRows);
      if (rest === null) this.#release(lease);
      else {
        this.#closed.unshift({ ...next, batch: rest });
        return;
      }
    }
  }

  /** Takes the oldest batch that may run out of the queue; null when there is none. */
  #nextDue(): Queued | null {
    const queued = this.#closed.shift();
    if (queued !== undefined) return queued;
    const reason = this.#reasonToClose();
    return reason === null ? null : this.#closeOpen(reason);
  }

  #reasonToClose(): CloseReason | null {
    const { rows } = this.#open;
    if (rows === 0) return null;
    if (rows >= this.#lease.maxRows) return 'full';
    if (this.#isDraining) return 'drain';
    if (this.#limits.maxQueueDelayMs === 0) return 'turn';
    return this.#isDelayOver ? 'delay' : null;
  }

  /** The rows of a batch that are still worth a run; the entries that are too late expire. */
  #withoutStale(batch: Batch, now: number): Batch {
    const arrivedBefore = this.#arrivedTooEarly(now);
    if (!batch.hasCancelled && batch.oldestAt >= arrivedBefore) return batch;
    const { batch: live, expired } = batch.withoutStale(arrivedBefore);
    batch.isTaken = true;
    for (const entry of expired) this.#queuedRows -= entry.rows;
    for (const entry of expired) entry.expired();
    return live;
  }

  /**
   * A request that arrived before this time would be answered too late: the run and the way to the client take time. A
   * fresh request is tried, however slow the last runs were.
   */
  #arrivedTooEarly(now: number): number {
    const { deadlineMs } = this.#limits;
    if (deadlineMs === 0) return Number.NEGATIVE_INFINITY;
    const neededMs = Math.min(this.#runEstimate.highMs + deadlineMs / 20, deadlineMs / 2);
    return now - deadlineMs + neededMs;
  }

  #run(queued: Queued): void {
    const startedAt = performance.now();
    let replies: Replies | Promise<Replies>;
    try {
      replies = queued.lease.model.run(queued.batch);
    } catch (error) {
      replies = Promise.reject(error);
    }
    if (replies instanceof Promise) void this.#await(queued, startedAt, replies);
    else this.#finish(queued, startedAt, checked(queued.batch, replies), 0);
  }

  async #await(queued: Queued, startedAt: number, replies: Promise<Replies>): Promise<void> {
    let outcome: BatchOutcome;
    let retriedRows = 0;
    this.#running++;
    this.#watchDeadlines();
    try {
      outcome = checked(queued.batch, await replies);
    } catch (error) {
      outcome = { kind: 'failed', error: toError(error) };
    }
    if (outcome.kind !== 'uniform' && this.#isWorthRetrying(queued.batch, outcome)) {
      const { batch, lease } = queued;
      const rows = rowsToRetry(outcome);
      const retried = await runRowByRow(lease.model, batch, outcome, rows, this.#deadlineOf(batch));
      retriedRows = retried.runs;
      outcome = retried.outcome;
    }
    this.#running--;
    this.#finish(queued, startedAt, outcome, retriedRows);
    // The replies leave first: the next run may block this thread.
    queueMicrotask(() => this.#pump());
  }

  /** The deadline of its oldest row. */
  #deadlineOf(batch: Batch): number {
    const { deadlineMs } = this.#limits;
    return deadlineMs > 0 ? batch.oldestAt + deadlineMs : Number.POSITIVE_INFINITY;
  }

  /** A batch that has lost its thread is not retried: each of its rows might lose another one. */
  #isWorthRetrying(batch: Batch, outcome: BatchOutcome): boolean {
    if (!this.#limits.retryRows || batch.rows === 1) return false;
    if (outcome.kind === 'failed') return !(outcome.error instanceof ThreadLostError);
    return outcome.kind === 'rows' && rowsToRetry(outcome)?.length !== 0;
  }

  #finish({ batch, lease, closedBy }: Queued, startedAt: number, outcome: BatchOutcome, retriedRows: number): void {
    const runMs = performance.now() - startedAt;
    this.#runEstimate.add(runMs);
    this.#replyBytes = bytesOfReply(outcome) ?? this.#replyBytes;
    if (!lease.model.mayReplyWithInput) this.#reuse(batch.memory);
    this.#release(lease);
    this.#observe({
      batch,
      outcome,
      modelRows: modelRows(lease.model, batch),
      closedBy,
      startedAt,
      runMs,
      retriedRows,
    });
    batch.settle(outcome);
  }

  /** Keeps the memory of a finished batch for a later one, so that it need not be garbage-collected. */
  #reuse(memory: Memory): void {
    const kept = this.#memories.reduce((sum, { length }) => sum + length, memory.length);
    if (kept <= maxReusedBytes && this.#memories.length < maxReused) this.#memories.push(memory);
  }

  #release(lease: Lease): void {
    lease.outstanding--;
    if (lease.outstanding === 0) lease.onIdle?.();
  }
}

function modelRows({ rowsIn }: Model, batch: Batch): number {
  if (rowsIn === undefined) return batch.rows;
  let rows = 0;
  for (let i = 0; i < batch.rows; i++) rows += rowsIn(batch.payload(i));
  return rows;
}

/** Bytes of one reply, on average if they differ; null when there is none. */
function bytesOfReply(outcome: BatchOutcome): number | null {
  if (outcome.kind === 'uniform') return outcome.rowBytes;
  if (outcome.kind === 'failed') return null;
  const replies = outcome.rows.filter((row) => row instanceof Uint8Array);
  return replies.length === 0 ? null : replies.reduce((sum, { length }) => sum + length, 0) / replies.length;
}
