import { expect } from 'chai';
import { runningCode } from '#src/code.js';
import { Child } from '#src/primary/supervision/child-process.js';
import { withClock } from '../../support/clock.js';
import { FakeProcess } from '../../support/fake-process.js';

interface Order {
  readonly kind: 'boot' | 'drain';
}
interface Word {
  readonly kind: 'ready' | 'word';
}

const nextTick = (): Promise<void> => new Promise((resolve) => process.nextTick(resolve));

describe('a child process of the primary', () => {
  const clock = withClock();

  function startChild(pid?: number) {
    const process = new FakeProcess(pid);
    const child = new Child<Order, Word>({
      process: process.asChild,
      role: 'worker',
      incarnation: 1,
      startLimit: { ms: 5000, exceeded: 'not ready' },
      silenceLimit: { ms: 1000, exceeded: 'silent' },
      boot: () => ({ kind: 'boot' }),
    });
    const heard: string[] = [];
    const ends: string[] = [];
    const hangs: string[] = [];
    child.onMessage(({ kind }) => heard.push(kind));
    child.onExit((how) => ends.push(how));
    child.onHang((reason) => hangs.push(reason));
    return { process, child, heard, ends, hangs, sent: () => process.sent.map(({ kind }) => kind) };
  }

  it('is told what to be when it has said that it listens', () => {
    const { process, sent, heard } = startChild();
    expect(sent()).to.deep.equal([]);
    process.says({ kind: 'hello', code: runningCode });
    expect(sent()).to.deep.equal(['boot']);
    process.says({ kind: 'word' });
    expect(heard).to.deep.equal(['word']);
  });

  it('is killed, and told nothing, when it runs other code', async () => {
    const { process, child, sent, ends } = startChild();
    process.says({ kind: 'hello', code: '99.0.0+other' });
    await nextTick();
    expect([sent(), process.signals, ends]).to.deep.equal([[], ['SIGKILL'], ['SIGKILL']]);
    expect(child.killedFor).to.match(/^version 99\.0\.0\+other is installed/);
  });

  it('is killed when it is not ready in time, and that is the reason', async () => {
    const { process, child, hangs, ends } = startChild();
    clock().tick(5000);
    expect(process.signals).to.deep.equal([]);
    clock().tick(100);
    await nextTick();
    expect([hangs, process.signals, ends]).to.deep.equal([['not ready'], ['SIGKILL'], ['SIGKILL']]);
    expect(child.killedFor).to.equal('not ready');
  });

  it('is left alone while it gives signs of life, and killed when it gives none', () => {
    const { process, child, hangs } = startChild();
    expect(child.becomeReady()).to.equal(true);
    for (let i = 0; i < 20; i++) {
      clock().tick(900);
      child.heardAt = performance.now();
    }
    expect(process.signals).to.deep.equal([]);
    clock().tick(1100);
    expect([hangs, process.signals]).to.deep.equal([['silent'], ['SIGKILL']]);
  });

  it('is not blamed for the time in which the primary itself stood still', () => {
    const { process, child, hangs } = startChild();
    child.becomeReady();
    clock().jump(60_000);
    expect(hangs).to.deep.equal([]);
    child.heardAt = performance.now(); // what it sent meanwhile has been read
    clock().tick(900);
    expect(process.signals).to.deep.equal([]);
  });

  it('is watched no more when it is gone', () => {
    const { process, hangs } = startChild();
    process.exits(1);
    clock().tick(60_000);
    expect([hangs, process.signals, clock().countTimers()]).to.deep.equal([[], [], 0]);
  });

  it('is asked to end, and killed only when it takes too long', async () => {
    for (const isInTime of [true, false]) {
      const { process, child, sent, ends } = startChild();
      const overdue: string[] = [];
      child.becomeReady();
      child.end({ kind: 'drain' }, 2000, () => overdue.push('overdue'));
      expect([child.state, sent()]).to.deep.equal(['leaving', ['drain']]);
      clock().tick(1999);
      expect(process.signals).to.deep.equal([]);
      if (isInTime) process.exits(0);
      clock().tick(1);
      await nextTick();
      expect([overdue, ends]).to.deep.equal(isInTime ? [[], ['exit code 0']] : [['overdue'], ['SIGKILL']]);
    }
  });

  it('that serves nobody yet is killed when it is to end, and becomes ready no more', () => {
    const { process, child, sent } = startChild();
    child.end({ kind: 'drain' }, 2000);
    expect([sent(), process.signals]).to.deep.equal([[], ['SIGKILL']]);
    expect(child.becomeReady()).to.equal(false);
    expect(child.state).to.equal('leaving');
  });

  it('keeps the first reason that it was killed for', () => {
    const { child } = startChild();
    child.kill('hung');
    child.kill('another');
    child.kill();
    expect(child.killedFor).to.equal('hung');
  });

  it('is gone when all that it said before its end has been heard', () => {
    const { process, heard, ends } = startChild();
    process.exitsBeforeItIsRead(null, 'SIGSEGV');
    expect(ends).to.deep.equal([]);
    process.says({ kind: 'word' });
    process.channelEnds();
    expect([heard, ends]).to.deep.equal([['word'], ['SIGSEGV']]);
  });

  it('that could not even be spawned is gone with the reason', () => {
    const { process, ends } = startChild();
    process.pid = undefined;
    process.emit('error', new Error('spawn EAGAIN'));
    expect([ends, clock().countTimers()]).to.deep.equal([['spawn EAGAIN'], 0]);
  });

  it('outlives a message that it could not be sent', () => {
    const { process, ends } = startChild();
    process.emit('error', new Error('write EPIPE'));
    expect(ends).to.deep.equal([]);
  });

  it('takes no message when its channel has closed, and says so to who asks', async () => {
    const { process, child } = startChild();
    process.channelEnds();
    child.send({ kind: 'drain' });
    const reason = await child.sent({ kind: 'drain' }).catch((error: Error) => error.message);
    expect([reason, process.sent]).to.deep.equal(['worker 7 is gone', []]);
  });
});
