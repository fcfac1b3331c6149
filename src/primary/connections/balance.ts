// Long-lived connections stay with the worker that first got them. When a worker is new, or clients of one worker
// leave, some workers have more connections than others: this computes how many each of them should migrate.

/** A worker whose load differs from the mean by more than this share of it has too many connections, or too few. */
const toleratedShare = 0.1;

/**
 * How many connections each worker should migrate to make the loads even; zeros when they are nearly even. Each goes to
 * the worker with the fewest.
 * @param loads connections of each worker
 */
export function surplus(loads: readonly number[]): readonly number[] {
  const total = loads.reduce((sum, load) => sum + load, 0);
  const mean = total / loads.length;
  // One connection more or less is no imbalance.
  const tolerated = Math.max(1, mean * toleratedShare);
  const isEven = loads.every((load) => Math.abs(load - mean) <= tolerated);
  return loads.map((load) => (isEven ? 0 : Math.max(0, load - Math.ceil(mean))));
}
