// A batch: rows of bytes from many connections that become one call of the model.

import { createRows, type Memory, noMemory, type Rows } from './rows.js';

/** Rows as a model reads them. */
export interface RowSource {
  readonly rows: number;
  /** Row `i` as a view, no copy. */
  payload(i: number): Buffer;
  /** Copies bytes [from, from + length) of row `i` to `target` at `at`. */
  copyRow(i: number, target: Uint8Array, at: number, from: number, length: number): void;
  /** All rows side by side, from the first byte on, where that is how they lie. */
  readonly packed?: ArrayBuffer | undefined;
}

/** Rows that one asker has in a batch, side by side; it is told what becomes of them, once. */
export interface BatchEntry {
  /** When the last of its bytes came, in milliseconds of the monotonic clock. */
  readonly arrivedAt: number;
  /** Requests that its rows are of. */
  readonly requests: number;
  readonly rows: number;
  /** Index of its first row. */
  readonly first: number;
  /** Its rows are at `first` of `batch` now. */
  moved(batch: Batch, first: number): void;
  /** The batch has its outcome. */
  settled(): void;
  /** Its deadline has passed; the model never sees it. */
  expired(): void;
}

/** What a model answered. `uniform` is for replies of one size side by side; `rows` for one of its own each. */
export type Replies =
  | {
      readonly kind: 'uniform';
      readonly bytes: Uint8Array;
      /** Bytes of one reply. */
      readonly rowBytes: number;
      /** Distance from one reply to the next in `bytes`: rowBytes, or 0 when all rows share one reply. */
      readonly stride: number;
    }
  | {
      readonly kind: 'rows';
      /** One entry a row, in order; an Error fails that row alone. */
      readonly rows: readonly (Uint8Array | Error)[];
    };

export type BatchOutcome = Replies | { readonly kind: 'failed'; readonly error: Error };

export class Batch implements RowSource {
  /** Set when the model has answered or failed. */
  outcome: BatchOutcome | null = null;
  /** Whether it has left the queue. */
  isTaken = false;
  /** The earliest arrival among its rows. */
  oldestAt = Number.POSITIVE_INFINITY;
  /** The latest one; entries come in the order of their arrival. */
  newestAt = Number.POSITIVE_INFINITY;
  readonly entries: BatchEntry[] = [];
  /** Null until there is one: most batches have none. */
  #cancelled: Set<BatchEntry> | null = null;
  readonly #rowBytes: number | null;
  readonly #rows: Rows;

  /**
   * @param rowBytes bytes of every row, or null when rows differ
   * @param memory for its rows to lie in, as long as it is large enough
   */
  constructor(rowBytes: number | null, memory: Memory = noMemory) {
    this.#rowBytes = rowBytes;
    this.#rows = createRows(rowBytes, memory);
  }

  get rows(): number {
    return this.#rows.count;
  }

  /** What its rows lie in. */
  get memory(): Memory {
    return this.#rows.memory;
  }

  get packed(): ArrayBuffer | undefined {
    return this.#rows.packed;
  }

  /** Announces an entry whose rows are added next. */
  enter(entry: BatchEntry): void {
    this.entries.push(entry);
    if (entry.arrivedAt < this.oldestAt) this.oldestAt = entry.arrivedAt;
    this.newestAt = entry.arrivedAt;
  }

  /** Adds the row `source[start, end)`; its index is `rows` before the call. `source` must not change before `keep`. */
  add(source: Buffer, start: number, end: number): void {
    this.#rows.add(source, start, end);
  }

  /** Copies what it was given since the last time: what the rows came in may be used for something else. */
  retain(): void {
    this.#rows.retain();
  }

  payload(i: number): Buffer {
    return this.#rows.payload(i);
  }

  copyRow(i: number, target: Uint8Array, at: number, from: number, length: number): void {
    this.#rows.copyRow(i, target, at, from, length);
  }

  /** Nobody waits for this entry any more. */
  cancel(entry: BatchEntry): void {
    this.#cancelled ??= new Set();
    this.#cancelled.add(entry);
  }

  get hasCancelled(): boolean {
    return this.#cancelled !== null;
  }

  /**
   * The rows that are still worth a run, as a batch of their own; entries that arrived before `arrivedBefore` have
   * expired. Returns those too, for them to be told when the queue is in order again.
   */
  withoutStale(arrivedBefore: number): { readonly batch: Batch; readonly expired: readonly BatchEntry[] } {
    const batch = new Batch(this.#rowBytes);
    const expired: BatchEntry[] = [];
    for (const entry of this.entries) {
      if (this.#cancelled?.has(entry)) continue;
      if (entry.arrivedAt < arrivedBefore) expired.push(entry);
      else this.#move(entry, batch);
    }
    return { batch, expired };
  }

  /** Takes entries of `other`, the first first, while there is room for them; returns what is left, if anything is. */
  absorb(other: Batch, maxRows: number): Batch | null {
    const rest = new Batch(this.#rowBytes);
    for (const entry of other.entries) {
      const fits = rest.rows === 0 && this.rows + entry.rows <= maxRows;
      other.#move(entry, fits ? this : rest);
    }
    return rest.rows > 0 ? rest : null;
  }

  /** Gives the batch its outcome and tells every entry, once. */
  settle(outcome: BatchOutcome): void {
    this.outcome = outcome;
    for (const entry of this.entries) entry.settled();
  }

  #move(entry: BatchEntry, batch: Batch): void {
    const first = batch.rows;
    batch.enter(entry);
    for (let i = entry.first; i < entry.first + entry.rows; i++) {
      const payload = this.payload(i);
      batch.add(payload, 0, payload.length);
    }
    batch.retain();
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
