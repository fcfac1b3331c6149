import { expect } from 'chai';
import type { ToWorker } from '#src/ipc/messages.js';
import { NodeStatistics } from '#src/primary/metrics/node-statistics.js';
import { withClock } from '../../../support/clock.js';
import { countsOf, modelGauges, workerRecord } from '../../../support/records.js';

type Answer = Extract<ToWorker, { kind: 'statistics' }>;

class Asker {
  readonly answers: Answer[] = [];

  send(message: ToWorker): void {
    this.answers.push(message as Answer);
  }
}

describe('the statistics that a primary tells its workers', () => {
  const clock = withClock();

  it('are read once for all questions that have come, and never before a question', () => {
    let reads = 0;
    const node = new NodeStatistics(() => countsOf({ received: ++reads }));
    const askers = Array.from({ length: 64 }, () => new Asker());
    for (const [i, asker] of askers.entries()) node.ask(asker, i);
    expect(reads).to.equal(0);
    clock().tick(1);
    expect(reads).to.equal(1);
    for (const [i, { answers }] of askers.entries()) {
      expect(answers.map(({ question, models }) => [question, models.m?.requests])).to.deep.equal([[i, 1]]);
    }
  });

  it('take no more than a twentieth of its time, however many ask', () => {
    let spentMs = 0;
    const node = new NodeStatistics(() => {
      clock().tick(10);
      spentMs += 10;
      return countsOf({ received: spentMs });
    });
    const asker = new Asker();
    const begin = performance.now();
    for (let question = 0; question < 20_000; question++) {
      node.ask(asker, question);
      clock().tick(1);
    }
    clock().tick(1000);
    expect(asker.answers.length).to.equal(20_000);
    expect(spentMs / (performance.now() - begin)).to.be.within(1 / 40, 1 / 20);
  });

  it('have the last run in any of its workers, also of one that is gone', () => {
    const node = new NodeStatistics(() => countsOf({ received: 1 }));
    const at = (lastRunAt: number) => ({
      gauges: { ...workerRecord().gauges, models: { m: { ...modelGauges('1'), lastRunAt } } },
    });
    node.saw(workerRecord(at(1000)));
    node.saw(workerRecord({ ...at(3000), slot: 1 }));
    node.saw(workerRecord(at(2000)));
    const asker = new Asker();
    node.ask(asker, 1);
    clock().tick(1);
    expect(asker.answers[0]?.models.m?.lastRunAt).to.equal(3000);
  });
});
