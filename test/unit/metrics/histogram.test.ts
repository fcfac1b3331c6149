import { expect } from 'chai';
import fc from 'fast-check';
import {
  addSparse,
  bucketCount,
  bucketOf,
  bucketStartMs,
  countOf,
  quantilesMs,
  since,
  toSparse,
} from '#src/metrics/histogram.js';

function histogramOf(valuesMs: readonly number[]): Float64Array {
  const counts = new Float64Array(bucketCount);
  for (const value of valuesMs) counts[bucketOf(value)] = (counts[bucketOf(value)] ?? 0) + 1;
  return counts;
}

/** Log-uniform from 5 µs to 1000 s: as skewed as latencies get. */
const latencies = fc.double({ min: Math.log(0.005), max: Math.log(1e6), noNaN: true }).map(Math.exp);

describe('the latency histogram', () => {
  it('puts every value into a bucket that holds it', () => {
    fc.assert(
      fc.property(latencies, (value) => {
        const bucket = bucketOf(value);
        expect(value).to.be.at.least(bucketStartMs(bucket) * (1 - 1e-12));
        expect(value).to.be.below(bucketStartMs(bucket + 1) * (1 + 1e-12));
      }),
    );
  });

  it('has buckets that follow each other without a gap', () => {
    for (let i = 1; i < bucketCount; i++) {
      expect(bucketStartMs(i)).to.be.above(bucketStartMs(i - 1));
      expect(bucketOf(bucketStartMs(i) * (1 + 1e-9))).to.equal(i);
    }
  });

  it('gives quantiles within 2 % of the sorted truth', () => {
    fc.assert(
      fc.property(
        fc.array(latencies, { minLength: 1, maxLength: 500 }),
        fc.constantFrom(0.5, 0.9, 0.99, 0.999, 1),
        (values, q) => {
          const sorted = [...values].sort((a, b) => a - b);
          const truth = sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] as number;
          expect(
            Math.abs((quantilesMs(toSparse(histogramOf(values)), [q])[0] as number) - truth) / truth,
          ).to.be.at.most(0.02);
        },
      ),
    );
  });

  it('merges to what one histogram of all values would hold', () => {
    fc.assert(
      fc.property(fc.array(fc.array(latencies)), (groups) => {
        const merged = new Float64Array(bucketCount);
        for (const group of groups) addSparse(merged, toSparse(histogramOf(group)));
        expect(merged).to.deep.equal(histogramOf(groups.flat()));
      }),
    );
  });

  it('gives several quantiles at once as it gives each of them', () => {
    const qs = [0.1, 0.5, 0.5, 0.9, 0.99, 1];
    fc.assert(
      fc.property(fc.array(latencies), (values) => {
        const sparse = toSparse(histogramOf(values));
        expect(quantilesMs(sparse, qs)).to.deep.equal(qs.flatMap((q) => quantilesMs(sparse, [q])));
        expect(countOf(sparse)).to.equal(values.length);
      }),
    );
  });

  it('tells what came since it was looked at before', () => {
    fc.assert(
      fc.property(fc.array(latencies), fc.array(latencies), (before, after) => {
        const earlier = toSparse(histogramOf(before));
        const later = toSparse(histogramOf([...before, ...after]));
        expect(since(later, earlier)).to.deep.equal(toSparse(histogramOf(after)));
      }),
    );
  });

  it('takes what is out of range without a fault', () => {
    for (const value of [-1, 0, Number.NaN]) expect(bucketOf(value)).to.equal(0);
    for (const value of [1e12, Number.POSITIVE_INFINITY]) expect(bucketOf(value)).to.equal(bucketCount - 1);
    expect(quantilesMs([], [0.5, 0.9])).to.deep.equal([null, null]);
  });
});
