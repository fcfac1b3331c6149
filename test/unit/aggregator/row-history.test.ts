import { expect } from 'chai';
import fc from 'fast-check';
import { growth, RowHistory } from '#src/aggregator/row-history.js';

describe('the history of rows', () => {
  it('has a point a second for each row, the last of it, and none of rows that are gone', () => {
    const history = new RowHistory(900);
    history.note(1, [
      ['a', [1, null]],
      ['b', [5, 5]],
    ]);
    history.note(1, [
      ['a', [2, null]],
      ['b', [6, 6]],
    ]);
    history.note(2, [['a', [3, 7]]]);
    expect(history.of('a')).to.deep.equal({
      times: [1, 2],
      columns: [
        [2, 3],
        [null, 7],
      ],
    });
    expect(history.of('b')).to.deep.equal({ times: [], columns: [] });
  });

  it('is bounded, however many rows there are and however long it goes on', () => {
    for (const [rows, most] of [
      [1, 50],
      [1000, 900],
      [5000, 900],
    ] as const) {
      const history = new RowHistory(most);
      for (let t = 0; t < 300; t++)
        history.note(
          t,
          Array.from({ length: rows }, (_, i) => [`row ${i}`, [t]]),
        );
      const { times, columns } = history.of('row 0');
      expect(times.length).to.be.at.most(Math.min(most, Math.max(60, 200_000 / rows)));
      expect(times.at(-1)).to.equal(299);
      expect(columns[0]).to.deep.equal(times);
    }
  });

  it('ascends, also when seconds come late', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 20 })), (seconds) => {
        const history = new RowHistory(10);
        for (const t of seconds) history.note(t, [['a', [t]]]);
        const { times, columns } = history.of('a');
        expect(times).to.deep.equal([...new Set(times)].toSorted((a, b) => a - b));
        expect(columns[0] ?? []).to.deep.equal(times);
        expect(times.length).to.be.at.most(10);
      }),
    );
  });

  it('tells how fast totals grow', () => {
    expect(growth([1, 2, 4, 5, 6], [10, 15, 25, 3, null])).to.deep.equal([null, 5, 5, 0, null]);
  });
});
