import { expect } from 'chai';
import fc from 'fast-check';
import { BatchCost } from '#src/inference/batch-cost.js';

const lineOf = (perRunMs: number, perRowMs: number, sizes: readonly number[]): BatchCost =>
  new BatchCost(sizes.map((rows) => ({ rows, ms: perRunMs + perRowMs * rows })));

describe('the cost of a batch', () => {
  it('is the line through what was measured', () => {
    const line = fc.record({
      perRunMs: fc.double({ min: 0, max: 100, noNaN: true }),
      perRowMs: fc.double({ min: 0.0001, max: 100, noNaN: true }),
      sizes: fc.uniqueArray(fc.integer({ min: 0, max: 9 }), { minLength: 2 }),
    });
    fc.assert(
      fc.property(line, ({ perRunMs, perRowMs, sizes }) => {
        const cost = lineOf(
          perRunMs,
          perRowMs,
          sizes.map((at) => 2 ** at),
        );
        const near = 1e-6 * (perRunMs + 512 * perRowMs);
        expect(cost.perRunMs).to.be.closeTo(perRunMs, near);
        expect(cost.perRowMs).to.be.closeTo(perRowMs, near);
        expect(cost.rowsWithin(perRunMs + 10.5 * perRowMs)).to.be.within(9, 11);
      }),
    );
  });

  it('is not known before the first run, and then never promises too much of more rows', () => {
    const cost = new BatchCost();
    expect(cost.isKnown).to.equal(false);
    expect(cost.msOf(8)).to.equal(0);
    cost.add(4, 8);
    expect(cost.isKnown).to.equal(true);
    expect([cost.msOf(4), cost.msOf(8)]).to.deep.equal([8, 16]);
  });

  it('follows runs that become slower, of sizes that are run and of those that are not', () => {
    const cost = lineOf(2, 1, [1, 2, 4, 8, 16]);
    for (let run = 0; run < 100; run++) cost.add(4, 3 * 6);
    for (const [rows, ms] of [
      [1, 9],
      [4, 18],
      [16, 54],
    ] as const) {
      expect(cost.msOf(rows) / ms).to.be.within(0.9, 1.1);
      expect((cost.sizes.find(({ upTo }) => upTo === rows)?.ms ?? 0) / ms).to.be.within(0.9, 1.1);
    }
  });

  it('follows runs that become slower by their rows', () => {
    const cost = lineOf(2, 1, [1, 2, 4, 8, 16]);
    for (let run = 0; run < 400; run++) {
      const rows = 1 + (run % 16);
      cost.add(rows, 2 + 3 * rows);
    }
    for (const rows of [1, 4, 16]) expect(cost.msOf(rows) / (2 + 3 * rows)).to.be.within(0.85, 1.15);
  });

  it('is hardly moved by one run that was held up', () => {
    const cost = lineOf(2, 1, [1, 2, 4, 8]);
    cost.add(4, 10_000);
    expect(cost.msOf(4)).to.be.within(6, 7);
  });

  it('tells fewer rows within a time the more runs differ', () => {
    const [even, uneven] = [lineOf(2, 1, [1, 2, 4, 8]), lineOf(2, 1, [1, 2, 4, 8])];
    for (let run = 0; run < 200; run++) {
      even.add(4, 6);
      uneven.add(4, run % 2 === 0 ? 4 : 8);
    }
    expect(even.rowsWithin(100)).to.equal(98);
    expect(uneven.rowsWithin(100)).to.be.below(70);
    expect(even.rowsWithin(1)).to.equal(0);
  });
});

describe('the cost of sizes that are not run', () => {
  it('stays what it was beside those that are, through a million uneven runs, or is forgotten', () => {
    const cost = lineOf(2, 1, [1, 2, 4, 8, 16, 32]);
    let seed = 1;
    const random = (): number => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed / 2_147_483_647;
    };
    for (let run = 0; run < 1_000_000; run++) {
      const rows = 2 + Math.floor(7 * random());
      cost.add(rows, (2 + rows) * (0.7 + 0.6 * random() + (random() < 0.02 ? 5 : 0)));
    }
    const msOf = (upTo: number): number => cost.sizes.find((size) => size.upTo === upTo)?.ms ?? 0;
    expect(cost.sizes.map(({ upTo }) => upTo)).to.deep.equal([1, 2, 4, 8]);
    expect(msOf(1) / msOf(4)).to.be.within(0.7 * (3 / 6), 1.4 * (3 / 5));
  });
});
