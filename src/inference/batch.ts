// A batch: rows of bytes from many connections that become one call of the model.

import { createRows, type Memory, noMemory, type Rows } from './rows.js';

/** Rows as a model reads them. */
export interface RowSource {
  readonly rows: number;
  /** Row `i` as a view, no copy. */
  payload(i: number): Buffer;
  /** Copies bytes [from, from + length) of row `i` to `target` at `at`. */
  copyRow(i: number, target: Uint8Array, at: number, from: number, length: number): void;
  /** All rows side by side, from the first byte on, if they are stored like that. */
  readonly packed?: ArrayBuffer | undefined;
  /** Hands over the memory of `packed`: the rows cannot be read before `giveBack`. Null: there is nothing to lend. */
  lend?(): ArrayBuffer | null;
  giveBack?(lent: ArrayBuffer): void;
}

/** The rows that one request group has in a batch, side by side; it gets their outcome once. */
export interface BatchEntry {
  /** When its last byte arrived, in milliseconds of the monotonic clock. */
  readonly arrivedAt: number;
  /** How many requests its rows belong to. */
  readonly requests: number;
  readonly rows: number;
  /** Index of its first row. */
  readonly first: number;
  /** Keeps its first `rows` rows; returns an entry of the others, to be answered right after it. */
  split(rows: number): BatchEntry;
  /** Its rows are at `first` of `batch` now. */
  moved(batch: Batch, first: number): void;
  /** The batch has its outcome. */
  settled(): void;
  /** Its deadline has passed; the model never sees it. */
  expired(): void;
}

/** The dimensions of each output in a reply. */
export type ReplyDims = readonly (readonly number[])[];

/**
 * What a model answered: `uniform` for replies of one size side by side, `rows` for separate replies. Where the plan of a
 * model and the shape of a request do not tell the dimensions of its outputs, they are in `dims`: the bytes of a reply
 * alone would not say where one output ends.
 */
export type Replies =
  | {
      readonly kind: 'uniform';
      readonly bytes: Uint8Array;
      /** Bytes of one reply. */
      readonly rowBytes: number;
      /** Distance from one reply to the next in `bytes`: rowBytes, or 0 when all rows share one reply. */
      readonly stride: number;
      /** Of each of the replies. */
      readonly dims?: ReplyDims;
    }
  | {
      readonly kind: 'rows';
      /** One entry a row, in order; an Error fails that row alone. */
      readonly rows: readonly (Uint8Array | Error)[];
      /** One entry a row, in order; null: the plan and the request tell. */
      readonly dims?: readonly (ReplyDims | null)[];
    };

export type BatchOutcome = Replies | { readonly kind: 'failed'; readonly error: Error };

export class Batch implements RowSource {
  /** Set when the model has answered or failed. */
  outcome: BatchOutcome | null = null;
  /** Whether it has left the queue. */
  isTaken = false;
  /** Where its rows are counted while they wait, if it is the turn of a client. */
  place: { left(rows: number): void } | null = null;
  /** The earliest arrival among its rows. */
  oldestAt = Number.POSITIVE_INFINITY;
  /** The latest arrival among its rows; infinite as long as there is none. */
  newestAt = Number.POSITIVE_INFINITY;
  #entries: BatchEntry[] = [];
  /** Null until an entry is cancelled: in most batches none is. */
  #cancelled: Set<BatchEntry> | null = null;
  #cancelledRows = 0;
  readonly #rowBytes: number | null;
  readonly #rows: Rows;

  /**
   * @param rowBytes bytes of every row, or null when rows differ
   * @param memory holds the rows as long as it is large enough
   */
  constructor(rowBytes: number | null, memory: Memory = noMemory) {
    this.#rowBytes = rowBytes;
    this.#rows = createRows(rowBytes, memory);
  }

  get entries(): readonly BatchEntry[] {
    return this.#entries;
  }

