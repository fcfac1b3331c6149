// The rows that wait for a model. As long as they are few, all clients share batches: the open one takes the next row;
// those that are closed wait for their run, the oldest first. What comes when more waits than is quickly done is put in
// a line, in which clients take turns (line.ts): so one with thousands of requests does not make the others late.
//
//   row ─▶ few wait?  ─ yes ─▶ open ─▶ closed ─▶ closed ─┐
//              └─ no, or the line is not empty ─▶ line ──┴▶ run
//
// A row that could only be answered after its deadline, or whose client has gone, never costs a run. What was queued
// for a model that was replaced since is run by that model.

import { Batch, type BatchEntry } from './batch.js';
import type { Lease } from './lease.js';
import { Line } from './line.js';
import { longestHoldMs } from './outcome.js';
import type { CloseReason, Queued } from './queued.js';
import { SpareMemory } from './spare-memory.js';

export interface QueueLimits {
  /** Rows that may wait for the model. */
  readonly maxQueue: number;
  /** How long an open batch waits for more rows; 0: until the end of the event-loop turn. */
  readonly maxQueueDelayMs: number;
  /** The longest time from a request's arrival to its reply, beyond which it is not worth a run; 0: no limit. */
  readonly deadlineMs: number;
}

/** A batch has turns of up to so many clients; fewer if it is quick, since each client's replies are sent by themselves. */
const turnsABatch = 8;
const leastTurnMs = 0.1;
/**
 * The part of the deadline that is kept for the way to the client: less when a run begins than when a request is admitted,
 * since one that has waited a little longer than predicted is still worth a run.
 */
const wayBack = 1 / 40;
const wayBackAtFirst = 1 / 20;

export class BatchQueue {
  /** Rows that wait. */
  rows = 0;
  /** As long as fewer wait, a row joins the batches that all share, and is in time. */
  sharedRows = 0;
  /** The most rows of the batch that takes the next row. */
  openRows: number;
  /** Whether nothing waits for more rows. */
  isDraining = false;
  readonly #limits: QueueLimits;
  readonly #onDelayOver: () => void;
  /** As many rows may wait in the batches that all share. */
  #quickRows = 1;
  /** The most rows of a turn. */
  #turnRows = 1;
  readonly #closed: Queued[] = [];
  readonly #line = new Line();
  readonly #memory = new SpareMemory();
  #lease: Lease;
  #open: Batch;
  #delayTimer: NodeJS.Timeout | undefined;
  #isDelayOver = false;
  #sweepTimer: NodeJS.Timeout | undefined;

  /** @param onDelayOver called when the open batch has waited long enough */
  constructor(lease: Lease, limits: QueueLimits, onDelayOver: () => void) {
    this.#lease = lease;
    this.#limits = limits;
    this.#onDelayOver = onDelayOver;
    this.#open = new Batch(lease.model.inputBytes);
    this.openRows = lease.size.rows;
    this.update();
  }

  /** Of the model that gets the next row. */
  get lease(): Lease {
    return this.#lease;
  }

