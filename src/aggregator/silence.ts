// How long each run of a node has been silent, as far as this aggregator has observed it by its own clock. Heartbeats
// in Redis are not enough to declare a node gone: after an outage longer than the retention, a step of Redis's clock,
// or from a restored dump, they are old although the node lives. So only time counts in which this aggregator could
// read the records and found none of the run renewed.

import type { MetricsRecord } from '../metrics/snapshot.js';

interface Watched {
  silentMs: number;
  /** By id, the newest sequence of its records. */
  readonly sequences: Map<string, number>;
}

export class SilenceWatch {
  readonly #maxStepMs: number;
  readonly #runs = new Map<string, Watched>();
  #polledAt: number | null = null;

  /** @param maxStepMs of a longer time between two polls, only this much counts as observed */
  constructor(maxStepMs: number) {
    this.#maxStepMs = maxStepMs;
  }

  /** The records could be read. @param now milliseconds of the monotonic clock */
  saw(records: readonly MetricsRecord[], now: number): void {
    const stepMs = this.#polledAt === null ? 0 : Math.min(now - this.#polledAt, this.#maxStepMs);
    this.#polledAt = now;
    const there = new Set<string>();
    const heard = new Set<string>();
    for (const record of records) {
      if (record.kind !== 'node' && record.kind !== 'worker') continue;
      const { run, id, sequence } = record;
      there.add(run);
      const watched = this.#runs.get(run) ?? { silentMs: 0, sequences: new Map() };
      if (sequence > (watched.sequences.get(id) ?? -1)) {
        watched.sequences.set(id, sequence);
        heard.add(run);
      }
      this.#runs.set(run, watched);
    }
    for (const [run, watched] of this.#runs) {
      if (!there.has(run)) this.#runs.delete(run);
      else watched.silentMs = heard.has(run) ? 0 : watched.silentMs + stepMs;
    }
  }

  /** The records could not be read: a run that was silent meanwhile may not have been able to publish. */
  sawNothing(): void {
    this.#polledAt = null;
    for (const watched of this.#runs.values()) watched.silentMs = 0;
  }

  /** Runs that have been silent for this long. */
  silentFor(ms: number): ReadonlySet<string> {
    return new Set([...this.#runs].filter(([, { silentMs }]) => silentMs > ms).map(([run]) => run));
  }
}
