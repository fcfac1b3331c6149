// Whether a run is worth waiting for the clients that were just answered.
//
// A model in a thread runs while requests come. Four clients that ask again as soon as they are answered then easily end
// up in two runs that take turns, one of 1 row and one of 3: each run begins just before those come back whose replies
// have left a moment ago. A run costs something whatever its rows are, so one run of 4 would serve all of them sooner,
// if they are back soon.
//
//   go:    ▐ 1 ▌▐── 3 ──▌▐ 1 ▌▐── 3 ──▌         hold:  ▐─── 4 ───▌··▐─── 4 ───▌··       · waiting for clients
//
// How long the clients take to come back is measured all the time, also without waiting for them. When that is less than
// a third of a run, both ways are tried in turns, some runs each, and the one with the lower mean time from arrival to
// answer is kept; the other is tried again now and then. A calculation in place of the trial would have to know what the
// machine does while the model waits: where clients and servers share the cores, the wait is not lost at all.
// It knows no timers: the time is handed in.

/** A trial has so many runs; the first ones still owe their time to what was before. */
const runsOfTrial = 24;
const runsUncounted = 3;
/** Waiting must be this much better to be kept, as a share of the time. */
const leastGain = 0.01;
/** The other way is tried again after so many trials: soon while little is known, later when one is clearly better. */
const firstTrials = 4;
const pause = { first: 1, usual: 16, clear: 32 };
const clearGain = 0.1;
const clearTrials = 2;
/** Clients that stay away, or take longer than this share of a run, are not waited for. */
const leastReturning = 0.75;
const mostOfRun = 1 / 3;

export interface Answered {
  readonly now: number;
  /** Rows of the run that has ended. */
  readonly rows: number;
  /** The sum of their times from arrival to answer. */
  readonly waitedMs: number;
  /** Rows that wait for the next run. */
  readonly waiting: number;
  /** When the last of them came. */
  readonly newestAt: number;
  /** How long a run of these and those takes. */
  readonly runMs: number;
}

export class Gathering {
  /** When the last run ended, how many rows it had, and how many waited then. */
  #answeredAt = Number.NEGATIVE_INFINITY;
  #due = 0;
  #waited = 0;
  /** How many rows of the run after it came since then. */
  #came = 0;
  /** Whether it is known how long its clients took to come back. */
  #isJudged = true;
  #returnMs = 0;
  #deviationMs = 0;
  /** How often all clients came back before the next run or in it. */
  #returning = 0;
  #runMs = 0;
  #holds = false;
  #runs = 0;
  #sumMs = 0;
  #rows = 0;
  /** The mean of the trial before, if it was of the other way. */
  #otherMs: number | null = null;
  #trials = 0;
  #sinceTrial = 0;
  /** How much lower the time is with waiting, as a share. */
  #gain = 0;

  /** A run has ended; its replies leave now. */
  answered({ now, rows, waitedMs, waiting, newestAt, runMs }: Answered): void {
    if (!this.#isJudged) this.#judge(this.#came + waiting >= this.#due, newestAt, now);
    this.#answeredAt = now;
    this.#due = rows;
    this.#waited = waiting;
    this.#came = 0;
    this.#isJudged = false;
    this.#runMs = runMs;
    if (!this.#isPlausible) this.#reset();
    else if (this.#runs++ >= runsUncounted) {
      this.#sumMs += waitedMs;
      this.#rows += rows;
      if (this.#runs === runsOfTrial) this.#endTrial();
    }
  }

  /** A run begins with so many rows, the last of which came at `newestAt`. */
  began(rows: number, newestAt: number, now: number): void {
    if (this.#isJudged || newestAt < this.#answeredAt) return;
    this.#came = rows - this.#waited;
    if (this.#came >= this.#due) this.#judge(true, newestAt, now);
  }

  /** Rows that the next run should have; it should begin with fewer when `holdUntil` is over. */
  get wantedRows(): number {
    return this.#waited + this.#due;
  }

  /** Until when a run of `rows` should wait for more, of which it may have `mostRows`; 0: it should begin. */
  holdUntil(rows: number, mostRows: number): number {
    if (!this.#holds || this.#isJudged || rows >= this.wantedRows || this.wantedRows > mostRows) return 0;
    return this.#answeredAt + Math.min(this.#highReturnMs, mostOfRun * this.#runMs);
  }

  get #highReturnMs(): number {
    return this.#returnMs + 2 * this.#deviationMs;
  }

  get #isPlausible(): boolean {
    return this.#returning > leastReturning && this.#returnMs < mostOfRun * this.#runMs;
  }

  /** @param isAll whether as many rows have come as were answered */
  #judge(isAll: boolean, newestAt: number, now: number): void {
    this.#isJudged = true;
    const ms = (isAll ? newestAt : now) - this.#answeredAt;
    this.#returning += ((isAll ? 1 : 0) - this.#returning) / 8;
    const error = ms - this.#returnMs;
    this.#returnMs += error / 8;
    this.#deviationMs += (Math.abs(error) - this.#deviationMs) / 4;
  }

  #reset(): void {
    this.#holds = false;
    this.#otherMs = null;
    this.#begin();
  }

  #begin(): void {
    this.#runs = 0;
    this.#sumMs = 0;
    this.#rows = 0;
  }

  #endTrial(): void {
    const ms = this.#sumMs / this.#rows;
    if (this.#otherMs !== null) {
      const [hold, go] = this.#holds ? [ms, this.#otherMs] : [this.#otherMs, ms];
      this.#trials++;
      this.#gain += (1 - hold / go - this.#gain) / Math.min(this.#trials, firstTrials);
    }
    const best = this.#gain > leastGain;
    const wasTrial = this.#holds !== best;
    const isClear = this.#trials >= clearTrials && Math.abs(this.#gain) > clearGain;
    const interval = isClear ? pause.clear : this.#trials < firstTrials ? pause.first : pause.usual;
    const tries = !wasTrial && ++this.#sinceTrial >= interval;
    const holds = tries ? !best : best;
    if (tries) this.#sinceTrial = 0;
    this.#otherMs = holds === this.#holds ? null : ms;
    this.#holds = holds;
    this.#begin();
  }
}
