// What config says of the rows and the time of a run, and the size of a model's batches that follows from it and from
// what was measured.

import { AutoBatchSize } from './auto-batch-size.js';
import { BatchCost } from './batch-cost.js';
import { type BatchSize, fixedBatchSize, noLimit, type TimeLimit } from './batch-size.js';
import type { CurveLimits, WarmUp } from './warm-up.js';

/** The most rows of a batch that is chosen by its cost: more gain next to nothing, see Speed. */
const mostAutoRows = 256;

/** `models[].maxBatchSize`. */
export type MaxBatchSize = number | 'auto';

export interface SizeSettings {
  readonly maxBatchSize: MaxBatchSize;
  /** What a run takes at the most when its rows are chosen. */
  readonly latencyTargetMs: number;
  /** What a run of several rows takes at the most in any case. */
  readonly maxRunMs: number;
  /** How far memory may grow by larger batches. */
  readonly maxBatchMemoryMb: number;
  readonly deadlineMs: number;
  readonly hangTimeoutMs: number;
}

/** Why each request has a run of its own, in short. */
export const becauseAlone = 'a batch would change its answers';

/** The most rows that a run may ever have. */
export const mostRowsFor = (maxBatchSize: MaxBatchSize): number =>
  maxBatchSize === 'auto' ? mostAutoRows : maxBatchSize;

/**
 * What a run of several rows may take: a quarter of the hang timeout, since a machine under load is slower than one that
 * is starting; and half of a request's deadline, since a request also waits for the run before its own.
 */
export function longestRun({ maxRunMs, deadlineMs, hangTimeoutMs }: SizeSettings): TimeLimit {
  const limit = (ms: number, text: string): TimeLimit => ({ ms, because: `more would take longer than ${text}` });
  return shortest(
    limit(maxRunMs, `maxRunMs (${maxRunMs})`),
    limit(hangTimeoutMs / 4, `a quarter of cluster.hangTimeoutMs (${hangTimeoutMs})`),
    deadlineMs === 0 ? noLimit : limit(deadlineMs / 2, `half of deadlineMs (${deadlineMs})`),
  );
}

/** What a run takes at the most when its rows are chosen. */
export function targetRun(settings: SizeSettings): TimeLimit {
  const { latencyTargetMs } = settings;
  const because = `more would take longer than latencyTargetMs (${latencyTargetMs})`;
  return shortest(longestRun(settings), { ms: latencyTargetMs, because });
}

export const shortest = (...limits: readonly TimeLimit[]): TimeLimit =>
  limits.reduce((least, limit) => (limit.ms < least.ms ? limit : least), noLimit);

/** How far the curve of a model is measured when it is loaded. */
export const curveLimits = (settings: SizeSettings): CurveLimits => ({
  mostRows: mostRowsFor(settings.maxBatchSize),
  longestMs: targetRun(settings).ms,
  memoryBytes: settings.maxBatchMemoryMb * 2 ** 20,
});

/**
 * @param warmUp what was measured when the model was loaded; null: nothing could be
 * @param hold how long a run may hold what else its thread does
 */
export function batchSizeFor(
  model: { readonly fixedRows: number | null; readonly runsAloneBecause: string | null },
  warmUp: WarmUp | null,
  settings: SizeSettings,
  hold: TimeLimit = noLimit,
): BatchSize {
  const { maxBatchSize } = settings;
  const cost = new BatchCost(warmUp?.curve ?? []);
  const longest = longestRun(settings);
  if (model.runsAloneBecause !== null) return fixedBatchSize(1, cost, noLimit, becauseAlone);
  // Rows of a fixed batch are computed one lot after another: more of them than a lot gain next to nothing.
  if (maxBatchSize !== 'auto' && model.fixedRows === null) return fixedBatchSize(maxBatchSize, cost, longest);
  const most = mostRowsFor(maxBatchSize);
  const byMemory = warmUp?.rowsWithinMemory ?? most;
  const ownMost = maxBatchSize === 'auto' ? 'auto takes no more' : 'maxBatchSize';
  return new AutoBatchSize(
    {
      mostRows: Math.min(most, byMemory),
      mostBecause:
        byMemory < most ? `more would take more memory than maxBatchMemoryMb (${settings.maxBatchMemoryMb})` : ownMost,
      lotRows: model.fixedRows,
      target: shortest(targetRun(settings), hold),
      longestMs: longest.ms,
    },
    cost,
  );
}
