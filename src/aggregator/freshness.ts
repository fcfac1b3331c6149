// How old each record is: the time since this aggregator saw its sequence move, by its own monotonic clock. The clocks
// of other machines play no part, so that skew between them does no harm.

import type { MetricsRecord } from '../metrics/snapshot.js';

export interface RecordAge {
  readonly ageMs: number;
  readonly state: 'up' | 'stale' | 'down';
  /** Gone for so long that lists leave it out; its counts stay in the totals for ever. */
  readonly isForgotten: boolean;
}

const forgottenAfterMs = 60_000;

export class Freshness {
  readonly #staleAfterMs: number;
  readonly #downAfterMs: number;
  #seen = new Map<string, { sequence: number; at: number }>();

  constructor(publishIntervalMs: number) {
    this.#staleAfterMs = Math.max(1000, 4 * publishIntervalMs);
    this.#downAfterMs = Math.max(5000, 20 * publishIntervalMs);
  }

  observe(records: readonly MetricsRecord[], now: number): ReadonlyMap<string, RecordAge> {
    const seen = new Map<string, { sequence: number; at: number }>();
    const ages = new Map<string, RecordAge>();
    for (const { id, sequence } of records) {
      const known = this.#seen.get(id);
      const last = known?.sequence === sequence ? known : { sequence, at: now };
      seen.set(id, last);
      ages.set(id, this.#age(now - last.at));
    }
    this.#seen = seen;
    return ages;
  }

  #age(ageMs: number): RecordAge {
    const state = ageMs >= this.#downAfterMs ? 'down' : ageMs >= this.#staleAfterMs ? 'stale' : 'up';
    return { ageMs, state, isForgotten: ageMs >= forgottenAfterMs };
  }
}
