// The runs of a model that are under way, and when the model is likely to be free for the next one.

import type { BatchCost } from './batch-cost.js';

/** A run that is under way. */
export interface RunUnderWay {
  /** When it is likely to end, by the monotonic clock. */
  readonly endsAt: number;
}

export class Occupancy {
  readonly #runs = new Set<RunUnderWay>();

  /** Runs that are under way. */
  get runs(): number {
    return this.#runs.size;
  }

  begin(cost: BatchCost, rows: number, startedAt: number): RunUnderWay {
    const run = { endsAt: startedAt + cost.msOf(rows) };
    this.#runs.add(run);
    return run;
  }

  end(run: RunUnderWay): void {
    this.#runs.delete(run);
  }

  /**
   * Milliseconds until one of `slots` is free for the next run; with `after`, for the one after so many others that start
   * first. A run that takes longer than is likely may end at any time.
   */
  busyMs(slots: number, now: number, after = 0): number {
    if (this.#runs.size + after < slots) return 0;
    const ends = [...this.#runs].map(({ endsAt }) => Math.max(0, endsAt - now)).sort((a, b) => a - b);
    return ends[after - (slots - ends.length)] ?? 0;
  }
}
