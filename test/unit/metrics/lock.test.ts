import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { expect } from 'chai';
import { holdLock, isHeld } from '#src/metrics/lock.js';
import { temporaryFolder } from '../../support/folder.js';
import { endProcesses, root, TestProcess } from '../../support/processes.js';

/** A process that holds the lock; `then` is what it does afterwards. */
async function holder(folder: string, name: string, then = 'setInterval(() => {}, 1000)'): Promise<TestProcess> {
  const program = `
    const { holdLock } = await import(${JSON.stringify(`${root}dist/metrics/lock.js`)});
    await holdLock(process.argv[1], process.argv[2]);
    console.log('held');
    ${then}`;
  const process_ = new TestProcess(process.execPath, ['--input-type=module', '-e', program, folder, name]);
  await process_.line('a lock that is held', (line) => line === 'held');
  return process_;
}

describe('a lock', () => {
  afterEach(endProcesses);

  it('is held until it is released, and leaves no file', async () => {
    const folder = temporaryFolder();
    expect(await isHeld(folder, 'a')).to.equal(false);
    const lock = await holdLock(folder, 'a');
    expect(readdirSync(folder)).to.deep.equal(['a.lock']);
    expect(await isHeld(folder, 'a')).to.equal(true);
    lock.release();
    expect(await isHeld(folder, 'a')).to.equal(false);
    expect(readdirSync(folder)).to.deep.equal([]);
  });

  it('ends with its process, however that ends', async () => {
    const folder = temporaryFolder();
    const killed = await holder(folder, 'killed');
    expect(await isHeld(folder, 'killed')).to.equal(true);
    killed.signal('SIGKILL');
    await killed.ended();
    expect(await isHeld(folder, 'killed')).to.equal(false);
    const exits = await holder(folder, 'exits', 'process.exit(3)');
    await exits.ended();
    expect(existsSync(join(folder, 'exits.lock'))).to.equal(false);
  });

  it('is held by a process that hangs or stands still, however many ask', async () => {
    const folder = temporaryFolder();
    await holder(folder, 'hangs', 'for (;;);');
    const stopped = await holder(folder, 'stopped');
    stopped.signal('SIGSTOP');
    for (const name of ['hangs', 'stopped']) {
      // More connections than the kernel queues.
      for (let i = 0; i < 600; i++) await isHeld(folder, name);
      expect(await isHeld(folder, name)).to.equal(true);
    }
  });

  it('works in folders whose path is too long for a socket', async () => {
    const folder = join(temporaryFolder(), 'x'.repeat(100), 'y'.repeat(100));
    mkdirSync(folder, { recursive: true });
    const lock = await holdLock(folder, 'mwvix41i-d106a4-12-12345');
    expect(await isHeld(folder, 'mwvix41i-d106a4-12-12345')).to.equal(true);
    expect(await isHeld(folder, 'mwvix41i-d106a4-12-12346')).to.equal(false);
    lock.release();
    expect(readdirSync(folder)).to.deep.equal([]);
  });

  it('is never there without being held: who sees it while it is made does not take its holder for dead', async () => {
    const folder = temporaryFolder();
    let isOver = false;
    const seen: string[] = [];
    const watching = (async () => {
      while (!isOver) {
        for (const name of readdirSync(folder).filter((file) => file.endsWith('.lock')))
          await new Promise<void>((resolve) => {
            const socket = connect(join(folder, name), () => resolve(void socket.destroy()));
            socket.once('error', ({ message }) => resolve(void seen.push(message)));
          });
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    for (let i = 0; i < 300; i++) (await holdLock(folder, `lock-${i}`)).release();
    isOver = true;
    await watching;
    // Between two looks, a lock may only disappear.
    expect(seen.filter((message) => !message.includes('ENOENT'))).to.deep.equal([]);
  });

  it('cannot be held where no socket can be made, and says why', async () => {
    const error = await holdLock('/proc/none', 'a').catch((thrown: Error) => thrown);
    expect(error).to.be.instanceOf(Error);
  });
});
