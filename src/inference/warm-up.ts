// Runs a model before it serves, so that its first request is no slower than the others, and measures how long a run
// occupies its thread.

import type { RowSource } from './batch.js';
import type { Model } from './model.js';

export interface WarmUp {
  /** Milliseconds that a run of one row takes. */
  readonly oneMs: number;
  /** The most rows that the model gets in one call. */
  readonly maxRows: number;
  /** Milliseconds that a call with that many rows takes. */
  readonly fullMs: number;
}

const runs = 3;
/** A model whose run takes longer than this is slow: measuring it again would only delay the start. */
const slowMs = 50;
/**
 * How long a call may take in which the model computes one lot of rows after another. When rows are quick, returning
 * after each costs more than the row; when they are slow, a call of many could not be told from one that hangs.
 */
const lotsMs = 1;
/** How many times more rows the next call may have when the calls before it were quick. */
const growth = 8;
const leastGrowth = 1.25;

/**
 * A full batch may take a quarter of the hang timeout, since a machine under load is slower than one that is starting;
 * and at most half of a request's deadline.
 */
export function longestCallMs(hangTimeoutMs: number, deadlineMs: number): number {
  return Math.min(hangTimeoutMs / 4, deadlineMs === 0 ? Number.POSITIVE_INFINITY : deadlineMs / 2);
}

/**
 * Resolves to null when there is nothing to run the model with: rows of any size, and no sample. Rejects with the
 * model's own error.
 * @param longestMs how long a call of more than one row may take
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

/** The most rows that the model should get in one call, and how long that call takes. */
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
      // A few more rows are not worth another of the longest calls.
      if (rows < largest.rows * leastGrowth && rows < maxBatchSize) break;
      if (rows <= largest.rows) break;
      const next = await call(rows);
      if (next.ms > longestMs) break;
      largest = next;
    }
    return largest;
  }
  let best = await call(Math.min(fixedRows, maxBatchSize));
  // A call of few rows is mostly overhead: more rows show better how long one takes.
  while (best.ms < lotsMs / 2 && best.rows < maxBatchSize) {
    const rows = Math.floor(best.rows * Math.min(growth, lotsMs / best.ms));
    best = await call(Math.min(rows, maxBatchSize));
  }
  return best;
}

/** The fastest of a few runs, since other processes use the machine too. */
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
