// How records get from the processes that count to those that show the counts. There are two implementations: Node's
// IPC (embedded) and Redis.

import type { MetricsRecord } from '../snapshot.js';

/** One atomic step: a reader sees either all of it or nothing. */
export interface RecordUpdate {
  readonly record: MetricsRecord;
  /** Ids of records that `record` replaces: they disappear in the same step. */
  readonly retires: readonly string[];
}

export interface RecordPublisher {
  /** Rejects when the record could not be sent on. Nothing is queued: the next record repeats everything. */
  publish(update: RecordUpdate): Promise<void>;
  close(): Promise<void>;
}

export interface AgedRecord {
  readonly record: MetricsRecord;
  /** Milliseconds since it was renewed, by one clock for all records. */
  readonly ageMs: number;
}

export interface RecordsSnapshot {
  /** The newest version of every record of the cluster. */
  readonly records: readonly AgedRecord[];
  /** Milliseconds since the epoch by that clock. */
  readonly now: number;
}

export interface RecordSource {
  /** Rejects when the records cannot be read. */
  read(): Promise<RecordsSnapshot>;
  close(): Promise<void>;
}

/** The newest version of each record and the time of its arrival, in memory. */
export class RecordStore {
  readonly #records = new Map<string, { record: MetricsRecord; at: number }>();

  apply({ record, retires }: RecordUpdate): void {
    const known = this.#records.get(record.id);
    if (known === undefined || known.record.sequence < record.sequence)
      this.#records.set(record.id, { record, at: performance.now() });
    for (const id of retires) this.#records.delete(id);
  }

  all(): readonly AgedRecord[] {
    const now = performance.now();
    return [...this.#records.values()].map(({ record, at }) => ({ record, ageMs: now - at }));
  }
}
