import { expect } from 'chai';
import fc from 'fast-check';
import type { Model } from '#src/inference/model.js';
import { budgetMs, type CurveLimits, type WarmUp, warmUp } from '#src/inference/warm-up.js';
import { withClock } from '../../support/clock.js';

const mb = 2 ** 20;
const anything: CurveLimits = { mostRows: 256, longestMs: 100, memoryBytes: 256 * mb };

describe('the curve of a model', () => {
  const clock = withClock();
  let calls: number[] = [];
  let bytes = 0;

  /** Measures a model whose runs take so long, and after which the process has so much memory. */
  const measure = (
    msOf: (rows: number) => number,
    limits: Partial<CurveLimits> = {},
    model: Partial<Model> = {},
    bytesOf: (rows: number) => number = () => 0,
  ): Promise<WarmUp | null> => {
    calls = [];
    bytes = 0;
    const timed = {
      inputBytes: 1,
      sample: null,
      fixedRows: null,
      runsAloneBecause: null,
      run: ({ rows }: { readonly rows: number }) => {
        calls.push(rows);
        clock().tick(msOf(rows));
        bytes = Math.max(bytes, bytesOf(rows));
        return { kind: 'uniform', bytes: Buffer.alloc(rows), rowBytes: 1, stride: 1 } as const;
      },
      ...model,
    };
    return warmUp(timed, { ...anything, ...limits }, () => bytes);
  };
  const sizesOf = (measured: WarmUp | null): number[] | undefined => measured?.curve.map(({ rows }) => rows);

  it('has every doubling up to the most rows of a quick model, whatever they gain', async () => {
    expect(sizesOf(await measure((rows) => 0.02 + 0.001 * rows))).to.deep.equal([1, 2, 4, 8, 16, 32, 64, 128, 256]);
    expect(sizesOf(await measure((rows) => 0.001 * rows))).to.deep.equal([1, 2, 4, 8, 16, 32, 64, 128, 256]);
    expect(sizesOf(await measure((rows) => 0.001 * rows, { mostRows: 100 }))).to.deep.equal([
      1, 2, 4, 8, 16, 32, 64, 100,
    ]);
  });

  it('has one row of a model that takes 170 ms for each, which is run once', async () => {
    const measured = await measure((rows) => 170 * rows);
    expect(measured?.curve).to.deep.equal([{ rows: 1, ms: 170 }]);
    expect(calls).to.deep.equal([1]);
  });

  it('ends when two doublings in turn gain little, and not when one does', async () => {
    expect(sizesOf(await measure((rows) => 4 * rows))).to.deep.equal([1, 2, 4]);
    // The second row is measured while something else is running.
    const noisy = (rows: number): number => (rows === 2 ? 9.9 : 4 + rows);
    expect(sizesOf(await measure(noisy))).to.include(16);
  });

  it('ends at the first run that takes longer than a run may', async () => {
    expect(sizesOf(await measure((rows) => 5 + rows, { longestMs: 20 }))).to.deep.equal([1, 2, 4, 8, 16]);
  });

  it('ends where more rows would take more memory than they may, and says how many take less', async () => {
    const rowOf8Mb = await measure(
      () => 0.1,
      { memoryBytes: 100 * mb },
      {},
      (rows) => 8 * mb * (rows - 1),
    );
    expect(sizesOf(rowOf8Mb)).to.deep.equal([1, 2, 4, 8]);
    expect(rowOf8Mb?.rowsWithinMemory).to.equal(8);
    const sudden = await measure(
      () => 0.1,
      { memoryBytes: 100 * mb },
      {},
      (rows) => (rows < 32 ? 0 : 2000 * mb),
    );
    expect(sizesOf(sudden)).to.deep.equal([1, 2, 4, 8, 16]);
    expect(sudden?.rowsWithinMemory).to.equal(16);
    const byTime = await measure(
      (rows) => 5 * rows,
      { memoryBytes: 100 * mb },
      {},
      (rows) => 8 * mb * (rows - 1),
    );
    expect(sizesOf(byTime)).to.deep.equal([1, 2, 4]);
    expect(byTime?.rowsWithinMemory, 'of what is tried while serving').to.be.within(12, 17);
  });

  it('has one size of a model whose requests run alone, and lots of one with a fixed batch while they are quick', async () => {
    expect(sizesOf(await measure(() => 1, {}, { runsAloneBecause: 'they differ' }))).to.deep.equal([1]);
    const lots = (lotMs: number) => (rows: number) => lotMs * Math.ceil(rows / 8);
    expect(sizesOf(await measure(lots(0.2), {}, { fixedRows: 8 }))).to.deep.equal([8, 16, 32]);
    expect(sizesOf(await measure(lots(6), {}, { fixedRows: 8 }))).to.deep.equal([8]);
    expect(sizesOf(await measure(lots(6), { mostRows: 4 }, { fixedRows: 8 }))).to.deep.equal([4]);
  });

  it('is not known of a model that only clients have payloads for', async () => {
    expect(await measure(() => 1, {}, { inputBytes: null })).to.equal(null);
    expect(calls).to.deep.equal([]);
  });

  it('takes no longer in all than its budget and one run, whatever a run takes', async () => {
    const cost = fc.record({
      perRunMs: fc.double({ min: 0, max: 400, noNaN: true }),
      perRowMs: fc.double({ min: 0.0001, max: 400, noNaN: true }),
      mostRows: fc.integer({ min: 1, max: 1024 }),
      longestMs: fc.double({ min: 0.1, max: 2000, noNaN: true }),
    });
    await fc.assert(
      fc.asyncProperty(cost, async ({ perRunMs, perRowMs, mostRows, longestMs }) => {
        const begun = performance.now();
        const msOf = (rows: number): number => perRunMs + perRowMs * rows;
        const measured = await measure(msOf, { mostRows, longestMs });
        expect(performance.now() - begun).to.be.at.most(Math.max(budgetMs, msOf(1)) + 1e-6);
        expect(Math.max(...calls)).to.be.at.most(mostRows);
        const [, ...larger] = measured?.curve ?? [];
        for (const { ms } of larger.slice(0, -1)) expect(ms).to.be.at.most(longestMs);
      }),
    );
  });
});
