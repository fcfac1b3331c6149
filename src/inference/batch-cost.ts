// How long a run takes, by the number of its rows: ms = b + a·n. A line is what runs of a batch come close to: each has
// a part that does not depend on its rows (the call, the graph, the hop to a thread), and each row adds the same.
//
// The line is fitted to runs of each order of magnitude (1, 2, 3–4, 5–8 … rows), each with the mean of its runs, so that
// many runs of one size cannot make the others forgotten. It starts from the curve that was measured when the model was
// loaded, and follows the runs after that: a machine gets busier, data gets harder. Since that makes runs of all sizes
// longer alike, but only some sizes are run now, the pace is kept apart: means are those of a machine that is as busy as
// it was at the start, and what is told is at the pace of the last runs.

/** Measured: a run of so many rows took so long. */
export interface CostPoint {
  readonly rows: number;
  readonly ms: number;
}

/** Runs of more than half as many rows as `upTo`, up to that. */
export interface MeasuredSize extends CostPoint {
  readonly upTo: number;
  /** What a run of `upTo` rows takes. */
  readonly mostMs: number;
}

interface Size {
  rows: number;
  /** At the pace of the start. */
  ms: number;
  runs: number;
  /** Of the last runs. */
  share: number;
  /** How many runs there were before its last one. */
  lastAt: number;
}

/** A run that takes more than so many times what was expected was held up: it counts as this much. */
const outlier = 2;
/** A mean is that of about the last so many runs. */
const meanOf = 64;
/** What share of the runs has a size is counted over about so many. */
const shareOf = 1024;
/** A large size that had no run among so many is forgotten: what it would take now is not known. */
const forgetAfter = 100_000;
/** The pace is that of about the last so many runs: well before a mean takes a busy machine for slower rows. */
const paceOf = 8;
/** The pace changes when runs are, on the whole, off by more than this share: then they tell nothing of their size. */
const steady = 0.1;
/** A run that was measured at the start is the quickest of some: it counts as so many. */
const measuredRuns = 4;
/** A mean of fewer runs tells nothing yet. */
const fewRuns = 2;
/** After so many runs the line is fitted again. */
const refitEvery = 16;
const quickRuns = 64;
/** The first runs of a model that was not measured: some of them load code. */
const firstRuns = 16;
/** Where the size of so many rows is: 1, 2, 3–4, 5–8 … */
const placeOf = (rows: number): number => 32 - Math.clz32(rows - 1);

/** Less than the clock of any machine can tell. */
const leastMs = 1e-6;

export class BatchCost {
  readonly #sizes: (Size | undefined)[] = [];
  #perRunMs = 0;
  #perRowMs = 0;
  /** How many times longer runs take than at the start. */
  #pace = 1;
  /** How far the last runs were off the pace, as a share of it: about 0 while it does not change. */
  #drift = 0;
  /** Mean deviation from the line, as a share of what it says. */
  #deviation = 0;
  #runs = 0;
  /** After so many runs there is a pace to compare with. */
  readonly #settled: number;

  /** @param measured any number of sizes; none: the cost is not known before the first run */
  constructor(measured: readonly CostPoint[] = []) {
    this.#settled = measured.length > 0 ? 0 : firstRuns;
    for (const { rows, ms } of measured) this.#note(rows, ms, measuredRuns);
    this.#refit();
  }

  /** Whether there was a run to learn from. */
  get isKnown(): boolean {
    return this.#sizes.length > 0;
  }

  /** Milliseconds that each run takes, whatever its rows. */
  get perRunMs(): number {
    return this.#pace * this.#perRunMs;
  }

  /** Milliseconds that each row adds. */
  get perRowMs(): number {
    return this.#pace * this.#perRowMs;
  }

  /** Runs of each size that was run more than once, the smallest first: how long one takes, by no line. */
  get sizes(): readonly MeasuredSize[] {
    return this.#sizes.flatMap((size, at) =>
      size === undefined || size.runs < fewRuns ? [] : [this.#measured(size, 2 ** at)],
    );
  }

