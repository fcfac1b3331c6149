// Runs a model before anybody waits for it, so that its first request is no slower than the others, and measures how
// long a run holds the thread it is on.

import type { RowSource } from './batch.js';
import type { Model } from './model.js';

export interface WarmUp {
  /** Milliseconds of a run of one row. */
  readonly oneMs: number;
  /** Milliseconds of a run of a full batch. */
  readonly fullMs: number;
}

const runs = 3;
/** A model that takes this long for a run is slow: measuring it again would only make the start longer. */
const slowMs = 50;

/** Null when there is nothing to run it with: rows of any size, and no sample. Rejects with the model's own error. */
export async function warmUp(model: Model, maxBatchSize: number): Promise<WarmUp | null> {
  const payload = model.inputBytes === null ? model.sample : Buffer.alloc(model.inputBytes);
  if (payload === null) return null;
  return {
    oneMs: await fastestRun(model, repeated(payload, 1)),
    fullMs: await fastestRun(model, repeated(payload, maxBatchSize)),
  };
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
