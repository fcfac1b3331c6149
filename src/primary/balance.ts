// Connections that live long stay where they were accepted. When a worker is new, or clients of some worker leave,
// workers have more or fewer of them than others: this says who should give how many away.

/** Beyond this share of the mean a worker has too many, or too few. */
const toleratedShare = 0.1;

/**
 * How many connections each worker should give away for all to be even; zeros when they are nearly so. Each goes to the
 * worker that has the fewest.
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
