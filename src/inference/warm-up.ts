// Runs a model before anybody waits for it, so that its first request is no slower than the others, and measures how
// long a run holds the thread it is on.

import type { RowSource } from './batch.js';
import type { Model } from './model.js';

export interface WarmUp {
  /** Milliseconds of a run of one row. */
  readonly oneMs: number;
  /** Rows that it is given in one call, at the most. */
  readonly maxRows: number;
  /** Milliseconds of a call with that many. */
  readonly fullMs: number;
}

const runs = 3;
/** A model that takes this long for a run is slow: measuring it again would only make the start longer. */
const slowMs = 50;
/**
 * What a model may take for a call in which it computes one lot of rows after the other. To return for each row costs
 * more than the row, where rows are quick; where they are slow, a call of many could not be told from one that hangs.
 */
const lotsMs = 1;
/** How many times more rows the next call has, where those before it were quick. */
const growth = 8;
const leastGrowth = 1.25;

/**
 * A full batch may take a quarter of what a run may take before it hangs, since a machine that has other work is slower
 * than one that starts; and half of what a request may take.
 */
export function longestCallMs(hangTimeoutMs: number, deadlineMs: number): number {
  return Math.min(hangTimeoutMs / 4, deadlineMs === 0 ? Number.POSITIVE_INFINITY : deadlineMs / 2);
}

/**
 * Null when there is nothing to run it with: rows of any size, and no sample. Rejects with the model's own error.
 * @param longestMs what a call of more than one row may take
 */
export async function warmUp(model: Model, maxBatchSize: number, longestMs: number): Promise<WarmUp | null> {
  const payload = model.sample ?? (model.inputBytes === null ? null : Buffer.alloc(model.inputBytes));
  if (payload === null) return null;
  const one = { rows: 1, ms: await fastestRun(model, repeated(payload, 1)) };
  const full = await largestCall(model, payload, one, maxBatchSize, longestMs);
  return { oneMs: one.ms, maxRows: full.rows, fullMs: full.ms };
}

interface Measured {
  readonly rows: number;
  readonly ms: number;
}

/** What is the most that it should be given in one call, and how long that takes. */
async function largestCall(
  model: Model,
  payload: Buffer,
  one: Measured,
  maxBatchSize: number,
  longestMs: number,
): Promise<Measured> {
  const { fixedRows, runsAloneBecause } = model;
  if (runsAloneBecause !== null) return one;
  const call = async (rows: number): Promise<Measured> =>
    rows === one.rows ? one : { rows, ms: await fastestRun(model, repeated(payload, rows)) };
  if (fixedRows === null) {
    let largest = one;
    while (largest.rows < maxBatchSize) {
      const fitting = Math.floor((largest.rows * longestMs) / largest.ms);
      const rows = Math.min(largest.rows * growth, fitting, maxBatchSize);
      // To be sure of a few rows more would cost one more of the longest calls.
      if (rows < largest.rows * leastGrowth && rows < maxBatchSize) break;
      if (rows <= largest.rows) break;
      const next = await call(rows);
      if (next.ms > longestMs) break;
      largest = next;
    }
    return largest;
  }
  let best = await call(Math.min(fixedRows, maxBatchSize));
  // A call of few rows is mostly the call itself: the more there are, the better is known what a row takes.
  while (best.ms < lotsMs / 2 && best.rows < maxBatchSize) {
    const rows = Math.floor(best.rows * Math.min(growth, lotsMs / best.ms));
    best = await call(Math.min(rows, maxBatchSize));
  }
  return best;
}

/** The fastest of a few, since others use the machine too. */
async function fastestRun(model: Model, rows: RowSource): Promise<number> {
  let fastest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < runs; i++) {
    const startedAt = performance.now();
    await model.run(rows);
    fastest = Math.min(fastest, performance.now() - startedAt);
    if (fastest > slowMs) break;
  }
  return fastest;
}

function repeated(payload: Buffer, rows: number): RowSource {
  return {
    rows,
    payload: () => payload,
    copyRow: (_, target, at, from, length) => payload.copy(target, at, from, from + length),
  };
}
