// What batching gains: how long a run of 1, 2, 4 … rows takes, through the batcher, as requests come.

import type { Batch, BatchEntry } from '../../inference/batch.js';
import type { Batcher, FinishedBatch } from '../../inference/batcher.js';

export interface BatchSpeed {
  readonly rows: number;
  /** How many runs were measured. */
  readonly runs: number;
  /** Median of a run. */
  readonly p50Ms: number;
  readonly rowsPerSecond: number;
}

/** Runs of one size: enough for a median, even when they are quick. */
const maxRuns = 500;
const leastRuns = 3;
const warmUpShare = 0.05;
/** The first runs of a size are slower than the others: code is compiled, and memory is taken. */
const unmeasured = 2;

/** 1, 2, 4 … and `most`. */
export function batchSizes(most: number): readonly number[] {
  const sizes: number[] = [];
  for (let rows = 1; rows < most; rows *= 2) sizes.push(rows);
  return [...sizes, most];
}

/**
 * Measures one size after another until the time is over; larger ones than fit are left out.
 * @param run runs so many rows once; resolves to the milliseconds that it took
 * @param now milliseconds of a monotonic clock
 */
export async function measureBatches(
  run: (rows: number) => Promise<number>,
  most: number,
  budgetMs: number,
  now: () => number = () => performance.now(),
): Promise<readonly BatchSpeed[]> {
  const until = now() + budgetMs;
  // Until its code is compiled, everything takes longer; a slow model does not show that.
  const warm = now() + budgetMs * warmUpShare;
  for (let runs = 0; runs < maxRuns && now() < warm; runs++) await run(1);
  const sizes = batchSizes(most);
  const speeds: BatchSpeed[] = [];
  for (const [i, rows] of sizes.entries()) {
    const last = speeds.at(-1);
    if (last !== undefined && now() + (last.p50Ms * rows) / last.rows > until) break;
    const share = now() + (until - now()) / (sizes.length - i);
    const times: number[] = [];
    while (times.length === 0 || (times.length < maxRuns && now() < share)) times.push(await run(rows));
    const measured = times.length >= unmeasured + leastRuns ? times.slice(unmeasured) : times;
    const p50Ms = median(measured);
    speeds.push({ rows, runs: measured.length, p50Ms, rowsPerSecond: (1000 * rows) / p50Ms });
  }
  return speeds;
}

function median(values: readonly number[]): number {
  const ordered = values.toSorted((a, b) => a - b);
  return ordered[Math.floor((ordered.length - 1) / 2)] ?? 0;
}

/** Puts copies of a payload into the queue of a model, as the requests of one turn, and waits for their run. */
export class BatchRunner {
  #finished: FinishedBatch | null = null;

  /** Bytes of the last reply; null before there was one. */
  get replyBytes(): number | null {
    const outcome = this.#finished?.outcome;
    if (outcome === undefined || outcome.kind === 'failed') return null;
    if (outcome.kind === 'uniform') return outcome.rowBytes;
    const [reply] = outcome.rows;
    return reply instanceof Uint8Array ? reply.length : null;
  }

  /** To be told of every batch. */
  readonly observe = (finished: FinishedBatch): void => {
    this.#finished = finished;
  };

  /** Resolves to the milliseconds that the run took; rejects with the model's error. */
  async run(batcher: Batcher, payload: Buffer, rows: number): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      const late = () => reject(new Error('its run takes longer than its deadline'));
      let batch: Batch | null = null;
      for (let i = 0; i < rows; i++) {
        batch = batcher.openBatch(this);
        if (batch === null) return reject(new Error('its queue is full'));
        if (i === 0) batch.enter(new Sample(rows, resolve, late));
        batch.add(payload, 0, payload.length);
      }
      batch?.retain();
    });
    const { outcome, runMs } = this.#finished as FinishedBatch;
    if (outcome.kind === 'failed') throw outcome.error;
    const error = outcome.kind === 'rows' ? outcome.rows.find((row) => row instanceof Error) : undefined;
    if (error !== undefined) throw error;
    return runMs;
  }
}

/** The requests of a run; told when all of them have an outcome. */
class Sample implements BatchEntry {
  readonly arrivedAt = performance.now();
  first = 0;
  rows: number;
  settled: () => void;
  readonly expired: () => void;

  constructor(rows: number, settled: () => void, expired: () => void) {
    this.rows = rows;
    this.settled = settled;
    this.expired = expired;
  }

  get requests(): number {
    return this.rows;
  }

  moved(_: Batch, first: number): void {
    this.first = first;
  }

  split(rows: number): Sample {
    const rest = new Sample(this.rows - rows, this.settled, this.expired);
    rest.first = this.first + rows;
    this.rows = rows;
    this.settled = () => {};
    return rest;
  }
}
