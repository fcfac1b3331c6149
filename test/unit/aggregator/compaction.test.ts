import { expect } from 'chai';
import { compact } from '#src/aggregator/compaction.js';
import { liveRecordsOf, totalCounts } from '#src/metrics/merge.js';
import type { MetricsRecord } from '#src/metrics/snapshot.js';
import { countsOf, nodeRecord, workerRecord } from '../../support/records.js';

/** What Redis does with a list of records. */
class Store {
  records: readonly MetricsRecord[];

  constructor(records: readonly MetricsRecord[]) {
    this.records = records;
  }

  async remove(superseded: readonly MetricsRecord[]): Promise<void> {
    this.records = this.records.filter((record) => !superseded.includes(record));
  }

  async replace(
    record: MetricsRecord,
    _before: MetricsRecord | null,
    replaced: readonly MetricsRecord[],
  ): Promise<boolean> {
    this.records = [...this.records.filter((one) => one.id !== record.id && !replaced.includes(one)), record];
    return true;
  }

  async compact(silent: readonly string[], maxGone?: number): Promise<void> {
    await compact(this, { live: liveRecordsOf(this.records), now: 0 }, new Set(silent), maxGone);
  }

  get total(): number {
    return totalCounts(liveRecordsOf(this.records)).models.m?.received ?? 0;
  }
}

const runs = ['r1', 'r2', 'r3', 'r4'];
const records = runs.flatMap((run, i) => [
  nodeRecord({ node: run, run, departed: countsOf({ received: 100 }), restarts: 1 }),
  workerRecord({ node: run, run, counts: countsOf({ received: 10 ** i, answered: 10 ** i }) }),
]);

describe('the records of runs that are gone', () => {
  it('are one for each, and what such a run had in flight is no defect of counting', async () => {
    const open = workerRecord({ run: 'r', counts: countsOf({ received: 5, answered: 3 }) });
    const store = new Store([nodeRecord({ run: 'r' }), { ...open, gauges: { ...open.gauges, inFlight: 2 } }]);
    await store.compact(['r']);
    expect(store.records.map(({ id }) => id)).to.deep.equal(['gone:a:r']);
    expect(liveRecordsOf(store.records).gone.map(({ inFlight }) => inFlight)).to.deep.equal([2]);
  });

  it('are the same again after a run has come back and gone once more', async () => {
    const store = new Store([
      nodeRecord({ departed: countsOf({ received: 1 }) }),
      workerRecord({ counts: countsOf({ received: 2 }) }),
    ]);
    await store.compact(['run']);
    store.records = [...store.records, workerRecord({ sequence: 2, counts: countsOf({ received: 7 }) })];
    expect(store.total).to.equal(8);
    store.records = [...store.records, nodeRecord({ sequence: 2, departed: countsOf({ received: 1 }) })];
    expect(store.total).to.equal(8);
    await store.compact(['run']);
    expect(store.records.map(({ id }) => id)).to.deep.equal(['gone:a:run']);
    await store.compact([]);
    expect(store.total).to.equal(8);
  });

  it('give up what a later run contains, so that it counts once though that names them no more', async () => {
    const store = new Store([
      nodeRecord({ run: 'r1', departed: countsOf({ received: 1000 }), restarts: 3 }),
      workerRecord({ run: 'r1', counts: countsOf({ received: 7 }) }),
    ]);
    await store.compact(['r1']);
    const later = nodeRecord({
      run: 'r2',
      departed: countsOf({ received: 1000 }),
      contains: [{ run: 'r1', upTo: 0, except: [] }],
    });
    store.records = [...store.records, later];
    expect(store.total).to.equal(1007);
    await store.compact([]);
    expect(store.total).to.equal(1007);
    store.records = [...store.records.filter((one) => one !== later), { ...later, sequence: 2, contains: [] }];
    expect(store.total).to.equal(1007);
    expect(liveRecordsOf(store.records).gone.map(({ restarts }) => restarts)).to.deep.equal([0]);
  });

  it('are added up, the oldest first, where there are too many; a late record of one counts no more', async () => {
    const store = new Store(records);
    await store.compact(runs, 2);
    expect(store.total).to.equal(1511);
    await store.compact(runs, 2);
    expect(store.records.map(({ id }) => id).sort()).to.deep.equal(['base', 'gone:r3:r3', 'gone:r4:r4']);
    expect(store.total).to.equal(1511);
    expect(liveRecordsOf(store.records).base?.restarts).to.deep.equal({ r1: 1, r2: 1 });
    store.records = [...store.records, ...records];
    expect(store.total).to.equal(1511);
  });
});
