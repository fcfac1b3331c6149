// A log-linear histogram (the layout of HdrHistogram): every octave of values is cut into 32 equal steps, so that a
// bucket's middle is at most 1/64 = 1.6 % from any value in it. Counts add up, bucket by bucket, over workers and
// machines, which is what makes cluster-wide quantiles true; quantiles themselves can never be averaged.
//
// Unit: 0.1 µs. Values below 6.4 µs fall into steps of 0.1 µs; the last bucket begins beyond an hour.

const stepsPerOctave = 32;
const unitsPerMs = 10_000;
const linearSteps = 2 * stepsPerOctave;
const octaves = 30;
const longest = 2 ** (6 + octaves);

export const bucketCount = linearSteps + octaves * stepsPerOctave;

/** The bucket of a duration; negative ones and NaN fall into the first, too long ones into the last. */
export function bucketOf(durationMs: number): number {
  const units = durationMs * unitsPerMs;
  if (!(units >= linearSteps)) return units > 0 ? Math.floor(units) : 0;
  if (units >= longest) return bucketCount - 1;
  // Nearly all fit 32 bits, and a shift costs a tenth of a power.
  const isShort = units < 0x8000_0000;
  const octave = isShort ? 31 - Math.clz32(units) : 63 - Math.clz32(Math.floor(units / 0x1_0000_0000));
  const steps = isShort ? units >>> (octave - 5) : Math.floor(units / 2 ** (octave - 5));
  return linearSteps + (octave - 6) * stepsPerOctave + steps - stepsPerOctave;
}

/** Milliseconds at which bucket `i` begins; the end of a bucket is the beginning of the next. */
export function bucketStartMs(i: number): number {
  return starts[i] as number;
}

function startOf(i: number): number {
  if (i < linearSteps) return i / unitsPerMs;
  const octave = 6 + Math.floor((i - linearSteps) / stepsPerOctave);
  const step = (i - linearSteps) % stepsPerOctave;
  return (2 ** (octave - 5) * (stepsPerOctave + step)) / unitsPerMs;
}

const starts = Float64Array.from({ length: bucketCount + 1 }, (_, i) => startOf(i));

/** A histogram as it travels: bucket, count, bucket, count … of buckets that are not empty, in ascending order. */
export type SparseHistogram = readonly number[];

/** The buckets that are not empty; bucket `i` is `counts[offset + i * stride]`. */
export function toSparse(counts: Float64Array, offset = 0, stride = 1): SparseHistogram {
  const sparse: number[] = [];
  for (let i = 0; i < bucketCount; i++) {
    const count = counts[offset + i * stride] as number;
    if (count > 0) sparse.push(i, count);
  }
  return sparse;
}

/** Adds `sparse` to `into`, an array of `bucketCount` counts. */
export function addSparse(into: Float64Array, sparse: SparseHistogram): void {
  for (let k = 0; k < sparse.length; k += 2) {
    const bucket = sparse[k] as number;
    into[bucket] = (into[bucket] ?? 0) + (sparse[k + 1] as number);
  }
}

/** The values that were added between `earlier` and `later`. */
export function since(later: SparseHistogram, earlier: SparseHistogram): SparseHistogram {
  const grown: number[] = [];
  let k = 0;
  for (let i = 0; i < later.length; i += 2) {
    const bucket = later[i] as number;
    while (k < earlier.length && (earlier[k] as number) < bucket) k += 2;
    const before = earlier[k] === bucket ? (earlier[k + 1] as number) : 0;
    const count = (later[i + 1] as number) - before;
    if (count > 0) grown.push(bucket, count);
  }
  return grown;
}

/** How many values it holds. */
export function countOf(sparse: SparseHistogram): number {
  let total = 0;
  for (let k = 1; k < sparse.length; k += 2) total += sparse[k] as number;
  return total;
}

/** The value that stands for all values of bucket `i`: at most 1.6 % from any of them. */
export const bucketMiddleMs = (i: number): number => (bucketStartMs(i) + bucketStartMs(i + 1)) / 2;

/**
 * The quantiles `qs` (ascending) in milliseconds by nearest rank, each at most 1.6 % off; null for each when the
 * histogram is empty.
 */
export function quantilesMs(sparse: SparseHistogram, qs: readonly number[]): readonly (number | null)[] {
  const total = countOf(sparse);
  if (total === 0) return qs.map(() => null);
  let k = 0;
  let seen = sparse[1] as number;
  return qs.map((q) => {
    const rank = Math.max(1, Math.ceil(q * total));
    while (seen < rank && k + 2 < sparse.length) {
      k += 2;
      seen += sparse[k + 1] as number;
    }
    return bucketMiddleMs(sparse[k] as number);
  });
}

/** Buckets for batches of 1 row, up to 2, up to 4 … rows; the last one takes all larger batches. */
export const batchRowsBuckets = 16;

/** The largest size in bucket `i`. */
export const batchRowsLabel = (i: number): string => (i === batchRowsBuckets - 1 ? '+Inf' : String(2 ** i));
