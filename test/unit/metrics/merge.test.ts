import { expect } from 'chai';
import {
  addCounts,
  departed,
  liveRecordsOf,
  noCounts,
  noModelCounts,
  totalCounts as totalOf,
} from '#src/metrics/merge.js';
import type { BaseRecord, MetricsRecord, WorkerCounts } from '#src/metrics/snapshot.js';
import { goneRecord, nodeRecord, workerRecord } from '../../support/records.js';

const counts = (received: number, model = 'digits'): WorkerCounts => ({
  ...noCounts(),
  models: { [model]: { ...noModelCounts(), received, latency: [100, received] } },
});

const totalCounts = (records: readonly MetricsRecord[]): WorkerCounts => totalOf(liveRecordsOf(records));

describe('merged totals', () => {
  it('are the sum over living workers, departed ones and machines', () => {
    const records = [
      nodeRecord({ node: 'a', run: 'a1', departed: counts(1000), folded: { upTo: 1, except: [] } }),
      workerRecord({ node: 'a', run: 'a1', slot: 0, incarnation: 3, counts: counts(10) }),
      workerRecord({ node: 'a', run: 'a1', slot: 1, incarnation: 2, counts: counts(20) }),
      nodeRecord({ node: 'b', run: 'b1' }),
      workerRecord({ node: 'b', run: 'b1', slot: 0, incarnation: 1, counts: counts(5, 'other') }),
    ];
    const total = totalCounts(records);
    expect(total.models.digits?.received).to.equal(1030);
    expect(total.models.other?.received).to.equal(5);
    expect(total.models.digits?.latency).to.deep.equal([100, 1030]);
  });

  it('do not count a worker twice whose record outlives its folding', () => {
    const late = workerRecord({ node: 'a', run: 'a1', slot: 0, incarnation: 1, counts: counts(10) });
    const node = nodeRecord({ node: 'a', run: 'a1', departed: counts(10), folded: { upTo: 1, except: [] } });
    expect(totalCounts([late, node]).models.digits?.received).to.equal(10);
    expect(liveRecordsOf([late, node])).to.deep.include({ workers: [], superseded: [late] });
  });

  it('count a worker on whose successor has gone before it', () => {
    const old = workerRecord({ incarnation: 1, counts: counts(10) });
    const node = nodeRecord({ departed: counts(5), folded: { upTo: 3, except: [1] } });
    const successor = workerRecord({ incarnation: 3, counts: counts(5) });
    expect(totalCounts([old, node, successor]).models.digits?.received).to.equal(15);
    expect(liveRecordsOf([old, node, successor]).superseded).to.deep.equal([successor]);
  });

  it('count what was in flight and open in a worker that died as lost, once, and nothing of one that ended in order', () => {
    const { connectionsAccepted, ...others } = { ...noCounts(), connectionsAccepted: 10 };
    const model = { ...noModelCounts(), received: 20, answered: 13, failed: 1, abandoned: 2 };
    const left = { ...others, connectionsAccepted, connectionsMoved: 3, connectionsMovedAway: 2, closedByClient: 4 };
    const died = departed({ ...left, closedByDrain: 1, models: { m: model } });
    expect(died.models.m).to.include({ abandoned: 6, lost: 4 });
    expect(died.closedByDeath).to.equal(6);
    expect(departed(died)).to.deep.equal(died);
    const inOrder = { ...left, closedByDrain: 7, models: { m: { ...model, answered: 17 } } };
    expect(departed(inOrder)).to.deep.equal(inOrder);
  });

  it('count a worker whose node has not been heard of yet', () => {
    expect(totalCounts([workerRecord({ counts: counts(7) })]).models.digits?.received).to.equal(7);
  });

  it('keep an earlier run of a node that was restarted under its name', () => {
    const records = [
      nodeRecord({ run: 'first', departed: counts(100), folded: { upTo: 1, except: [] } }),
      nodeRecord({ run: 'second' }),
      workerRecord({ run: 'second', counts: counts(1) }),
    ];
    expect(totalCounts(records).models.digits?.received).to.equal(101);
  });

  it('contain what was folded into the base once, wherever its records still lie about', () => {
    const old = nodeRecord({ run: 'old', departed: counts(10) });
    const oldWorker = workerRecord({ run: 'old', slot: 0, incarnation: 7, counts: counts(5) });
    const base: BaseRecord = { kind: 'base', id: 'base', sequence: 1, counts: counts(15), restarts: {}, runs: ['old'] };
    const records = [base, old, oldWorker, nodeRecord({ run: 'new', departed: counts(1) })];
    expect(totalCounts(records).models.digits?.received).to.equal(16);
    expect(liveRecordsOf(records).superseded).to.have.members([old, oldWorker]);
  });

  describe('of runs that another run of the node has taken over', () => {
    const first = nodeRecord({ run: 'first', departed: counts(100), folded: { upTo: 3, except: [2] } });
    const living = workerRecord({ run: 'first', incarnation: 2, counts: counts(7) });
    const contains = [{ run: 'first', upTo: 3, except: [2] }];

    it('are counted there alone, wherever their records still lie about', () => {
      const folded = workerRecord({ run: 'first', incarnation: 3, counts: counts(20) });
      const second = nodeRecord({ run: 'second', departed: counts(100), contains });
      const records = [first, folded, second, workerRecord({ run: 'second', counts: counts(1) })];
      expect(totalCounts(records).models.digits?.received).to.equal(101);
      expect(liveRecordsOf(records).superseded).to.have.members([first, folded]);
    });

    it('but for workers that the later run has not found: those that ended with their machine', () => {
      const second = nodeRecord({ run: 'second', departed: counts(100), contains });
      expect(totalCounts([first, living, second]).models.digits?.received).to.equal(107);
      const took = nodeRecord({
        run: 'second',
        departed: counts(110),
        contains: [{ run: 'first', upTo: 3, except: [] }],
      });
      expect(totalCounts([first, living, took]).models.digits?.received).to.equal(110);
    });

    it('are counted once when they had been gone for long before it came', () => {
      const gone = goneRecord({
        run: 'first',
        departed: counts(100),
        workers: { [living.id]: counts(7) },
        folded: first.folded,
        replaces: { [first.id]: 1, [living.id]: 1 },
      });
      expect(totalCounts([gone]).models.digits?.received).to.equal(107);
      const rebooted = nodeRecord({ run: 'second', departed: counts(100), contains });
      expect(totalCounts([gone, rebooted, first, living]).models.digits?.received).to.equal(107);
      const took = nodeRecord({
        run: 'second',
        departed: counts(110),
        contains: [{ run: 'first', upTo: 3, except: [] }],
      });
      expect(totalCounts([gone, took, first, living]).models.digits?.received).to.equal(110);
      expect(liveRecordsOf([gone, took]).superseded).to.deep.equal([gone]);
    });
  });

  describe('of several workers of a run that is gone', () => {
    const ids = ['worker:a:run:0:1', 'worker:a:run:1:2'] as const;
    const gone = goneRecord({
      workers: { [ids[0]]: counts(100), [ids[1]]: counts(50) },
      replaces: { [ids[0]]: 1, [ids[1]]: 1 },
    });

    it('are those counted that no later run has found', () => {
      const next = nodeRecord({ run: 'next', departed: counts(100), contains: [{ run: 'run', upTo: 1, except: [] }] });
      expect(totalCounts([gone, next]).models.digits?.received).to.equal(150);
    });

    it('is each compared with itself when one comes back', () => {
      const back = workerRecord({ sequence: 2, counts: counts(120) });
      expect(totalCounts([gone, back]).models.digits?.received).to.equal(170);
    });

    it('is one counted once that comes back when a later run has its node already', () => {
      const next = nodeRecord({ run: 'next', contains: [{ run: 'run', upTo: 0, except: [] }] });
      const back = workerRecord({ sequence: 2, counts: counts(120) });
      expect(totalCounts([gone, next, back]).models.digits?.received).to.equal(170);
    });
  });

  describe('of a run that was taken for gone', () => {
    const gone = goneRecord({
      sequence: 5,
      departed: counts(100),
      workers: { 'worker:a:run:0:1': counts(20), 'worker:a:run:1:2': counts(10) },
      inFlight: 0,
      replaces: { 'node:a:run': 10, 'worker:a:run:0:1': 10, 'worker:a:run:1:2': 10 },
    });
    const node = (sequence: number, received: number) => nodeRecord({ sequence, departed: counts(received) });
    const worker = (incarnation: number, sequence: number, received: number) =>
      workerRecord({ slot: incarnation - 1, incarnation, sequence, counts: counts(received) });

    it('do not change by old versions of its records, of a restored dump', () => {
      const old = [node(9, 90), worker(1, 10, 20), worker(2, 3, 4)];
      expect(totalCounts([gone, ...old]).models.digits?.received).to.equal(130);
      expect(liveRecordsOf([gone, ...old]).superseded).to.have.members(old);
      expect(liveRecordsOf([gone, ...old]).nodes).to.deep.equal([]);
    });

    it('never fall while it comes back piece by piece, and are exact when it is whole', () => {
      const back = [worker(1, 11, 50), node(11, 101), worker(2, 11, 10)];
      const totals = back.map((_, i) => totalCounts([gone, ...back.slice(0, i + 1)]).models.digits?.received);
      expect(totals).to.deep.equal([160, 161, 161]);
      expect(liveRecordsOf([gone, ...back]).superseded).to.deep.equal([gone]);
      expect(liveRecordsOf([gone, ...back]).nodes).to.have.lengthOf(1);
    });
  });

  it('count what a departed worker had in flight as abandoned: it will have no other outcome', () => {
    const model = { ...noModelCounts(), received: 10, answered: 6, failed: 1, expired: 1 };
    expect(departed({ ...noCounts(), models: { digits: model } }).models.digits).to.include({
      received: 10,
      abandoned: 2,
    });
  });

  it('add every counter', () => {
    const one = { ...noCounts(), bytesSent: 3, connectionsAccepted: 1 };
    const sum = addCounts(one, { ...noCounts(), bytesSent: 4, closedByDrain: 2 });
    expect(sum).to.deep.equal({ ...noCounts(), bytesSent: 7, connectionsAccepted: 1, closedByDrain: 2 });
  });
});
