import { expect } from 'chai';
import fc from 'fast-check';
import { AutoBatchSize, type SizeLimits } from '#src/inference/auto-batch-size.js';
import { BatchCost } from '#src/inference/batch-cost.js';
import { batchSizeFor, type SizeSettings } from '#src/inference/batch-limits.js';
import type { BatchSize } from '#src/inference/batch-size.js';
import type { Model } from '#src/inference/model.js';

const settings: SizeSettings = {
  maxBatchSize: 'auto',
  latencyTargetMs: 100,
  maxRunMs: 1000,
  maxBatchMemoryMb: 256,
  deadlineMs: 5000,
  hangTimeoutMs: 30_000,
};
const anyRows: Pick<Model, 'fixedRows' | 'runsAloneBecause'> = { fixedRows: null, runsAloneBecause: null };
const doublings = (most: number): number[] => Array.from({ length: 1 + Math.log2(most) }, (_, i) => 2 ** i);

interface Shape {
  readonly perRunMs: number;
  readonly perRowMs: number;
}
const msOf = ({ perRunMs, perRowMs }: Shape, rows: number): number => perRunMs + perRowMs * rows;

/** The size for a model of this cost, of which runs of up to `most` rows were measured. */
function sizeFor(shape: Shape, more: Partial<SizeSettings> = {}, most = 256, model = anyRows): BatchSize {
  const [first = { rows: 1, ms: 0 }, ...others] = doublings(most).map((rows) => ({ rows, ms: msOf(shape, rows) }));
  return batchSizeFor(model, { curve: [first, ...others], rowsWithinMemory: null }, { ...settings, ...more });
}

/** So many runs, each with as many rows as it may have. Returns the rows of each. */
function serve(size: BatchSize, runs: number, ms: (rows: number, run: number) => number): number[] {
  return Array.from({ length: runs }, (_, run) => {
    const { rows } = size;
    size.ran(rows, ms(rows, run));
    return rows;
  });
}

