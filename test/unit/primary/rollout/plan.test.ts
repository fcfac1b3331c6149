import { expect } from 'chai';
import fc from 'fast-check';
import { backOffMs, type MemberView, plan, type SlotView, type Wish } from '#src/primary/rollout/plan.js';

const wish: Wish = { isStopping: false, workers: 10, revision: 1, maxBootFailures: 3 };

/** `1`, `1 leaving 2 starting` …: revisions and states of a slot's workers; ready where no state is given. */
function members(text: string, slot: number): readonly MemberView[] {
  return [...text.matchAll(/(\d+)(?: (starting|leaving))?/g)].map(([, revision, state], i) => ({
    incarnation: 10 * slot + i,
    revision: Number(revision),
    state: (state ?? 'ready') as MemberView['state'],
  }));
}

const fleet = (...slots: (string | (Partial<SlotView> & { workers: string }))[]): readonly SlotView[] =>
  slots.map((given, slot) => {
    const { workers, ...fields } = typeof given === 'string' ? { workers: given } : given;
    return { slot, members: members(workers, slot), notBefore: 0, bootFailures: 0, ...fields };
  });

describe('the plan for the fleet', () => {
  it('forks every empty slot whose time has come, and waits for the others', () => {
    expect(plan(fleet('1', '', { workers: '', notBefore: 500 }), wish, 100)).to.deep.equal([
      { kind: 'fork', slot: 1 },
      { kind: 'wait', until: 500 },
    ]);
  });

  it('forks in the place of a worker that leaves with no successor', () => {
    expect(plan(fleet('1 leaving'), wish, 0)).to.deep.equal([{ kind: 'fork', slot: 0 }]);
  });

  it('retires the workers in slots beyond the wish, and forks none there', () => {
    expect(plan(fleet('1', '1', '1 starting', ''), { ...wish, workers: 1 }, 0)).to.deep.equal([
      { kind: 'retire', incarnation: 10 },
      { kind: 'retire', incarnation: 20 },
    ]);
    const leaving = fleet('1', '1 leaving', { workers: '', bootFailures: 9 });
    expect(plan(leaving, { ...wish, workers: 1 }, 0)).to.deep.equal([]);
  });

  it('lets a surplus worker serve until one of the others does', () => {
    const one = { ...wish, workers: 1 };
    expect(plan(fleet('1 starting', '1', '1 starting'), one, 0)).to.deep.equal([{ kind: 'retire', incarnation: 20 }]);
    expect(plan(fleet('1', '1'), one, 0)).to.deep.equal([{ kind: 'retire', incarnation: 10 }]);
  });

  it('leaves a fleet alone that is as it should be', () => {
    expect(plan(fleet('1', '1 starting'), wish, 0)).to.deep.equal([]);
  });

  it('gives up when a worker never becomes ready', () => {
    const dying = fleet('1', { workers: '', bootFailures: 3 });
    expect(plan(dying, wish, 0)).to.deep.equal([{ kind: 'give-up', slot: 1 }]);
  });

  it('drains what lives, once, and forks nothing, when it is to stop', () => {
    expect(plan(fleet('1', '1 starting', '1 leaving 2', ''), { ...wish, isStopping: true }, 0)).to.deep.equal([
      { kind: 'drain', incarnation: 0 },
      { kind: 'drain', incarnation: 10 },
      { kind: 'drain', incarnation: 21 },
    ]);
  });

  describe('of a reload', () => {
    const next = { ...wish, revision: 2 };

    it('starts one successor, waits until it is ready, retires the old worker, waits until it is gone, and goes on', () => {
      expect(plan(fleet('1', '1'), next, 0)).to.deep.equal([{ kind: 'fork', slot: 0 }]);
      expect(plan(fleet('1 2 starting', '1'), next, 0)).to.deep.equal([]);
      expect(plan(fleet('1 2', '1'), next, 0)).to.deep.equal([{ kind: 'retire', incarnation: 0 }]);
      expect(plan(fleet('1 leaving 2', '1'), next, 0)).to.deep.equal([]);
      expect(plan(fleet('2', '1'), next, 0)).to.deep.equal([{ kind: 'fork', slot: 1 }]);
      expect(plan(fleet('2', '2'), next, 0)).to.deep.equal([]);
    });

    it('replaces a worker that dies meanwhile first, by one of the new revision', () => {
      expect(plan(fleet('2', '', '1'), next, 0)).to.deep.equal([{ kind: 'fork', slot: 1 }]);
    });

    it('that was taken back ends what was started for it, and replaces what had it', () => {
      expect(plan(fleet('1 2 starting', '1'), wish, 0)).to.deep.equal([{ kind: 'retire', incarnation: 1 }]);
      expect(plan(fleet('1 2', '1'), wish, 0)).to.deep.equal([{ kind: 'retire', incarnation: 1 }]);
      expect(plan(fleet('2', '1'), wish, 0)).to.deep.equal([{ kind: 'fork', slot: 0 }]);
    });

    it('waits with a successor whose time has not come', () => {
      expect(plan(fleet({ workers: '1', notBefore: 700 }), next, 100)).to.deep.equal([{ kind: 'wait', until: 700 }]);
    });

    it('always comes to an end, never has a slot without a worker or the port without one, and never two beside those wanted', () => {
      const event = fc.record({ kind: fc.constantFrom('ready', 'gone', 'die', 'reload', 'scale'), at: fc.nat() });
      fc.assert(
        fc.property(fc.array(event, { maxLength: 60 }), (events) => {
          const simulated = new SimulatedFleet(3);
          for (const { kind, at } of events) simulated.happen(kind, at);
          expect(simulated.settle()).to.equal(true);
        }),
      );
    });
  });

  it('replaces a first death at once and backs off from the second young one on, up to ten seconds', () => {
    expect(backOffMs(0, 0.5)).to.equal(0);
    expect(backOffMs(1, 0.5)).to.equal(0);
    expect([2, 3, 4].map((deaths) => backOffMs(deaths, 0))).to.deep.equal([200, 400, 800]);
    expect(backOffMs(100, 0)).to.equal(10_000);
    expect(backOffMs(100, 1)).to.equal(5_000);
  });
});

