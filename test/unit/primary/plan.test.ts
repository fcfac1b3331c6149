import { expect } from 'chai';
import fc from 'fast-check';
import { ConnectionLedger } from '#src/primary/connection-ledger.js';
import { backOffMs, plan, type SlotView } from '#src/primary/plan.js';

const wish = { isStopping: false, workers: 10, maxBootFailures: 3 };
const slot = (fields: Partial<SlotView>): SlotView => ({
  slot: 0,
  state: 'ready',
  notBefore: 0,
  bootFailures: 0,
  ...fields,
});

describe('the plan for the fleet', () => {
  it('forks every empty slot whose time has come, and waits for the others', () => {
    const fleet = [slot({}), slot({ slot: 1, state: 'empty' }), slot({ slot: 2, state: 'empty', notBefore: 500 })];
    expect(plan(fleet, wish, 100)).to.deep.equal([
      { kind: 'fork', slot: 1 },
      { kind: 'wait', until: 500 },
    ]);
  });

  it('drains the workers in slots beyond the wish, and forks none there', () => {
    const fleet = [
      slot({}),
      slot({ slot: 1 }),
      slot({ slot: 2, state: 'starting' }),
      slot({ slot: 3, state: 'empty' }),
    ];
    expect(plan(fleet, { ...wish, workers: 1 }, 0)).to.deep.equal([
      { kind: 'drain', slot: 1 },
      { kind: 'drain', slot: 2 },
    ]);
    const draining = [
      slot({}),
      slot({ slot: 1, state: 'draining' }),
      slot({ slot: 2, state: 'empty', bootFailures: 9 }),
    ];
    expect(plan(draining, { ...wish, workers: 1 }, 0)).to.deep.equal([]);
  });

  it('leaves a fleet alone that is as it should be', () => {
    expect(plan([slot({}), slot({ slot: 1, state: 'starting' })], wish, 0)).to.deep.equal([]);
  });

  it('gives up when a worker never becomes ready', () => {
    const fleet = [slot({}), slot({ slot: 1, state: 'empty', bootFailures: 3 })];
    expect(plan(fleet, wish, 0)).to.deep.equal([{ kind: 'give-up', slot: 1 }]);
  });

  it('drains what lives, once, and forks nothing, when it is to stop', () => {
    const fleet = [
      slot({}),
      slot({ slot: 1, state: 'starting' }),
      slot({ slot: 2, state: 'draining' }),
      slot({ slot: 3, state: 'empty' }),
    ];
    expect(plan(fleet, { ...wish, isStopping: true }, 0)).to.deep.equal([
      { kind: 'drain', slot: 0 },
      { kind: 'drain', slot: 1 },
    ]);
  });

  it('replaces a first death at once and backs off from the second young one on, up to ten seconds', () => {
    expect(backOffMs(0, 0.5)).to.equal(0);
    expect(backOffMs(1, 0.5)).to.equal(0);
    expect([2, 3, 4].map((deaths) => backOffMs(deaths, 0))).to.deep.equal([200, 400, 800]);
    expect(backOffMs(100, 0)).to.equal(10_000);
    expect(backOffMs(100, 1)).to.equal(5_000);
  });
});

describe('the connection ledger', () => {
  it('never grants more than the limit over all workers, and forgets none', () => {
    const steps = fc.array(
      fc.record({
        worker: fc.nat({ max: 2 }),
        kind: fc.constantFrom('admit', 'release', 'die'),
        count: fc.integer({ min: 1, max: 9 }),
      }),
    );
    fc.assert(
      fc.property(steps, (taken) => {
        const ledger = new ConnectionLedger(10);
        const workers = [{ connections: 0 }, { connections: 0 }, { connections: 0 }];
        for (const { worker: index, kind, count } of taken) {
          const worker = workers[index] as { connections: number };
          const free = 10 - workers.reduce((sum, { connections }) => sum + connections, 0);
          if (kind === 'admit') expect(ledger.admit(worker, count)).to.equal(Math.min(count, free));
          if (kind === 'release') ledger.release(worker, Math.min(count, worker.connections));
          if (kind === 'die') ledger.releaseAll(worker);
        }
        expect(workers.reduce((sum, { connections }) => sum + connections, 0)).to.be.at.most(10);
      }),
    );
  });
});