  get rows(): number {
    return this.#rows.count;
  }

  /** The memory that holds its rows. */
  get memory(): Memory {
    return this.#rows.memory;
  }

  get packed(): ArrayBuffer | undefined {
    return this.#rows.packed;
  }

  lend(): ArrayBuffer | null {
    return this.#rows.lend();
  }

  giveBack(lent: ArrayBuffer): void {
    this.#rows.giveBack(lent);
  }

  /** Announces an entry whose rows are added next. */
  enter(entry: BatchEntry): void {
    // `[one]` allocates room for one element; a push to an empty array allocates room for seventeen.
    if (this.#entries.length > 0) {
      this.#entries.push(entry);
      if (entry.arrivedAt > this.newestAt) this.newestAt = entry.arrivedAt;
    } else {
      this.#entries = [entry];
      this.newestAt = entry.arrivedAt;
    }
    if (entry.arrivedAt < this.oldestAt) this.oldestAt = entry.arrivedAt;
  }

  /** Adds the row `source[start, end)`, as row `rows`. `source` must not change before the next `retain`. */
  add(source: Buffer, start: number, end: number): void {
    this.#rows.add(source, start, end);
  }

  /** Copies what was added since the last call: the buffers that the rows came in may then be reused. */
  retain(): void {
    this.#rows.retain();
  }

  payload(i: number): Buffer {
    return this.#rows.payload(i);
  }

  copyRow(i: number, target: Uint8Array, at: number, from: number, length: number): void {
    this.#rows.copyRow(i, target, at, from, length);
  }

  /** Marks an entry whose client has gone. */
  cancel(entry: BatchEntry): void {
    this.#cancelled ??= new Set();
    this.#cancelled.add(entry);
    this.#cancelledRows += entry.rows;
    this.place?.left(entry.rows);
  }

  /** Rows whose clients have not gone. */
  get liveRows(): number {
    return this.rows - this.#cancelledRows;
  }

  get hasCancelled(): boolean {
    return this.#cancelled !== null;
  }

  /**
   * The rows that are still worth a run, as a new batch, and the entries that have expired, as they arrived before
   * `arrivedBefore`. The caller tells those once the queue is consistent again.
   */
  withoutStale(arrivedBefore: number): { readonly batch: Batch; readonly expired: readonly BatchEntry[] } {
    const batch = new Batch(this.#rowBytes);
    const expired: BatchEntry[] = [];
    for (const entry of this.#entries) {
      if (this.#cancelled?.has(entry)) continue;
      if (entry.arrivedAt < arrivedBefore) expired.push(entry);
      else this.#move(entry, batch);
    }
    return { batch, expired };
  }

  /** Takes rows of `other` in order until it has `maxRows`; returns the rest, or null when none is left. */
  absorb(other: Batch, maxRows: number): Batch | null {
    const rest = new Batch(this.#rowBytes);
    for (const entry of other.#entries) {
      const room = maxRows - this.rows;
      const beyond = room > 0 && entry.rows > room ? entry.split(room) : null;
      other.#move(entry, room > 0 ? this : rest);
      if (beyond !== null) other.#move(beyond, rest);
    }
    return rest.rows > 0 ? rest : null;
  }

  /** Sets the outcome of the batch and tells every entry, once. */
  settle(outcome: BatchOutcome): void {
    this.outcome = outcome;
    for (const entry of this.#entries) entry.settled();
  }

  #move(entry: BatchEntry, batch: Batch): void {
    const first = batch.rows;
    batch.enter(entry);
    batch.#rows.append(this.#rows, entry.first, entry.rows);
    entry.moved(batch, first);
  }
}

/** One row of a source, as a source. */
export function singleRow(source: RowSource, row: number): RowSource {
  return {
    rows: 1,
    payload: () => source.payload(row),
    copyRow: (_, target, at, from, length) => source.copyRow(row, target, at, from, length),
  };
}
