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

/** As config says. */
export function fixedBatchSize(rows: number, cost = new BatchCost()): BatchSize {
  return { rows, reason: 'maxBatchSize', cost, ran: (count, ms) => cost.add(count, ms) };
}
