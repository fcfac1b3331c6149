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
  });

  it('are within 20 % of even when each surplus has gone to the worker that has the fewest', () => {
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
        for (const load of after) expect(Math.abs(load - mean)).to.be.at.most(Math.max(1, 0.2 * mean));
      }),
    );
  });
});
