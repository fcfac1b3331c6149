import { expect } from 'chai';
import { addCounts, liveWorkers, noCounts, noModelCounts, totalCounts } from '#src/metrics/merge.js';
import type { WorkerCounts } from '#src/metrics/snapshot.js';
import { nodeRecord, workerRecord } from '../../support/records.js';

const counts = (received: number, model = 'digits'): WorkerCounts => ({
  ...noCounts(),
  models: { [model]: { ...noModelCounts(), received, latency: [[100, received]] } },
});

describe('merged totals', () => {
  it('are the sum over living workers, departed ones and machines', () => {
    const records = [
      nodeRecord({ node: 'a', run: 'a1', departed: counts(1000), folded: { 0: 1 } }),
      workerRecord({ node: 'a', run: 'a1', slot: 0, incarnation: 3, counts: counts(10) }),
      workerRecord({ node: 'a', run: 'a1', slot: 1, incarnation: 2, counts: counts(20) }),
      nodeRecord({ node: 'b', run: 'b1' }),
      workerRecord({ node: 'b', run: 'b1', slot: 0, incarnation: 1, counts: counts(5, 'other') }),
    ];
    const total = totalCounts(records);
    expect(total.models.digits?.received).to.equal(1030);
    expect(total.models.other?.received).to.equal(5);
    expect(total.models.digits?.latency).to.deep.equal([[100, 1030]]);
  });

  it('do not count a worker twice whose record outlives its folding', () => {
    const late = workerRecord({ node: 'a', run: 'a1', slot: 0, incarnation: 1, counts: counts(10) });
    const node = nodeRecord({ node: 'a', run: 'a1', departed: counts(10), folded: { 0: 1 } });
    expect(totalCounts([late, node]).models.digits?.received).to.equal(10);
    expect(liveWorkers([late, node])).to.deep.equal([]);
  });

  it('count a worker whose node has not been heard of yet', () => {
    expect(totalCounts([workerRecord({ counts: counts(7) })]).models.digits?.received).to.equal(7);
  });

  it('keep an earlier run of a node that was restarted under its name', () => {
    const records = [
      nodeRecord({ run: 'first', departed: counts(100), folded: { 0: 1 } }),
      nodeRecord({ run: 'second' }),
      workerRecord({ run: 'second', counts: counts(1) }),
    ];
    expect(totalCounts(records).models.digits?.received).to.equal(101);
  });

  it('add every counter', () => {
    const one = { ...noCounts(), bytesSent: 3, connectionsAccepted: 1 };
    const sum = addCounts(one, { ...noCounts(), bytesSent: 4, closedByDrain: 2 });
    expect(sum).to.deep.equal({ ...noCounts(), bytesSent: 7, connectionsAccepted: 1, closedByDrain: 2 });
  });
});
