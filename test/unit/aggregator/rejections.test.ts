import { expect } from 'chai';
import fc from 'fast-check';
import { RejectionHistory } from '#src/aggregator/rejections.js';
import type { PublishedRejection, WorkerRecord } from '#src/metrics/snapshot.js';
import { snapshotOf, workerRecord } from '../../support/records.js';

const rejection = (fields: Partial<PublishedRejection> = {}): PublishedRejection => ({
  client: '10.0.0.7',
  protocol: 'frames',
  model: 'm',
  reason: 'BAD_INPUT',
  detail: 'd',
  uptimeMs: 1000,
  ...fields,
});

function worker(fields: Partial<WorkerRecord>, ...rejections: readonly PublishedRejection[]): WorkerRecord {
  return workerRecord({ ...fields, gauges: { ...workerRecord().gauges, rejections } });
}

describe('the rejections of a cluster', () => {
  it('are those of all its workers, the newest first, whatever the clocks of the machines say', () => {
    const history = new RejectionHistory();
    const first = worker({ node: 'a', slot: 0, uptimeMs: 5000 }, rejection({ uptimeMs: 1000, detail: 'oldest' }));
    const second = worker(
      { node: 'b', slot: 3, uptimeMs: 900_000 },
      rejection({ uptimeMs: 898_000, detail: 'older' }),
      rejection({ uptimeMs: 899_000, detail: 'newest', client: '10.0.0.8' }),
    );
    history.note(snapshotOf([first, second], 500, 1_700_000_000_000));
    const all = history.newestFirst;
    expect(all.map(({ t, node, worker: slot, detail }) => [t, node, slot, detail])).to.deep.equal([
      [1_699_999_998.5, 'b', 3, 'newest'],
      [1_699_999_997.5, 'b', 3, 'older'],
      [1_699_999_995.5, 'a', 0, 'oldest'],
    ]);
  });

  it('stay when their records no longer have them, and are there once however often a record is read', () => {
    const history = new RejectionHistory();
    // Ages are not known to the millisecond; the time of the first reading stays.
    for (const [now, ageMs] of [
      [10_000, 0],
      [10_200, 70],
      [10_400, 3],
    ] as const)
      history.note(snapshotOf([worker({ uptimeMs: now - 8000 }, rejection())], ageMs, now));
    history.note(snapshotOf([workerRecord()], 0, 20_000));
    history.note(snapshotOf([], 0, 30_000));
    expect(history.newestFirst.map(({ t }) => t)).to.deep.equal([9]);
  });

  it('of the same worker and kind are one, the last; a worker that took its place has its own', () => {
    const history = new RejectionHistory();
    const at = (uptimeMs: number, detail: string, incarnation: number) =>
      history.note(
        snapshotOf([worker({ uptimeMs, incarnation }, rejection({ uptimeMs, detail }))], 0, 50_000 + uptimeMs),
      );
    at(1000, 'first', 1);
    at(2000, 'second', 1);
    at(100, 'of another', 2);
    expect(history.newestFirst.map(({ detail }) => detail)).to.deep.equal(['second', 'of another']);
    history.note(snapshotOf([worker({ uptimeMs: 1500 }, rejection({ uptimeMs: 1000, detail: 'late' }))], 0, 60_000));
    expect(
      history.newestFirst.map(({ detail }) => detail),
      'an old record',
    ).to.deep.equal(['second', 'of another']);
  });

  it('are the two hundred newest, in order, whatever came in whatever order', () => {
    const noted = fc.record({ slot: fc.nat(40), client: fc.nat(60), uptimeMs: fc.nat(1_000_000) });
    fc.assert(
      fc.property(fc.array(noted, { maxLength: 600, size: 'max' }), (all) => {
        const history = new RejectionHistory();
        const newest = new Map<string, number>();
        for (const { slot, client, uptimeMs } of all) {
          const record = worker({ slot, uptimeMs: 1_000_000 }, rejection({ client: String(client), uptimeMs }));
          history.note(snapshotOf([record], 0, 1_000_000));
          const key = `${slot} ${client}`;
          newest.set(key, Math.max(newest.get(key) ?? 0, uptimeMs));
          expect(history.newestFirst.length).to.be.at.most(200);
        }
        const times = history.newestFirst.map(({ t }) => Math.round(t * 1000));
        expect(times).to.deep.equal(times.toSorted((a, b) => b - a));
        const expected = [...newest.values()].toSorted((a, b) => b - a).slice(0, 200);
        expect(times).to.deep.equal(expected);
      }),
      { numRuns: 20 },
    );
  });
});
