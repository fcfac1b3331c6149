// Clients that ask again as soon as they are answered, at a model in a thread.

import { install } from '@sinonjs/fake-timers';
import { expect } from 'chai';
import { VirtualServer } from '../../support/virtual-serving.js';

describe('clients that ask again at once', () => {
  it('share a run when they are back soon, and are all answered when one of them goes away', async () => {
    const clock = install({ toFake: ['performance', 'setTimeout', 'clearTimeout', 'setImmediate'], loopLimit: 1e6 });
    try {
      const server = new VirtualServer(clock, { rows: 64, perRunMs: 20, perRowMs: 20, concurrency: 1 });
      const clients = Array.from({ length: 4 }, () => server.client());
      let asked = 0;
      for (const [i, client] of clients.entries()) {
        client.onEnd = () => setTimeout(() => client.send(1), 1 + (asked++ % 3));
        setTimeout(() => client.send(1), i);
      }
      await clock.tickAsync(30_000);
      const runs = server.runs.slice(-200);
      expect(runs.reduce((sum, { length }) => sum + length, 0) / runs.length).to.be.above(3.3);
      clients[0]?.close();
      await clock.tickAsync(2000);
      // A client that waits for one that has gone is run within a third of a run.
      const last = server.fates.filter(({ endedAt }) => endedAt !== null).slice(-20);
      for (const { arrivedAt, endedAt } of last) expect((endedAt as number) - arrivedAt).to.be.below(1.5 * 80 + 80);
      expect(last.filter(({ outcome }) => outcome !== 'answered')).to.deep.equal([]);
    } finally {
      clock.uninstall();
    }
  });

  it('are not waited for while the model drains', async () => {
    const clock = install({ toFake: ['performance', 'setTimeout', 'clearTimeout', 'setImmediate'], loopLimit: 1e6 });
    try {
      const server = new VirtualServer(clock, { rows: 64, perRunMs: 20, perRowMs: 20, concurrency: 1 });
      const clients = Array.from({ length: 4 }, () => server.client());
      for (const [i, client] of clients.entries()) {
        client.onEnd = () => setTimeout(() => client.send(1), 1 + i);
        client.send(1);
      }
      await clock.tickAsync(30_000);
      server.batcher.drain();
      await clock.tickAsync(2000);
      const last = server.fates.filter(({ endedAt }) => endedAt !== null).slice(-40);
      const ran = new Set(last.map(({ startedAt }) => startedAt)).size;
      expect(last.length / ran).to.be.below(2.6);
    } finally {
      clock.uninstall();
    }
  });
});
