// Batches once per event-loop turn: every frame that arrives in a turn, over all connections, joins the open batch; the
// check phase (setImmediate) closes it and runs the model once. No row waits beyond its turn, so batching costs nothing
// at low load, and batches grow with the load. With one connection there is nothing to gather: its rows run at once. Only
// where it has been seen to be sooner for all does the open batch wait for clients that were just answered: see
// gathering.ts.
//
//   turn:   data data data ──▶ open batch(es) ──▶ setImmediate ──▶ model.run ──▶ settle ──▶ replies leave
//
// With maxQueueDelayMs the open batch waits that long for more rows, counted from its first one, unless it fills up
// earlier. While a model runs (in a thread, say), the next batches gather behind it, at most `maxQueue` rows: see
// batch-queue.ts. A model can be swapped between two batches.

import { soon } from '../soon.js';
import { toError } from '../thrown.js';
import type { Batch, BatchEntry, BatchOutcome, Replies } from './batch.js';
import { BatchQueue, type QueueLimits } from './batch-queue.js';
import type { BatchSize } from './batch-size.js';
import { Gathering } from './gathering.js';
import { Lease } from './lease.js';
import type { Model } from './model.js';
import { Occupancy } from './occupancy.js';
import { bytesOfReply, checked, longestHoldMs } from './outcome.js';
import type { CloseReason, Queued } from './queued.js';
import { isWorthRetrying, retryRows } from './retry.js';

export interface BatcherLimits extends QueueLimits {
  /** Whether a failed batch is run again row by row, once, so that a bad row fails alone. */
  readonly retryRows: boolean;
}

/** Why a row may not wait for the model. */
export interface QueueRefusal {
  /** `full`: as many wait as may; `overloaded`: it would not be answered by its deadline. */
  readonly reason: 'full' | 'overloaded';
  /** When it is likely that a row may wait again, in milliseconds from then. */
  readonly retryAfterMs: number;
}

/** A client that has no rows. */
const nobody = {};

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

/**
 * To learn from each run would be a good part of what a run of one row costs, where it takes less than so many
 * milliseconds: after the first ones, one run in so many tells as much.
 */
const quickRunMs = 0.1;
const quickRunsANote = 16;
const firstNoted = 256;

/** As a share of its deadline: later, a request waits for no client that was just answered. */
const longestHold = 1 / 4;

export class Batcher {
  readonly #limits: BatcherLimits;
  readonly #observe: BatchObserver;
  readonly #queue: BatchQueue;
  #replyBytes = 0;
  /** Runs whose time was noted, and how many there are until the next one. */
  #noted = 0;
  #untilNoted = 1;
  readonly #occupancy = new Occupancy();
  #refusal: QueueRefusal = { reason: 'full', retryAfterMs: 0 };
  #isScheduled = false;
  /** The open batch gets its run, or may get it, when it has so many rows. */
  #wakeRows = 0;
  /** Null until a run has let others come while it lasted. */
  #gathering: Gathering | null = null;
  #holdTimer: NodeJS.Timeout | undefined;
  #hasOtherSources = true;
  /** When the event loop last ran other work. */
  #turnBegan = 0;

  /**
   * @param observe called with every batch just before its replies leave
   * @param size how many rows a run of this model may have
   */
  constructor(model: Model, limits: BatcherLimits, observe: BatchObserver, size: BatchSize) {
    this.#limits = limits;
    this.#observe = observe;
    this.#queue = new BatchQueue(new Lease(model, size), limits, () => this.#pump());
  }

  /** Whether the model that gets the next row accepts `source[start, end)`. */
  admits(source: Buffer, start: number, end: number): boolean {
    const { inputBytes } = this.#queue.lease.model;
    return end - start === inputBytes || (inputBytes === null && this.#accepts(source, start, end));
  }

  #accepts(source: Buffer, start: number, end: number): boolean {
    const { model } = this.#queue.lease;
    return model.accepts === undefined || model.accepts(source, start, end);
  }

  /** What the model that gets the next row takes, for people. */
  get expectedInput(): string {
    const { inputBytes, description } = this.#queue.lease.model;
    return inputBytes === null ? description : `${inputBytes} bytes (${description})`;
  }

  /** Bytes of a reply in the last batch that had one; 0 before that. */
  get replyBytes(): number {
    return this.#replyBytes;
  }

  /** Rows that wait for the model. */
  get queuedRows(): number {
    return this.#queue.rows;
  }

