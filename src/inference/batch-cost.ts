// How long a run takes, by the number of its rows: ms = b + a·n. A line is what runs of a batch come close to: each has
// a part that does not depend on its rows (the call, the graph, the hop to a thread), and each row adds the same.
//
// The line is fitted to runs of each order of magnitude (1, 2, 3–4, 5–8 … rows), each with the mean of its last runs, so
// that many runs of one size cannot make the others forgotten. It starts from the curve that was measured when the model
// was loaded, and follows the runs after that: a machine gets busier, data gets harder.

/** Measured: a run of so many rows took so long. */
export interface CostPoint {
  readonly rows: number;
  readonly ms: number;
}

/** Runs of a size whose mean is the mean of the last few of them. */
interface Size {
  rows: number;
  ms: number;
  /** How much it says about the line: 1 for measured at load, then up to `mostWeight`. */
  weight: number;
}

/** A run that takes more than so many times what was expected was held up: it counts as this much. */
const outlier = 4;
const mostWeight = 16;
/** After so many runs the line is fitted again. */
const refitEvery = 16;
const quickRuns = 64;

export class BatchCost {
  #sizes: (Size | undefined)[] = [];
  #perRunMs = 0;
  #perRowMs = 0;
  /** Mean deviation from the line, as a share of what it says. */
  #deviation = 0;
  #runs = 0;

  /** @param measured any number of sizes; none: the cost is not known before the first run */
  constructor(measured: readonly CostPoint[] = []) {
    for (const { rows, ms } of measured) this.#note(rows, ms, 1);
    this.#refit();
  }

  /** Whether there was a run to learn from. */
  get isKnown(): boolean {
    return this.#sizes.length > 0;
  }

  /** Milliseconds that each run takes, whatever its rows. */
  get perRunMs(): number {
    return this.#perRunMs;
  }

  /** Milliseconds that each row adds. */
  get perRowMs(): number {
    return this.#perRowMs;
  }

  /** Takes note of a run. */
  add(rows: number, ms: number): void {
    const expected = this.msOf(rows);
    const counted = this.isKnown ? Math.min(ms, outlier * Math.max(expected, 0.01)) : ms;
    if (expected > 0) this.#deviation += (Math.abs(counted / expected - 1) - this.#deviation) / 16;
    this.#note(rows, counted, 1 / 8);
    this.#runs++;
    if (this.#runs % refitEvery === 0 || this.#runs < quickRuns) this.#refit();
  }

  /** Milliseconds that a run of `rows` takes; 0 while nothing is known. */
  msOf(rows: number): number {
    return this.#perRunMs + this.#perRowMs * rows;
  }

  /** Milliseconds that a run of `rows` rarely exceeds. */
  highMsOf(rows: number): number {
    return this.msOf(rows) * (1 + 4 * this.#deviation);
  }

  /** The most rows whose run rarely takes longer than `ms`; 0 where not even one is that quick. */
  rowsWithin(ms: number): number {
    const left = ms / (1 + 4 * this.#deviation) - this.#perRunMs;
    if (left < 0) return 0;
    return this.#perRowMs > 0 ? Math.floor(left / this.#perRowMs) : Number.POSITIVE_INFINITY;
  }

  /** @param share how far the mean moves to this run */
  #note(rows: number, ms: number, share: number): void {
    const at = 32 - Math.clz32(rows - 1);
    const size = this.#sizes[at];
    if (size === undefined) {
      this.#sizes[at] = { rows, ms, weight: 1 };
      return;
    }
    size.rows += (rows - size.rows) * share;
    size.ms += (ms - size.ms) * share;
    size.weight = Math.min(size.weight + 1 / 8, mostWeight);
  }

  /** Least squares of the relative error, so that a run of one row counts as much as a full batch. */
  #refit(): void {
    let w = 0;
    let wn = 0;
    let wnn = 0;
    let wt = 0;
    let wnt = 0;
    for (const size of this.#sizes) {
      if (size === undefined) continue;
      const { rows, ms } = size;
      const weight = size.weight / Math.max(ms, 1e-6) ** 2;
      w += weight;
      wn += weight * rows;
      wnn += weight * rows * rows;
      wt += weight * ms;
      wnt += weight * rows * ms;
    }
    if (w === 0) return;
    const determinant = w * wnn - wn * wn;
    // Runs of one size alone tell no slope: all of it is taken to be the rows', which never promises too much of a
    // larger batch.
    if (determinant <= 1e-9 * w * wnn) {
      this.#set(0, wt / wn);
      return;
    }
    const perRow = (w * wnt - wn * wt) / determinant;
    const perRun = (wt - perRow * wn) / w;
    if (perRow < 0) this.#set(wt / w, 0);
    else if (perRun < 0) this.#set(0, wnt / wnn);
    else this.#set(perRun, perRow);
  }

  #set(perRunMs: number, perRowMs: number): void {
    this.#perRunMs = perRunMs;
    this.#perRowMs = perRowMs;
  }
}