  #measured({ rows, ms }: Size, upTo: number): MeasuredSize {
    const paced = this.#pace * ms;
    return { rows, ms: paced, upTo, mostMs: paced + this.perRowMs * (upTo - rows) };
  }

  /** Takes note of a run. */
  add(rows: number, ms: number): void {
    const expected = this.msOf(rows);
    const counted = expected > 0 ? Math.min(ms, outlier * Math.max(expected, 0.01)) : ms;
    if (expected > 0) this.#deviation += (Math.abs(counted / expected - 1) - this.#deviation) / 16;
    const size = this.#sizes[placeOf(rows)];
    if (size === undefined || this.#runs < this.#settled) this.#note(rows, counted / this.#pace, 1);
    else this.#compare(size, rows, counted);
    this.#runs++;
    if (this.#runs % refitEvery !== 0 && this.#runs >= quickRuns) return;
    this.#forget();
    this.#refit();
  }

  #forget(): void {
    const last = this.#sizes.at(-1);
    if (last !== undefined && this.#runs - last.lastAt <= forgetAfter) return;
    // The smallest one is kept: there is always a size that is known.
    if (this.#sizes.findIndex((size) => size !== undefined) < this.#sizes.length - 1) this.#sizes.pop();
  }

  /** Compares a run with those of its own size: that a line does not fit all sizes is no change of the pace. */
  #compare(size: Size, rows: number, ms: number): void {
    const expected = this.#pace * Math.max(size.ms + this.#perRowMs * (rows - size.rows), leastMs);
    const off = Math.min(ms / expected, outlier) - 1;
    this.#pace = Math.max(this.#pace * (1 + off / paceOf), leastMs);
    this.#drift += (off - this.#drift) / paceOf;
    if (Math.abs(this.#drift) > steady) return;
    size.runs = Math.min(size.runs + 1, meanOf);
    const change = off / size.runs;
    size.rows += (rows - size.rows) / size.runs;
    // What the sizes that are run have in common is the pace, else the others would seem to become quicker or slower.
    size.lastAt = this.#runs;
    let squares = 0;
    for (const other of this.#sizes) {
      if (other === undefined) continue;
      other.share += ((other === size ? 1 : 0) - other.share) / shareOf;
      squares += other.share ** 2;
    }
    const common = (change * size.share) / squares;
    for (const other of this.#sizes)
      if (other !== undefined) other.ms *= Math.exp((other === size ? change : 0) - common * other.share);
  }

  /** Milliseconds that a run of `rows` takes; 0 while nothing is known. */
  msOf(rows: number): number {
    return this.#pace * (this.#perRunMs + this.#perRowMs * rows);
  }

  /** Milliseconds that a run of `rows` rarely exceeds. */
  highMsOf(rows: number): number {
    return this.msOf(rows) * (1 + 4 * this.#deviation);
  }

  /** The most rows whose run rarely takes longer than `ms`; 0 where not even one is that quick. */
  rowsWithin(ms: number): number {
    const left = ms / (this.#pace * (1 + 4 * this.#deviation)) - this.#perRunMs;
    if (left < 0) return 0;
    return this.#perRowMs > 0 ? Math.floor(left / this.#perRowMs) : Number.POSITIVE_INFINITY;
  }

  /** @param runs how many it counts as */
  #note(rows: number, ms: number, runs: number): void {
    const at = placeOf(rows);
    const size = this.#sizes[at];
    if (size === undefined) {
      this.#sizes[at] = { rows, ms, runs, share: 0, lastAt: this.#runs };
      return;
    }
    size.lastAt = this.#runs;
    size.runs = Math.min(size.runs + runs, meanOf);
    const share = runs / size.runs;
    size.rows += (rows - size.rows) * share;
    size.ms += (ms - size.ms) * share;
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
      const weight = size.runs / Math.max(ms, leastMs) ** 2;
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
