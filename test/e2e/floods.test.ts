// Floods: each from its own process, each in its own way. During a flood, well-behaved clients are served and memory
// stays within what config says; afterwards everything is as before. How much slower well-behaved clients become is for
// `npm run bench` to measure.

import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { ceilingMb, descriptors, flooder, floods, measureFlood, residentMb } from '../support/flood.js';
import { Load } from '../support/load.js';
import { endProcesses } from '../support/processes.js';
import { TestServer } from '../support/server.js';
import { until } from '../support/until.js';

describe('a flood of', function () {
  this.timeout(90_000);
  afterEach(endProcesses);

  for (const [kind, flood] of Object.entries(floods)) {
    it(`${kind} leaves well-behaved clients served, memory bounded, and nothing behind`, async () => {
      const { flooded, after, wrong, grownMb, hasLostWorkers } = await measureFlood(kind, 4, 0);
      expect(wrong, 'replies that are missing or wrong').to.equal(0);
      expect(hasLostWorkers).to.equal(false);
      expect(flooded.served / flooded.offered).to.be.at.least(0.8);
      expect(after.served / after.offered).to.be.at.least(0.8);
      expect(grownMb).to.be.at.most(ceilingMb(flood));
    });
  }
});

describe('ten thousand idle connections', function () {
  this.timeout(90_000);
  afterEach(endProcesses);

  it('cost less than 20 KB each, over all workers, and leave no descriptor when they have gone', async () => {
    const count = Math.min(
      10_000,
      Number(/Max open files +\d+ +(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]) - 500,
    );
    const args = ['--set', `server.maxConnections=${count}`];
    const server = new TestServer({ env: { MODEL: 'dummy', WORKERS: '2' }, args });
    const port = await server.port();
    const pids = await server.workerPids();
    // After this, the workers have allocated what they need whatever the number of connections.
    const load = new Load(() => [port], { connections: 64, replyBytes: 9 });
    await load.more(50_000);
    await load.stop();
    await server.metricsWhen('no connection', ({ connections }) => connections === 0);
    const sum = (of: (pid: number) => number): number => pids.reduce((total, pid) => total + of(pid), 0);
    const [bytesBefore, descriptorsBefore] = [sum(residentMb) * 1e6, sum(descriptors)];
    const clients = flooder('idle connections', port, count);
    await until('all of them', async () => (await server.metrics()).connections === count, { timeoutMs: 60_000 });
    expect((sum(residentMb) * 1e6 - bytesBefore) / count).to.be.below(20_000);
    clients.signal('SIGKILL');
    await server.metricsWhen('no connection', ({ connections }) => connections === 0);
    await until('no descriptor', () => sum(descriptors) <= descriptorsBefore);
  });
});
