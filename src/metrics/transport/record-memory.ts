// A reader's memory of all records, so that totals never fall because a store forgot some: a record counts until
// another one contains it, not until it disappears.

import { liveRecordsOf } from '../merge.js';
import type { MetricsRecord } from '../snapshot.js';
import type { AgedRecord } from './transport.js';

interface Known {
  readonly record: MetricsRecord;
  /** When it was renewed, by the monotonic clock of this process. */
  readonly renewedAt: number;
}

export class RecordMemory {
  #known = new Map<string, Known>();
  #updatedAt = Number.NEGATIVE_INFINITY;

  /**
   * @param stored what the store has now, with ages by the store's clock, which may have been set meanwhile
   * @param now milliseconds of the monotonic clock
   * @returns `records`: all that count or that the store has; `forgotten`: those of them that the store has forgotten
   *   or has in an older version
   */
  update(
    stored: readonly AgedRecord[],
    now: number,
  ): {
    readonly records: readonly AgedRecord[];
    readonly forgotten: readonly AgedRecord[];
  } {
    const inStore = new Map(stored.map((entry) => [entry.record.id, entry]));
    const newest = new Map(this.#known);
    for (const { record, ageMs } of stored) {
      const known = this.#known.get(record.id);
      if (known === undefined || known.record.sequence < record.sequence)
        newest.set(record.id, { record, renewedAt: now - this.#ageOf(known, ageMs, now) });
    }
    for (const { id } of liveRecordsOf([...newest.values()].map(({ record }) => record)).superseded) {
      if (!inStore.has(id)) newest.delete(id);
    }
    this.#known = newest;
    this.#updatedAt = now;
    const records = [...newest.values()].map(({ record, renewedAt }) => ({ record, ageMs: now - renewedAt }));
    const forgotten = records.filter(({ record }) => (inStore.get(record.id)?.record.sequence ?? -1) < record.sequence);
    return { records, forgotten };
  }

  /** A record renewed since the last update is no older than that update, even if the store's clock was set since. */
  #ageOf(known: Known | undefined, ageMs: number, now: number): number {
    return Math.max(0, known === undefined ? ageMs : Math.min(ageMs, now - this.#updatedAt));
  }
}