  /** Sets whether others may add rows in the same turn of the event loop; if not, waiting for its end gains nothing. */
  setHasOtherSources(hasOtherSources: boolean): void {
    this.#hasOtherSources = hasOtherSources;
  }

  /** Why the last row was refused, and when it would not be. */
  get refusal(): QueueRefusal {
    return this.#refusal;
  }

  /** How long the row of a client that has none in the queue would wait for its run, in milliseconds. */
  get predictedWaitMs(): number {
    return this.#waitMs(this.#queue.rowsBefore(nobody));
  }

  /**
   * The batch that takes the next row; null when it must be refused: see `refusal`.
   * @param client whose row it is: when much waits, clients take turns
   */
  openBatch(client: object): Batch | null {
    return this.#queue.rows >= this.#queue.sharedRows ? this.#openBehind(client) : this.#openShared();
  }

  #openShared(): Batch {
    const queue = this.#queue;
    const open = queue.openBatch();
    if (open.rows === 0) this.#begun(queue.openRows === 1);
    else if (open.rows + 1 === this.#wakeRows) this.#schedule();
    return open;
  }

  /** Behind what waits already, a row may be too late, or one too many. */
  #openBehind(client: object): Batch | null {
    const queue = this.#queue;
    if (queue.rows >= this.#limits.maxQueue) {
      this.#refusal = { reason: 'full', retryAfterMs: this.#waitMs(0) };
      return null;
    }
    // The rows of a turn that has begun are taken with it.
    const joined = queue.joinTurn(client);
    if (joined !== null) return joined;
    const before = queue.rowsBefore(client);
    const lateMs = this.#lateMs(before);
    if (lateMs > 0) {
      this.#refusal = { reason: 'overloaded', retryAfterMs: lateMs };
      return null;
    }
    if (queue.isShared) return this.#openShared();
    const turn = queue.beginTurn(client, before);
    this.#schedule();
    if (this.#occupancy.runs > 0) queue.watchDeadlines();
    return turn;
  }

