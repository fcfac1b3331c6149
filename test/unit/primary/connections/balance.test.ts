import { expect } from 'chai';
import fc from 'fast-check';
import { surplus } from '#src/primary/connections/balance.js';

describe('connections of workers', () => {
  it('are left alone where they are nearly even', () => {
    expect(surplus([50, 50])).to.deep.equal([0, 0]);
    expect(surplus([54, 46])).to.deep.equal([0, 0]);
    expect(surplus([1, 0])).to.deep.equal([0, 0]);
    expect(surplus([0])).to.deep.equal([0]);
    expect(surplus([])).to.deep.equal([]);
  });

  it('beyond the mean go from those that have too many', () => {
    expect(surplus([60, 0])).to.deep.equal([30, 0]);
    expect(surplus([10, 10, 100])).to.deep.equal([0, 0, 60]);
    expect(surplus([0, 5, 8])).to.deep.equal([0, 1, 3]);
  });

  it('are as even as whole connections can be when each surplus has gone to the worker that has the fewest', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 1000 }), { minLength: 1, maxLength: 20 }), (loads) => {
        const after = [...loads];
        surplus(loads).forEach((count, i) => {
          for (let n = 0; n < count; n++) {
            const to = after.indexOf(Math.min(...after.filter((_, k) => k !== i)));
            after[i] = (after[i] ?? 0) - 1;
            after[to] = (after[to] ?? 0) + 1;
          }
        });
        const mean = loads.reduce((sum, load) => sum + load, 0) / loads.length;
        const tolerated = Math.max(1, 0.1 * mean);
        const isMoved = loads.some((load) => Math.abs(load - mean) > tolerated);
        for (const load of isMoved ? after : []) expect(load).to.be.within(Math.floor(mean), Math.ceil(mean));
        if (!isMoved) expect(after).to.deep.equal(loads);
      }),
    );
  });
});