/** A fleet that does what the plan says; workers boot, leave and die when the test says so. */
class SimulatedFleet {
  #wish: Wish;
  #slots: { members: { incarnation: number; revision: number; state: MemberView['state'] }[] }[] = [];
  #incarnations = 0;

  constructor(workers: number) {
    this.#wish = { ...wish, workers };
    this.#reconcile();
    this.settle();
  }

  happen(kind: string, at: number): void {
    const all = this.#slots.flatMap(({ members }) => members);
    const pick = (state: MemberView['state']) => {
      const those = all.filter((member) => member.state === state);
      return those[at % Math.max(1, those.length)];
    };
    if (kind === 'reload') this.#wish = { ...this.#wish, revision: this.#wish.revision + 1 };
    if (kind === 'scale') this.#wish = { ...this.#wish, workers: 1 + (at % 4) };
    const booted = pick('starting');
    if (kind === 'ready' && booted !== undefined) booted.state = 'ready';
    const gone = kind === 'gone' ? pick('leaving') : kind === 'die' ? pick('ready') : undefined;
    for (const { members } of this.#slots) if (gone && members.includes(gone)) members.splice(members.indexOf(gone), 1);
    this.#reconcile();
  }

  /** Lets everything boot and leave that wants to; returns whether all is as wished then. */
  settle(): boolean {
    for (let i = 0; i < 100; i++) {
      this.happen('ready', 0);
      this.happen('gone', 0);
    }
    return this.#slots.every(({ members }, slot) =>
      slot < this.#wish.workers
        ? members.length === 1 && members[0]?.state === 'ready' && members[0].revision === this.#wish.revision
        : members.length === 0,
    );
  }

  #reconcile(): void {
    while (this.#slots.length < this.#wish.workers) this.#slots.push({ members: [] });
    const views = this.#slots.map(({ members }, slot) => ({ slot, members, notBefore: 0, bootFailures: 0 }));
    for (const action of plan(views, this.#wish, 0)) {
      if (action.kind === 'fork') {
        const { revision } = this.#wish;
        this.#slots[action.slot]?.members.push({ incarnation: ++this.#incarnations, revision, state: 'starting' });
      } else if (action.kind === 'retire') this.#retire(action.incarnation);
    }
    const wanted = this.#slots.slice(0, this.#wish.workers);
    for (const { members } of wanted) expect(members.some(({ state }) => state !== 'leaving')).to.equal(true);
    const successors = wanted.filter(({ members }) => members.filter(({ state }) => state !== 'leaving').length > 1);
    expect(successors.length).to.be.at.most(1);
  }

  #retire(incarnation: number): void {
    const isIt = (member: MemberView): boolean => member.incarnation === incarnation;
    const ready = this.#slots.flatMap(({ members }) => members.filter(({ state }) => state === 'ready'));
    expect(ready.some(isIt) && ready.length === 1, 'the last one that serves is retired').to.equal(false);
    for (const { members } of this.#slots) for (const member of members.filter(isIt)) member.state = 'leaving';
  }
}
