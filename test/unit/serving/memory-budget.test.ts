import { expect } from 'chai';
import fc from 'fast-check';
import { type Holder, MemoryBudget, maxTurns } from '#src/serving/memory-budget.js';

const kib = 1024;

/** Reads while it may, and holds what it reads until it is told to release it. */
class Reader implements Holder {
  held = 0;
  mayRead = true;
  turnsEnded = 0;
  readonly #budget: MemoryBudget;

  constructor(budget: MemoryBudget) {
    this.#budget = budget;
    budget.join();
  }

  take(bytes: number): void {
    const before = this.held;
    this.held += bytes;
    this.mayRead = this.#budget.hold(this, this.held, before);
  }

  resumeReading(): void {
    this.take(0);
  }

  endTurn(): void {
    this.turnsEnded++;
    this.take(0);
  }

  leave(): void {
    this.#budget.leave(this, this.held);
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await turn();
}

describe('the memory budget', () => {
  it('stops those that hold more than an even share when all is taken, and no other', () => {
    const budget = new MemoryBudget(1000 * kib);
    const [large, small, late] = [new Reader(budget), new Reader(budget), new Reader(budget)];
    large.take(900 * kib);
    small.take(50 * kib);
    expect([large.mayRead, small.mayRead]).to.deep.equal([true, true]);
    large.take(60 * kib);
    expect(large.mayRead).to.equal(false);
    small.take(10 * kib);
    late.take(100 * kib);
    expect([small.mayRead, late.mayRead], 'who holds less than a sixth').to.deep.equal([true, true]);
    for (const reader of [large, small, late]) reader.leave();
    expect(budget.used).to.equal(0);
  });

  it('lets those that wait go on when there is room, the first first', async () => {
    const budget = new MemoryBudget(1000 * kib);
    const readers = Array.from({ length: 3 }, () => new Reader(budget));
    for (const reader of readers) reader.take(400 * kib);
    expect(readers.map(({ mayRead }) => mayRead)).to.deep.equal([true, true, false]);
    readers[0]?.take(1);
    expect(readers.map(({ mayRead }) => mayRead)).to.deep.equal([false, true, false]);
    readers[1]?.take(-210 * kib);
    await turn();
    expect(
      readers.map(({ mayRead }) => mayRead),
      'room for one',
    ).to.deep.equal([false, true, true]);
    readers[1]?.take(-100 * kib);
    await turn();
    expect(readers.map(({ mayRead }) => mayRead)).to.deep.equal([true, true, true]);
    for (const reader of readers) reader.leave();
  });

  it('gives turns when nobody lets go, so that one after the other becomes whole', async () => {
    const budget = new MemoryBudget(1000 * kib);
    const readers = Array.from({ length: 3 * maxTurns }, () => new Reader(budget));
    for (const reader of readers) reader.take(200 * kib);
    const waiting = readers.filter(({ mayRead }) => !mayRead);
    expect(waiting.length).to.be.greaterThan(maxTurns);
    await until(() => waiting.filter(({ mayRead }) => mayRead).length === maxTurns);
    await until(() => waiting.every(({ turnsEnded }) => turnsEnded > 0));
    for (const reader of readers) reader.leave();
  });

  it('always knows what is held, and never exceeds the limit by more than each may read at once', () => {
    const steps = fc.array(
      fc.record({ who: fc.nat({ max: 4 }), bytes: fc.integer({ min: 1, max: 64 * kib }), lets: fc.boolean() }),
      { maxLength: 200 },
    );
    fc.assert(
      fc.property(steps, (taken) => {
        const budget = new MemoryBudget(300 * kib);
        const readers = Array.from({ length: 5 }, () => new Reader(budget));
        for (const { who, bytes, lets } of taken) {
          const reader = readers[who] as Reader;
          if (lets) reader.take(-Math.min(bytes, reader.held));
          else if (reader.mayRead) reader.take(bytes);
          expect(budget.used).to.equal(readers.reduce((sum, { held }) => sum + held, 0));
          expect(budget.used).to.be.at.most((300 + 5 * 64) * kib);
        }
        for (const reader of readers) reader.leave();
      }),
    );
  });
});
