// What a reader has seen of all records, so that totals never fall because a store forgot: a record counts until
// another one contains it, not until it disappears.

import { census } from '../merge.js';
import type { MetricsRecord } from '../snapshot.js';
import type { SeenRecord } from './transport.js';

interface Known {
  readonly record: MetricsRecord;
  /** When it was renewed, by the monotonic clock of this process. */
  readonly renewedAt: number;
}

export class RecordMemory {
  #known = new Map<string, Known>();

  /**
   * @param stored what the store has now
   * @returns all records that count or that the store has; and those of them that the store has forgotten, or has an
   *   older version of
   */
  look(stored: readonly SeenRecord[]): {
    readonly seen: readonly SeenRecord[];
    readonly forgotten: readonly SeenRecord[];
  } {
    const now = performance.now();
    const inStore = new Map(stored.map((seen) => [seen.record.id, seen]));
    const newest = new Map<string, Known>();
    for (const { record, ageMs } of stored) newest.set(record.id, { record, renewedAt: now - ageMs });
    for (const [id, known] of this.#known) {
      const there = newest.get(id);
      if (there === undefined || there.record.sequence < known.record.sequence) newest.set(id, known);
    }
    for (const { id } of census([...newest.values()].map(({ record }) => record)).covered) {
      if (!inStore.has(id)) newest.delete(id);
    }
    this.#known = newest;
    const seen = [...newest.values()].map(({ record, renewedAt }) => ({ record, ageMs: now - renewedAt }));
    const forgotten = seen.filter(({ record }) => (inStore.get(record.id)?.record.sequence ?? -1) < record.sequence);
    return { seen, forgotten };
  }
}
