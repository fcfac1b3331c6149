// What a client may ask of a model: sums since its node's first start, of which clients take differences. All of them
// come from counts that only grow, so no answer is below an earlier one.

import { bucketMiddleMs, countOf, type SparseHistogram } from './histogram.js';
import { errorsOf } from './merge.js';
import type { ModelCounts, WorkerCounts } from './snapshot.js';

/** Times are in nanoseconds, at most 1.6 % off unless stated otherwise. */
export interface ModelStatistics {
  /** Requests received, refused ones included. */
  readonly requests: number;
  readonly answered: number;
  /** From the last byte of each answered request to its reply. */
  readonly answeredNs: number;
  /** Requests that got an error: the model failed on them, or they were refused or expired. */
  readonly failed: number;
  /** Requests that the model was run for, whether it answered or failed. */
  readonly run: number;
  /** From the last byte of each of these to its run. */
  readonly queuedNs: number;
  /** The time of its run, for each of these: requests that share a run have all of it each. Exact. */
  readonly runNs: number;
  /** Rows that the model was run for. */
  readonly rows: number;
  /** Calls of the model. A call for rows of several shapes counts once, although it takes a run for each shape. */
  readonly calls: number;
  /** When a run ended last, in milliseconds since the epoch; 0: never, or nobody knows any more. */
  readonly lastRunAt: number;
}

export type StatisticsByModel = Readonly<Record<string, ModelStatistics>>;

/** @param lastRunAt by model */
export function statisticsOf({ models }: WorkerCounts, lastRunAt: ReadonlyMap<string, number>): StatisticsByModel {
  return Object.fromEntries(
    Object.entries(models).map(([name, counts]) => [name, { ...ofModel(counts), lastRunAt: lastRunAt.get(name) ?? 0 }]),
  );
}

function ofModel(counts: ModelCounts): Omit<ModelStatistics, 'lastRunAt'> {
  return {
    requests: counts.received,
    answered: counts.answered,
    answeredNs: nanosecondsOf(counts.latency),
    failed: errorsOf(counts),
    run: countOf(counts.queueTime),
    queuedNs: nanosecondsOf(counts.queueTime),
    runNs: counts.requestRunNs,
    rows: counts.batchedRows,
    calls: countOf(counts.runTime) + counts.retriedRows,
  };
}

function nanosecondsOf(durations: SparseHistogram): number {
  let ns = 0;
  for (let k = 0; k < durations.length; k += 2) {
    ns += Math.round(bucketMiddleMs(durations[k] as number) * 1e6) * (durations[k + 1] as number);
  }
  return ns;
}
