// Chooses how many rows a run may have, by what runs of 1, 2, 4 … rows have taken: at load, and ever after.
//
//   rows/s │        ·  ·  ·     It is the least size that gives nearly the most rows a second, among those whose run is
//          │    ·  ↑            within its time. Where runs are very quick, it is the largest of those: what a run costs
//          │ ·   chosen         around the model counts then, and nobody feels the wait.
//          └──────────────
//
// A size that was never run is tried while serving, once there are requests for it, as long as the last doubling gained
// enough: so a model that could not be measured starts with one row, and is soon at its best. Now and then a run has
// twice the rows that were chosen, for means that are old or were measured on a busy machine.

import { BatchCost, type MeasuredSize } from './batch-cost.js';
import { atLeast, type BatchSize, type TimeLimit } from './batch-size.js';

/** A size that gives this share of the most rows a second is as good as the one that gives the most. */
const nearly = 0.97;
/** A doubling is worth its wait when it gives so many times the rows a second. */
export const worthIt = 1.1;
/**
 * A run that takes no longer is quick: it may have more rows whether they gain or not. To compare runs of microseconds
 * would be to compare what else the machine did meanwhile.
 */
export const quickMs = 1;
/** Every so many full runs, one may have twice the rows; the first time after fewer. */
const tryEvery = 64;
const firstTry = 8;
/** Such a run may take so many times what a run may take. */
const tryWithin = 1.5;
/** After so many runs it is chosen again. */
const chooseEvery = 16;
const firstRuns = 64;

export interface SizeLimits {
  readonly mostRows: number;
  /** Why not more than `mostRows`. */
  readonly mostBecause: string;
  /** How many rows the model computes at once, where that number is fixed: a run has whole lots of them. */
  readonly lotRows: number | null;
  /** What a run takes at the most when its rows are chosen. */
  readonly target: TimeLimit;
  /** What a run of several rows takes at the most when its rows are tried. */
  readonly longestMs: number;
}

export interface Choice {
  readonly rows: number;
  readonly because: string;
  /** The size to try while serving, which may be better; null when the best is known. */
  readonly next: number | null;
}

const rate = ({ rows, ms }: MeasuredSize): number => rows / Math.max(ms, 1e-6);

/** @param sizes what was measured, the smallest first */
export function chooseRows(sizes: readonly MeasuredSize[], limits: SizeLimits): Choice {
  const { mostRows, mostBecause, lotRows, target, longestMs } = limits;
  const lot = lotRows ?? 1;
  const inLots = (rows: number): number =>
    Math.min(mostRows, lot * 2 ** Math.max(0, Math.floor(Math.log2(rows / lot))));
  const [first] = sizes;
  if (first === undefined) return { rows: inLots(1), because: 'it grows while that gains', next: null };
  const tooLong = sizes.findIndex(({ mostMs }, i) => i > 0 && mostMs > atLeast(target.ms, first.ms));
  const within = tooLong < 0 ? sizes : sizes.slice(0, tooLong);
  const most = Math.max(...within.map(rate));
  const least = within.findIndex((size) => rate(size) >= nearly * most);
  const quick = within.findLastIndex((size) => size.ms <= quickMs);
  const at = Math.max(least, quick);
  const chosen = within[at] as MeasuredSize;
  const rows = inLots(chosen.upTo);
  if (rows >= mostRows) return { rows, because: mostBecause, next: null };
  if (at < within.length - 1) return { rows, because: 'more gain little', next: null };
  if (tooLong >= 0 || chosen.mostMs > target.ms || 2 * chosen.mostMs > longestMs)
    return { rows, because: target.because, next: null };
  const before = within[at - 1];
  const mayGain =
    2 * chosen.ms <= quickMs || (lotRows === null && (before === undefined || rate(chosen) >= worthIt * rate(before)));
  if (!mayGain) return { rows, because: 'more gain little', next: null };
  const asQuick = 2 ** Math.floor(Math.log2((chosen.rows * quickMs) / Math.max(chosen.ms, 1e-6)));
  return { rows, because: 'it grows while that gains', next: inLots(Math.max(2 * rows, asQuick)) };
}

export class AutoBatchSize implements BatchSize {
  readonly cost: BatchCost;
  readonly #limits: SizeLimits;
  #choice: Choice;
  #rows: number;
  #runs = 0;
  /** How many full runs from one try to the next, and to the next one now. */
  #pause = firstTry;
  #untilTry = firstTry;

  constructor(limits: SizeLimits, cost = new BatchCost()) {
    this.#limits = limits;
    this.cost = cost;
    this.#choice = chooseRows(cost.sizes, limits);
    this.#rows = this.#choice.next ?? this.#choice.rows;
  }

  get rows(): number {
    return this.#rows;
  }

  get reason(): string {
    return this.#choice.because;
  }

  ran(rows: number, ms: number): void {
    this.cost.add(rows, ms);
    this.#runs++;
    if (this.#runs % chooseEvery === 0 || this.#runs < firstRuns || this.#choice.next !== null)
      this.#choice = chooseRows(this.cost.sizes, this.#limits);
    if (rows >= this.#choice.rows) this.#untilTry--;
    if (this.#untilTry <= 0) {
      this.#untilTry = this.#pause = Math.min(2 * this.#pause, tryEvery);
      this.#rows = this.#choice.next ?? this.#twice();
    } else this.#rows = this.#choice.next ?? this.#choice.rows;
  }

  /** Twice the rows that were chosen, where a run of them may do. */
  #twice(): number {
    const { rows } = this.#choice;
    const { mostRows, lotRows, target, longestMs } = this.#limits;
    if (lotRows !== null) return rows;
    const larger = Math.min(mostRows, 2 * rows);
    const known = this.cost.sizes.find(({ upTo }) => upTo >= larger)?.mostMs;
    return (known ?? 2 * this.cost.msOf(rows)) <= Math.min(tryWithin * target.ms, longestMs) ? larger : rows;
  }
}