  /** What comes from now on is for another model. */
  set lease(lease: Lease) {
    if (this.#open.rows > 0) this.#closed.push(this.#close('drain'));
    this.#lease = lease;
    this.#open = new Batch(lease.model.inputBytes);
    this.update();
  }

  /** The open batch, if nothing else waits; null otherwise. */
  get onlyOpen(): Batch | null {
    return this.#closed.length === 0 && this.#line.isEmpty ? this.#open : null;
  }

  /** Takes note of what is known of the model, and of the line: to be called when a run has told more. */
  update(): void {
    const { rows, cost } = this.#lease.size;
    const ms = cost.msOf(rows);
    const { maxQueue, deadlineMs } = this.#limits;
    this.#quickRows = Math.min(maxQueue, ms > 0 ? Math.max(rows, Math.floor((rows * longestHoldMs) / ms)) : rows);
    const turns = ms > 0 ? Math.min(turnsABatch, Math.max(1, Math.floor(ms / leastTurnMs))) : turnsABatch;
    this.#turnRows = Math.max(1, Math.floor(rows / turns));
    // Behind a run under way and all that is shared, a request is in time, or each is looked at.
    const isInTime =
      deadlineMs === 0 ||
      ms + Math.max(ms, longestHoldMs) + this.#neededMs(this.#lease, rows, wayBackAtFirst) < deadlineMs;
    this.sharedRows = this.#line.isEmpty && isInTime ? this.#quickRows : 0;
  }

  /** The batch that takes the next row, if fewer than `sharedRows` wait: it counts as waiting from here on. */
  openBatch(): Batch {
    if (this.#open.rows >= this.openRows) this.#closed.push(this.#close('full'));
    if (this.#open.rows === 0) this.openRows = this.#lease.size.rows;
    this.rows++;
    return this.#open;
  }

  /** Whether a row joins the batches that all share. */
  get isShared(): boolean {
    return this.#line.isEmpty && this.rows < this.#quickRows;
  }

  /** The batch that takes the next row of a client in the turn that it has in the line already; null when it has none. */
  joinTurn(client: object): Batch | null {
    const batch = this.#line.isEmpty ? null : this.#line.join(client, this.#lease);
    if (batch !== null) this.rows++;
    return batch;
  }

  /**
   * The batch that takes the next row of a client, as its next turn.
   * @param before the rows that go before it: with a deadline, a turn ends where a run does, so that all of it waits as
   *   long as its first row
   */
  beginTurn(client: object, before: number): Batch {
    this.rows++;
    this.sharedRows = 0;
    const { rows } = this.#lease.size;
    const maxRows = this.#limits.deadlineMs === 0 ? this.#turnRows : Math.min(this.#turnRows, rows - (before % rows));
    return this.#line.begin(client, this.#lease, maxRows, this.#memory.take());
  }

  /** Rows that go before the next turn of a client. */
  rowsBefore(client: object): number {
    return this.rows - this.#line.rows + this.#line.rowsBefore(client);
  }

  /** Milliseconds that must be left of the deadline of the next row when its run begins. */
  get neededMs(): number {
    return this.#neededMs(this.#lease, this.rows + 1, wayBackAtFirst);
  }

  /** Has the open batch, which gets its first row, wait for more. */
  startDelay(): void {
    this.#delayTimer ??= setTimeout(this.#delayOver, this.#limits.maxQueueDelayMs);
  }

  readonly #delayOver = (): void => {
    this.#delayTimer = undefined;
    this.#isDelayOver = true;
    this.#onDelayOver();
  };

  /** Drops an entry of `batch` whose client has gone, and frees its place. */
  cancel(batch: Batch, entry: BatchEntry): void {
    if (batch.isTaken) return;
    batch.cancel(entry);
    this.rows -= entry.rows;
  }

  /** Takes the next batch that is due, without cancelled and expired rows; null when there is none. */
  take(now: number): Queued | null {
    for (;;) {
      const queued = this.#nextDue();
      if (queued === null) break;
      const live = this.#withoutStale(queued, now);
      if (live.rows === 0) queued.lease.release();
      else {
        const { lease } = queued;
        const maxRows = this.#maxRows(lease, live, now);
        const isCopied = live.rows > maxRows || (this.#isTurn(queued) && live.rows < maxRows);
        const batch = isCopied ? this.#inRoom(queued, live, maxRows) : live;
        batch.isTaken = true;
        this.#fill(batch, lease, maxRows, now);
        this.rows -= batch.rows;
        if (this.sharedRows === 0) this.update();
        return { batch, lease, closedBy: batch.rows >= maxRows ? 'full' : queued.closedBy };
      }
    }
    if (this.sharedRows === 0) this.update();
    return null;
  }

  /** The batch has been run: its memory may hold another. */
  reuse({ memory }: Batch): void {
    this.#memory.keep(memory);
  }

  /** Makes rows behind a run that does not end expire at their deadline, not when the run ends. */
  watchDeadlines(): void {
    const { deadlineMs } = this.#limits;
    if (deadlineMs === 0 || this.#sweepTimer !== undefined || this.rows === 0) return;
    this.#sweepTimer = setTimeout(this.#sweep, deadlineMs / 4);
    this.#sweepTimer.unref();
  }

  readonly #sweep = (): void => {
    this.#sweepTimer = undefined;
    const now = performance.now();
    const arrivedBefore = now - this.#limits.deadlineMs;
    for (;;) {
      if (this.#closed.length === 0 && this.#open.newestAt < arrivedBefore) this.#closed.push(this.#close('turn'));
      const [queued] = this.#closed;
      if (queued === undefined || queued.batch.newestAt >= arrivedBefore) break;
      this.#closed.shift();
      this.#withoutStale(queued, now);
      queued.lease.release();
    }
    for (const turn of this.#line.takeOlder(arrivedBefore)) {
      this.#withoutStale(turn, now);
      turn.lease.release();
    }
    this.update();
    this.watchDeadlines();
  };

  /**
   * As many as the size of a batch allows; fewer if only those are likely to be answered in time, since runs have become
   * slower. Where not even one is, all are tried: smaller runs would serve fewer and be late too.
   */
  #maxRows({ size }: Lease, { oldestAt }: Batch, now: number): number {
    const { deadlineMs } = this.#limits;
    if (deadlineMs === 0) return size.rows;
    const leftMs = oldestAt + deadlineMs - now - deadlineMs * wayBack;
    const within = size.cost.rowsWithin(leftMs);
    return within < 1 ? size.rows : Math.min(size.rows, within);
  }

  /** The first of these rows in a batch that has room for those of others; the rest is next. */
  #inRoom(queued: Queued, live: Batch, maxRows: number): Batch {
    const { lease } = queued;
    const batch = new Batch(lease.model.inputBytes, this.#memory.take());
    const rest = batch.absorb(live, maxRows);
    if (rest !== null) {
      lease.take();
      this.#closed.unshift({ ...queued, batch: rest });
    }
    this.#memory.keep(live.memory);
    return batch;
  }

  #isTurn({ batch }: Queued): boolean {
    return batch.place !== null;
  }

  /** Fills a batch that has lost rows with those of the next ones: overload must not make batches smaller. */
  #fill(batch: Batch, lease: Lease, maxRows: number, now: number): void {
    while (batch.rows < maxRows) {
      const next = this.#nextDue();
      if (next === null) return;
      if (next.lease !== lease) {
        next.batch.isTaken = false;
        next.batch.place = null;
        this.#closed.unshift(next);
        return;
      }
      const rest = batch.absorb(this.#withoutStale(next, now), maxRows);
      if (this.#isTurn(next)) this.#memory.keep(next.batch.memory);
      if (rest === null) lease.release();
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
    return reason === null ? this.#line.take() : this.#close(reason);
  }

  #reasonToClose(): CloseReason | null {
    const { rows } = this.#open;
    if (rows === 0) return null;
    if (rows >= this.openRows || !this.#line.isEmpty) return 'full';
    if (this.isDraining) return 'drain';
    if (this.#limits.maxQueueDelayMs === 0) return 'turn';
    return this.#isDelayOver ? 'delay' : null;
  }

  /** Begins a new batch; returns the one that was open, which is in no queue then. */
  #close(closedBy: CloseReason): Queued {
    const queued = { batch: this.#open, lease: this.#lease, closedBy };
    this.#lease.take();
    this.#open = new Batch(this.#lease.model.inputBytes, this.#memory.take());
    this.#isDelayOver = false;
    clearTimeout(this.#delayTimer);
    this.#delayTimer = undefined;
    return queued;
  }

  /** The rows of a batch that are still worth a run; the entries that are too late expire. */
  #withoutStale({ batch, lease }: Queued, now: number): Batch {
    const arrivedBefore = this.#arrivedTooEarly(lease, now);
    if (!batch.hasCancelled && batch.oldestAt >= arrivedBefore) return batch;
    const { batch: live, expired } = batch.withoutStale(arrivedBefore);
    batch.isTaken = true;
    for (const entry of expired) this.rows -= entry.rows;
    for (const entry of expired) entry.expired();
    return live;
  }

  /**
   * A request that arrived before this time would be answered too late: the run and the way to the client take time. A
   * fresh request is tried, however slow the last runs were.
   */
  #arrivedTooEarly(lease: Lease, now: number): number {
    const { deadlineMs } = this.#limits;
    if (deadlineMs === 0) return Number.NEGATIVE_INFINITY;
    return now - deadlineMs + this.#neededMs(lease, this.rows, wayBack);
  }

  /** Milliseconds that a run takes behind which so many rows wait, and the way to the client. */
  #neededMs({ size }: Lease, rows: number, share: number): number {
    const { deadlineMs } = this.#limits;
    return Math.min(size.cost.highMsOf(Math.min(rows, size.rows)) + deadlineMs * share, deadlineMs / 2);
  }
}
