import type { BatchCost } from '#src/inference/batch-cost.js';
import { fixedBatchSize } from '#src/inference/batch-size.js';
import { Batcher, type BatcherLimits, type BatchObserver } from '#src/inference/batcher.js';
import type { Model } from '#src/inference/model.js';
import type { CurveLimits } from '#src/inference/warm-up.js';

export type Batching = BatcherLimits & {
  readonly maxBatchSize: number;
  /** What runs take; by default that is learned from them. */
  readonly cost?: BatchCost;
};

/** A batcher whose runs have as many rows as these limits say. */
export const batcherOf = (model: Model, limits: Batching, observe: BatchObserver = () => {}): Batcher =>
  new Batcher(model, limits, observe, fixedBatchSize(limits.maxBatchSize, limits.cost));

/** Limits of a run's time and memory that no model of a test reaches. */
export const ampleRuns = { latencyTargetMs: 10_000, maxRunMs: 10_000, maxBatchMemoryMb: 1024 };

/** The same for the curve that is measured when a model is loaded. */
export const ampleCurve: CurveLimits = { mostRows: 8, longestMs: 1000, memoryBytes: 2 ** 30 };
