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
  if (isEven) return loads.map(() => 0);
  // What cannot be shared evenly stays with those that have the most: every load is then one of two neighbours.
  const fullest = loads.map((load, i) => ({ load, i })).sort((a, b) => b.load - a.load);
  const target = loads.map(() => Math.floor(mean));
  for (const { i } of fullest.slice(0, total % loads.length)) target[i] = Math.ceil(mean);
  return loads.map((load, i) => Math.max(0, load - (target[i] ?? load)));
}
