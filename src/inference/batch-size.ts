// How many rows a run of a model may have, now.

import { BatchCost } from './batch-cost.js';

export interface BatchSize {
  /** The most rows in a run. It may change from run to run; never 0. */
  readonly rows: number;
  /** Why it is not more; for logs, `inspect` and metrics. */
  readonly reason: string;
  readonly cost: BatchCost;
  /** Takes note of a run that the model has answered. */
  ran(rows: number, ms: number): void;
}

/** How long a run may take, and what says so. */
export interface TimeLimit {
  readonly ms: number;
  readonly because: string;
}

/**
 * What a run may take where one row alone takes `oneMs`: where that is too long already, more rows may share it that add
 * little. To run them one by one would take many times as long, and most of all when the machine is busiest.
 */
export const atLeast = (limitMs: number, oneMs: number): number => Math.max(limitMs, 1.25 * oneMs);

export const noLimit: TimeLimit = { ms: Number.POSITIVE_INFINITY, because: '' };

/** As config says; fewer where so many rarely take no longer than `longest`. */
export function fixedBatchSize(
  most: number,
  cost = new BatchCost(),
  longest: TimeLimit = noLimit,
  because = 'maxBatchSize',
): BatchSize {
  return new FixedBatchSize(most, cost, longest, because);
}

/** After so many runs the rows are counted again. */
const recountEvery = 16;

class FixedBatchSize implements BatchSize {
  readonly cost: BatchCost;
  readonly #most: number;
  readonly #longest: TimeLimit;
  readonly #because: string;
  #rows = 1;
  #runs = 0;

  constructor(most: number, cost: BatchCost, longest: TimeLimit, because: string) {
    this.#most = most;
    this.cost = cost;
    this.#longest = longest;
    this.#because = because;
    this.#count();
  }

  get rows(): number {
    return this.#rows;
  }

  get reason(): string {
    return this.#rows < this.#most ? this.#longest.because : this.#because;
  }

  ran(rows: number, ms: number): void {
    this.cost.add(rows, ms);
    this.#runs++;
    // The first run of a model that could not be measured may show that its rows are slow.
    if (this.#runs % recountEvery === 0 || this.#runs < recountEvery) this.#count();
  }

  #count(): void {
    const { cost } = this;
    const within = cost.isKnown ? cost.rowsWithin(atLeast(this.#longest.ms, cost.highMsOf(1))) : this.#most;
    this.#rows = Math.max(1, Math.min(this.#most, within));
  }
}
