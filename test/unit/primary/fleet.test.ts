import { expect } from 'chai';
import { Child } from '#src/primary/supervision/child-process.js';
import { Fleet } from '#src/primary/supervision/fleet.js';
import { withClock } from '../../support/clock.js';
import { FakeProcess } from '../../support/fake-process.js';

interface Message {
  readonly kind: string;
}
type Member = Child<Message, Message>;

const nextTick = (): Promise<void> => new Promise((resolve) => process.nextTick(resolve));

describe('a fleet of children', () => {
  const clock = withClock();

  /** `delaysMs` has the delays between the deaths of children and the starts of their replacements. */
  function startFleet({ workers = 1, maxBootFailures = Number.POSITIVE_INFINITY } = {}) {
    const processes: FakeProcess[] = [];
    const members: Member[] = [];
    const given: string[] = [];
    const refusals: string[] = [];
    const delaysMs: number[] = [];
    const wish = { workers, revision: 1, maxBootFailures };
    const code: { change: string | null } = { change: null };
    let diedAt: number | null = null;
    const fleet: Fleet<Member> = new Fleet<Member>({
      wish: () => wish,
      codeChange: () => code.change,
      start: (_slot, incarnation) => {
        const process = new FakeProcess(incarnation);
        const member: Member = new Child({
          process: process.asChild,
          role: 'worker',
          incarnation,
          boot: () => ({ kind: 'boot' }),
        });
        processes.push(process);
        members.push(member);
        if (diedAt !== null) delaysMs.push(performance.now() - diedAt);
        diedAt = null;
        return member;
      },
      end: (member, how) => member.end({ kind: how }, 2000),
      onExit: (member, slot) => {
        if (fleet.isStopping || member.state === 'leaving') return;
        slot.noteDeath(member);
        diedAt = performance.now();
      },
      onCodeChanged: (change, _slot, isNews) => refusals.push(`${change}${isNews ? '' : ' still'}`),
      onGiveUp: ({ bootFailures }) => given.push(`up after ${bootFailures}`),
    });
    fleet.reconcile();
    const last = () => ({ process: processes.at(-1) as FakeProcess, member: members.at(-1) as Member });
    const serve = (): void => {
      last().member.becomeReady();
      fleet.slots[0]?.noteReady();
      fleet.reconcile();
    };
    /** The last child dies, and time passes until another one has been started. */
    const dies = (): void => {
      const before = processes.length;
      last().process.exits(1);
      while (processes.length === before) clock().next();
    };
    return { fleet, wish, code, processes, members, given, refusals, delaysMs, last, serve, dies };
  }

  it('replaces one that dies, the first time at once and then ever later, at most after ten seconds', () => {
    const { delaysMs, dies } = startFleet();
    for (let death = 0; death < 20; death++) dies();
    expect(delaysMs[0]).to.equal(0);
    delaysMs.slice(1).forEach((delayMs, i) => {
      const longest = Math.min(200 * 2 ** i, 10_000);
      expect(delayMs).to.be.within(longest / 2, longest + 2);
    });
  });

  it('replaces one at once that has lived long enough to prove itself, whatever came before', () => {
    const { delaysMs, dies, serve } = startFleet();
    for (let death = 0; death < 5; death++) dies();
    expect(delaysMs.at(-1)).to.be.at.least(800);
    serve();
    clock().tick(10_000);
    dies();
    expect(delaysMs.at(-1)).to.equal(0);
  });

  it('gives up when so many in a row could not start, and starts none any more', () => {
    const { given, processes, last, fleet } = startFleet({ maxBootFailures: 3 });
    for (let failure = 0; failure < 3; failure++) {
      expect(given).to.deep.equal([]);
      last().process.exits(1);
      clock().tick(1000);
    }
    clock().tick(60_000);
    expect([given, processes.length, fleet.isStopping]).to.deep.equal([['up after 3'], 3, true]);
  });

  it('counts from the beginning when one has served', () => {
    const { given, processes, last, serve } = startFleet({ maxBootFailures: 2 });
    for (let round = 0; round < 5; round++) {
      last().process.exits(1);
      clock().tick(10_000);
      serve();
      last().process.exits(1);
      clock().tick(10_000);
    }
    expect([given, processes.length]).to.deep.equal([[], 11]);
  });

  it('starts none from other code, says so once, and goes on when it is as it was', () => {
    const { code, refusals, processes, last } = startFleet();
    code.change = 'other code';
    last().process.exits(1);
    expect(refusals).to.deep.equal(['other code']);
    clock().tick(2500);
    expect([refusals, processes.length]).to.deep.equal([['other code', 'other code still', 'other code still'], 1]);
    code.change = null;
    clock().tick(1000);
    expect(processes).to.have.lengthOf(2);
    code.change = 'other code';
    last().process.exits(1);
    clock().tick(10_000);
    expect(refusals[3]).to.equal('other code');
  });

  it('has as many as there should be, and ends those beyond when another serves', async () => {
    const { fleet, wish, processes, members } = startFleet({ workers: 3 });
    expect(processes).to.have.lengthOf(3);
    for (const member of members) member.becomeReady();
    wish.workers = 1;
    fleet.reconcile();
    expect(processes.map(({ sent }) => sent)).to.deep.equal([[], [{ kind: 'retire' }], [{ kind: 'retire' }]]);
    processes[1]?.exits(0);
    clock().tick(2000);
    await nextTick();
    expect(fleet.members).to.deep.equal([members[0]]);
  });

  it('drains: asks all to end, starts none, and is done when the last one is gone', async () => {
    const { fleet, processes, members } = startFleet({ workers: 2 });
    for (const member of members) member.becomeReady();
    let isDone = false;
    const done = fleet.drain().then(() => {
      isDone = true;
    });
    expect(processes.map(({ sent }) => sent)).to.deep.equal([[{ kind: 'drain' }], [{ kind: 'drain' }]]);
    processes[0]?.exits(0);
    await nextTick();
    expect(isDone).to.equal(false);
    clock().tick(2000); // the other takes too long
    await done;
    expect([processes.length, processes[1]?.signals]).to.deep.equal([2, ['SIGKILL']]);
    await fleet.drain();
  });

  it('starts none when it is stopped while one is due', () => {
    for (const how of ['stop', 'kill', 'drain'] as const) {
      const { fleet, processes, dies, last } = startFleet();
      dies();
      dies();
      last().process.exits(1);
      expect(processes).to.have.lengthOf(3);
      void fleet[how]();
      clock().tick(60_000);
      expect(processes, how).to.have.lengthOf(3);
    }
  });

  it('kills all at once', async () => {
    const { fleet, processes } = startFleet({ workers: 3 });
    fleet.kill();
    await nextTick();
    expect([fleet.members, processes.map(({ signals }) => signals.length)]).to.deep.equal([[], [1, 1, 1]]);
  });
});
