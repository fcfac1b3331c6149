import { fixedBatchSize } from '#src/inference/batch-size.js';
import { Batcher, type BatcherLimits, type BatchObserver } from '#src/inference/batcher.js';
import type { Model } from '#src/inference/model.js';

export type Batching = BatcherLimits & { readonly maxBatchSize: number };

/** A batcher whose runs have as many rows as these limits say. */
export const batcherOf = (model: Model, limits: Batching, observe: BatchObserver = () => {}): Batcher =>
  new Batcher(model, limits, observe, fixedBatchSize(limits.maxBatchSize));
