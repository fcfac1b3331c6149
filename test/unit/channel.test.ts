import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { expect } from 'chai';
import { hearOfEnd } from '#src/channel.js';
import { within } from '../support/until.js';

describe('the channel to another process', () => {
  it('is known to have ended when the other died before it had taken a handle, and at once', async () => {
    const child: ChildProcess = spawn(
      process.execPath,
      ['-e', 'process.on("message", () => {}); process.send("here")'],
      {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      },
    );
    const server = createServer().listen(0, '127.0.0.1');
    try {
      hearOfEnd(child);
      await once(child, 'message');
      child.kill('SIGSTOP');
      child.send('a handle that it will not take', server, () => {});
      child.send('what waits behind it', () => {});
      child.kill('SIGKILL');
      const events: string[] = [];
      for (const event of ['disconnect', 'exit']) child.once(event, () => events.push(event));
      await within(5000, 'both events', Promise.all([once(child, 'disconnect'), once(child, 'exit')]));
      expect(events.toSorted()).to.deep.equal(['disconnect', 'exit']);
      expect(child.connected).to.equal(false);
    } finally {
      child.kill('SIGKILL');
      server.close();
    }
  });
});