describe('the rows of a batch that are chosen by its cost', () => {
  it('are all that auto takes for a model of microseconds', () => {
    const size = sizeFor({ perRunMs: 0.02, perRowMs: 0.00026 });
    expect([size.rows, size.reason]).to.deep.equal([256, 'auto takes no more']);
    expect(sizeFor({ perRunMs: 0, perRowMs: 0.001 }).rows, 'also where batches gain nothing').to.equal(256);
  });

  it('stay all that auto takes for such a model when some of its runs are held up', () => {
    const size = sizeFor({ perRunMs: 0.0003, perRowMs: 0 });
    serve(size, 2000, (_, run) => (run % 10 === 0 ? 12 : 0.0003));
    expect(size.rows).to.equal(256);
  });

  it('are few where rows are slow and more of them gain little', () => {
    const size = sizeFor({ perRunMs: 0.8, perRowMs: 5.6 }, {}, 4);
    expect([size.rows, size.reason]).to.deep.equal([4, 'more gain little']);
    expect(sizeFor({ perRunMs: 0, perRowMs: 6 }, {}, 4).rows).to.equal(1);
    expect(sizeFor({ perRunMs: 0, perRowMs: 170 }, {}, 1)).to.deep.include({ rows: 1 });
  });

  it('are as many as a run of them stays within latencyTargetMs, maxRunMs, the deadline and the hang timeout', () => {
    const shape = { perRunMs: 40, perRowMs: 1 };
    const rows = (more: Partial<SizeSettings>): readonly [number, string] => {
      const size = sizeFor(shape, more);
      return [size.rows, size.reason];
    };
    expect(rows({})).to.deep.equal([32, 'more would take longer than latencyTargetMs (100)']);
    expect(rows({ maxRunMs: 60 })).to.deep.equal([16, 'more would take longer than maxRunMs (60)']);
    expect(rows({ deadlineMs: 120 })).to.deep.equal([16, 'more would take longer than half of deadlineMs (120)']);
    expect(rows({ hangTimeoutMs: 240 })[1]).to.equal(
      'more would take longer than a quarter of cluster.hangTimeoutMs (240)',
    );
    expect(rows({ latencyTargetMs: 1000, deadlineMs: 0 })[0]).to.equal(256);
  });

  it('are as many as memory was found for', () => {
    const curve = [
      { rows: 1, ms: 5 },
      { rows: 2, ms: 6 },
    ] as const;
    const size = batchSizeFor(anyRows, { curve, rowsWithinMemory: 2 }, settings);
    expect([size.rows, size.reason]).to.deep.equal([2, 'more would take more memory than maxBatchMemoryMb (256)']);
    serve(size, 500, (rows) => 4 + rows);
    expect(size.rows).to.equal(2);
  });

  it('are one where a batch would change answers, whatever config says', () => {
    for (const maxBatchSize of ['auto', 64] as const)
      expect(
        sizeFor({ perRunMs: 1, perRowMs: 0 }, { maxBatchSize }, 1, { ...anyRows, runsAloneBecause: 'x' }),
      ).to.deep.include({
        rows: 1,
        reason: 'a batch would change its answers',
      });
  });

  it('are whole lots of a model with a fixed batch, and more than one while that takes next to no time', () => {
    const lots = (
      fixedRows: number,
      lotMs: number,
      sizes: readonly number[],
      maxBatchSize: number | 'auto' = 'auto',
    ) => {
      const [first, ...others] = sizes.map((rows) => ({ rows, ms: lotMs * Math.ceil(rows / fixedRows) }));
      if (first === undefined) throw new Error('no size');
      return batchSizeFor(
        { ...anyRows, fixedRows },
        { curve: [first, ...others], rowsWithinMemory: null },
        { ...settings, maxBatchSize },
      );
    };
    expect(lots(6, 4, [6]).rows).to.equal(6);
    expect(lots(6, 0.2, [6, 12, 24]).rows).to.equal(24);
    expect(lots(1, 0.28, [1, 2]).rows).to.equal(2);
    expect(lots(1, 170, [1]).rows).to.equal(1);
    expect(lots(6, 4, [4], 4).rows).to.equal(4);
    const heavy = lots(6, 40, [6]);
    serve(heavy, 400, (rows) => 40 * Math.ceil(rows / 6));
    expect(heavy.rows % 6).to.equal(0);
    expect(heavy.rows).to.equal(6);
  });

  it('begin with one where nothing could be measured, and are at the best after few full runs', () => {
    const size = batchSizeFor(anyRows, null, settings);
    expect(size.rows).to.equal(1);
    const quick = serve(size, 20, (rows) => 0.01 + 0.0005 * rows);
    expect(quick.at(-1)).to.equal(256);
    const heavy = batchSizeFor(anyRows, null, settings);
    serve(heavy, 60, (rows) => 60 + 0.01 * rows);
    expect(heavy.rows, 'what takes long is the run, not its rows').to.equal(256);
    const slow = batchSizeFor(anyRows, null, settings);
    const sizes = serve(slow, 60, (rows) => 170 * rows);
    expect(Math.max(...sizes)).to.equal(1);
  });

  it('stay where they are as long as no run is full', () => {
    const size = batchSizeFor(anyRows, null, settings);
    for (let run = 0; run < 500; run++) size.ran(1, 0.02);
    expect(size.cost.sizes).to.have.lengthOf(1);
    expect(size.rows).to.be.within(2, 64);
  });

  it('become more when a bad start is over, and fewer when rows become slower', () => {
    const disturbed = [
      { rows: 1, ms: 10 },
      { rows: 2, ms: 30 },
      { rows: 4, ms: 60 },
    ] as const;
    const size = batchSizeFor(anyRows, { curve: disturbed, rowsWithinMemory: null }, settings);
    expect(size.rows).to.equal(1);
    serve(size, 3000, (rows) => 8 + 2 * rows);
    expect(size.rows).to.be.within(16, 32);
    serve(size, 3000, (rows) => 8 + 20 * rows);
    expect(size.rows).to.be.within(1, 4);
  });

  it('keep runs within their time, whatever runs cost and however they differ', () => {
    const model = fc.record({
      perRunMs: fc.double({ min: 0, max: 100, noNaN: true }),
      perRowMs: fc.double({ min: 0.0001, max: 200, noNaN: true }),
      measured: fc.integer({ min: 0, max: 8 }),
      latencyTargetMs: fc.double({ min: 1, max: 500, noNaN: true }),
      maxRunMs: fc.double({ min: 1, max: 2000, noNaN: true }),
      noise: fc.array(fc.double({ min: 0.8, max: 1.25, noNaN: true }), { minLength: 1, maxLength: 20 }),
    });
    fc.assert(
      fc.property(model, ({ measured, noise, latencyTargetMs, maxRunMs, ...shape }) => {
        const own = { ...settings, latencyTargetMs, maxRunMs };
        const curve = doublings(2 ** measured).map((rows) => ({ rows, ms: msOf(shape, rows) }));
        const [first, ...others] = curve;
        const warmUp =
          measured === 0 || first === undefined ? null : { curve: [first, ...others] as const, rowsWithinMemory: null };
        const size = batchSizeFor(anyRows, warmUp as never, own);
        const target = Math.min(latencyTargetMs, maxRunMs, 2500);
        for (const [run, rows] of serve(
          size,
          300,
          (rows, at) => msOf(shape, rows) * (noise[at % noise.length] as number),
        ).entries()) {
          expect(rows).to.be.within(1, 256);
          // A size that was never run is tried once those of half of its rows were quick enough.
          if (rows > 1)
            expect(msOf(shape, rows), `of ${rows} rows, run ${run}`).to.be.at.most(
              3 * Math.max(target, msOf(shape, 1)),
            );
        }
        if (size.rows > 1) expect(msOf(shape, size.rows)).to.be.at.most(3 * Math.max(target, msOf(shape, 1)));
      }),
    );
  });

  it('give nearly the most rows a second of all that the time of a run allows', () => {
    const model = fc.record({
      perRunMs: fc.double({ min: 0, max: 60, noNaN: true }),
      perRowMs: fc.double({ min: 0.0001, max: 60, noNaN: true }),
    });
    fc.assert(
      fc.property(model, (shape) => {
        const size = batchSizeFor(anyRows, null, settings);
        serve(size, 500, (rows) => msOf(shape, rows));
        const rate = (rows: number): number => rows / msOf(shape, rows);
        const best = Math.max(
          ...doublings(256)
            .filter((rows) => rows === 1 || msOf(shape, rows) <= 100)
            .map(rate),
        );
        expect(rate(size.rows)).to.be.at.least(0.8 * best);
      }),
    );
  });
});