  /**
   * By how many milliseconds a row behind so many is likely to miss its deadline; negative when it does not. An idle
   * model takes any, so that a wrong prediction is put right.
   */
  #lateMs(before: number): number {
    const queue = this.#queue;
    const { deadlineMs } = this.#limits;
    const isIdle = queue.rows === 0 && this.#occupancy.runs < queue.lease.model.concurrency;
    if (deadlineMs === 0 || isIdle) return Number.NEGATIVE_INFINITY;
    return this.#waitMs(before) + queue.neededMs - deadlineMs;
  }

  /** How long a row behind so many is likely to wait for its run, in milliseconds. */
  #waitMs(before: number): number {
    const { model, size } = this.#queue.lease;
    const { concurrency } = model;
    const runs = Math.floor(before / size.rows);
    const busyMs = this.#occupancy.busyMs(concurrency, performance.now(), runs % concurrency);
    return busyMs + Math.floor(runs / concurrency) * size.cost.msOf(size.rows);
  }

  /** Drops an entry of `batch` whose client has gone, and frees its place in the queue. */
  cancel(batch: Batch, entry: BatchEntry): void {
    this.#queue.cancel(batch, entry);
  }

  /** From now on, runs what is queued without waiting for more rows. */
  drain(): void {
    this.#queue.isDraining = true;
    if (this.#queue.rows > 0) this.#schedule();
  }

  /** Gives new rows to `model`; resolves when the old model has run its last batch and may be closed. */
  async swap(model: Model, size: BatchSize): Promise<void> {
    const old = this.#queue.lease;
    this.#gathering = null;
    this.#noted = 0;
    this.#untilNoted = 1;
    this.#queue.lease = new Lease(model, size);
    this.#schedule();
    await old.idle();
  }

  /** The open batch gets its first row. */
  #begun(isFull: boolean): void {
    this.#wakeRows = this.#queue.openRows;
    if (this.#limits.maxQueueDelayMs === 0 || this.#queue.isDraining || isFull)
      this.#schedule(this.#hasOtherSources ? setImmediate : soon);
    else this.#queue.startDelay();
    if (this.#occupancy.runs > 0) this.#queue.watchDeadlines();
  }

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
    const queue = this.#queue;
    while (this.#occupancy.runs < queue.lease.model.concurrency) {
      if (queue.rows > 0 && now - this.#turnBegan > longestHoldMs) {
        this.#schedule();
        return;
      }
      if (this.#gathering !== null && this.#isHeld(this.#gathering, now)) return;
      const queued = queue.take(now);
      if (queued === null) return;
      this.#gathering?.began(queued.batch.rows, queued.batch.newestAt, now);
      this.#run(queued);
      if (queue.rows > 0) now = performance.now();
    }
  }

  /** Whether the open batch waits for clients that were just answered; it is looked at again when that is over. */
  #isHeld(gathering: Gathering, now: number): boolean {
    const queue = this.#queue;
    const open = queue.onlyOpen;
    if (open === null || open.rows === 0 || queue.isDraining) return false;
    const until = gathering.holdUntil(queue.rows, queue.lease.size.rows);
    clearTimeout(this.#holdTimer);
    const { deadlineMs } = this.#limits;
    if (until <= now || (deadlineMs > 0 && until > open.oldestAt + deadlineMs * longestHold)) return false;
    this.#wakeRows = Math.min(queue.openRows, open.rows + gathering.wantedRows - queue.rows);
    this.#holdTimer = setTimeout(this.#onTurn, until - now);
    return true;
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
    else this.#finish(queued, startedAt, checked(queued.batch, replies), null);
  }

  async #await(queued: Queued, startedAt: number, replies: Promise<Replies>): Promise<void> {
    const { batch, lease } = queued;
    let outcome: BatchOutcome;
    let retriedRows: number | null = null;
    const run = this.#occupancy.begin(lease.size.cost, batch.rows, startedAt);
    this.#queue.watchDeadlines();
    try {
      outcome = checked(batch, await replies);
    } catch (error) {
      outcome = { kind: 'failed', error: toError(error) };
    }
    if (this.#limits.retryRows && isWorthRetrying(batch, outcome)) {
      const retried = await retryRows(lease.model, batch, outcome, this.#deadlineOf(batch));
      retriedRows = retried.runs;
      outcome = retried.outcome;
    }
    this.#occupancy.end(run);
    this.#finish(queued, startedAt, outcome, retriedRows);
    if (this.#limits.maxQueueDelayMs === 0 && lease.model.concurrency === 1 && lease === this.#queue.lease)
      this.#gather(batch);
    // The replies leave first: the next run may block this thread.
    queueMicrotask(() => this.#pump());
  }

  /** Takes note of who was answered and may soon ask again. */
  #gather({ rows, entries }: Batch): void {
    const queue = this.#queue;
    const now = performance.now();
    const open = queue.onlyOpen;
    this.#gathering ??= new Gathering();
    this.#gathering.answered({
      now,
      rows,
      waitedMs: entries.reduce((sum, entry) => sum + entry.rows * (now - entry.arrivedAt), 0),
      waiting: queue.rows,
      newestAt: open === null || open.rows === 0 ? now : open.newestAt,
      runMs: queue.lease.size.cost.msOf(rows + queue.rows),
    });
  }

  /** The deadline of its oldest row. */
  #deadlineOf(batch: Batch): number {
    const { deadlineMs } = this.#limits;
    return deadlineMs > 0 ? batch.oldestAt + deadlineMs : Number.POSITIVE_INFINITY;
  }

  /** @param isTrue whether it is the time of one run */
  #note({ size }: Lease, rows: number, isTrue: boolean, runMs: number): void {
    if (isTrue) size.ran(rows, runMs);
    this.#queue.update();
    this.#noted++;
    this.#untilNoted = this.#noted > firstNoted && size.cost.msOf(1) < quickRunMs ? quickRunsANote : 1;
  }

  /** @param retriedRows null: its first run is its last */
  #finish(
    { batch, lease, closedBy }: Queued,
    startedAt: number,
    outcome: BatchOutcome,
    retriedRows: number | null,
  ): void {
    const runMs = performance.now() - startedAt;
    if (--this.#untilNoted <= 0)
      this.#note(lease, batch.rows, outcome.kind !== 'failed' && retriedRows === null, runMs);
    this.#replyBytes = bytesOfReply(outcome) ?? this.#replyBytes;
    if (!lease.model.mayReplyWithInput) this.#queue.reuse(batch);
    lease.release();
    this.#observe({
      batch,
      outcome,
      modelRows: modelRows(lease.model, batch),
      closedBy,
      startedAt,
      runMs,
      retriedRows: retriedRows ?? 0,
    });
    batch.settle(outcome);
  }
}

function modelRows({ rowsIn }: Model, batch: Batch): number {
  if (rowsIn === undefined) return batch.rows;
  let rows = 0;
  for (let i = 0; i < batch.rows; i++) rows += rowsIn(batch.payload(i));
  return rows;
}