describe('a machine that becomes busy', () => {
  it('takes no rows from runs whose time is not that of their rows', () => {
    for (const maxBatchSize of ['auto', 256] as const) {
      const size = sizeFor({ perRunMs: 20, perRowMs: 0.001 }, { maxBatchSize, maxRunMs: 50 });
      expect(size.rows).to.equal(256);
      serve(size, 200, () => 200);
      expect(size.rows, String(maxBatchSize)).to.equal(256);
    }
  });
});

describe('a batch of as many rows as config says', () => {
  const fixed = (maxBatchSize: number, shape: Shape, more: Partial<SizeSettings> = {}): BatchSize =>
    sizeFor(shape, { maxBatchSize, ...more }, 4);

  it('has them, whether they gain or not', () => {
    expect(fixed(64, { perRunMs: 0, perRowMs: 6 })).to.deep.include({ rows: 64, reason: 'maxBatchSize' });
    expect(batchSizeFor(anyRows, null, { ...settings, maxBatchSize: 512 })).to.deep.include({ rows: 512 });
  });

  it('has fewer where so many are expected to take longer than maxRunMs, though none such was run', () => {
    const size = fixed(256, { perRunMs: 10, perRowMs: 170 });
    expect(size).to.deep.include({ rows: 5, reason: 'more would take longer than maxRunMs (1000)' });
    expect(fixed(256, { perRunMs: 0, perRowMs: 1700 }).rows, 'one row may').to.equal(1);
  });

  it('has fewer once it is known that rows are slow, and again more when they are quick', () => {
    const size = batchSizeFor(anyRows, null, { ...settings, maxBatchSize: 8 });
    expect(size.rows).to.equal(8);
    serve(size, 1, (rows) => 500 * rows);
    expect(size.rows).to.be.at.most(2);
    serve(size, 400, (rows) => 0.1 * rows);
    expect(size.rows).to.equal(8);
  });
});

describe('AutoBatchSize', () => {
  it('tries twice the rows now and then, but not where that is known to take too long', () => {
    const target = { ms: 100, because: 'target' };
    const limits: SizeLimits = { mostRows: 256, mostBecause: 'most', lotRows: null, target, longestMs: 1000 };
    const cost = new BatchCost(doublings(16).map((rows) => ({ rows, ms: 20 + rows ** 2 })));
    const size = new AutoBatchSize(limits, cost);
    expect(size.rows).to.equal(4);
    const sizes = serve(size, 640, (rows) => 20 + rows ** 2);
    expect(sizes.filter((rows) => rows === 8)).to.have.lengthOf(12);
    expect(Math.max(...sizes)).to.equal(8);
    const long = new AutoBatchSize(
      { ...limits, target: { ms: 40, because: 'target' } },
      new BatchCost(doublings(16).map((rows) => ({ rows, ms: 20 + rows ** 2 }))),
    );
    expect(Math.max(...serve(long, 640, (rows) => 20 + rows ** 2))).to.equal(4);
  });
});
