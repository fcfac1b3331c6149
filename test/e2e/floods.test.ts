// Floods: each from a process of its own, each in its own way. While one is under way, well-behaved clients are served,
// memory stays where config says, and when it is over everything is as before.

import { readdirSync, readFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { endProcesses, TestProcess } from '../support/processes.js';
import { TestServer } from '../support/server.js';
import { SteadyClients } from '../support/steady.js';
import { until } from '../support/until.js';

const maxBufferedMb = 16;
const maxConnections = 1000;
const settings = [
  `server.maxConnections=${maxConnections}`,
  `server.maxBufferedMb=${maxBufferedMb}`,
  'server.payloadTimeoutSeconds=4',
  'server.writeTimeoutSeconds=4',
];

/** How many at once, or in all. */
const floods: Readonly<Record<string, number>> = {
  'slow senders': 900,
  'half frames': 300,
  'slow readers': 200,
  'half-open connections': 900,
  'connect and reset': 50,
  'more connections than are allowed': 50_000,
  'frames of the maximum size': 100,
  'pipelines of tiny frames': 20,
};

const residentMb = (pid: number): number =>
  (Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024) / 1e6;
const descriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

describe('a flood of', function () {
  this.timeout(90_000);
  let steady: SteadyClients | undefined;
  afterEach(async () => {
    steady?.destroy();
    await endProcesses();
  });

  for (const [kind, count] of Object.entries(floods)) {
    it(`${kind} leaves well-behaved clients served, memory bounded, and nothing behind`, async () => {
      const args = settings.flatMap((setting) => ['--set', setting]);
      const server = new TestServer({ env: { MODEL: 'dummy', RESPONSE_SIZE: '1000', WORKERS: '2' }, args });
      // Below the clients, which in truth have processors of their own, and above the flood.
      setPriority(server.pid, constants.priority.PRIORITY_BELOW_NORMAL);
      const port = await server.port();
      const reply = Buffer.alloc(1000, 'X');
      steady = await SteadyClients.connect({ port, connections: 8, rate: 1000, payload: Buffer.alloc(256), reply });
      await sleep(1000);
      steady.takeSpan();
      await sleep(2000);
      const calm = steady.takeSpan();
      const workers = await server.workerPids();
      const before = workers.map((pid) => ({ pid, mb: residentMb(pid), fds: descriptors(pid) }));

      const flooder = new TestProcess(process.execPath, [
        'build/test/support/flooder.js',
        kind,
        String(port),
        String(count),
      ]);
      await flooder.line('the flood', (line) => line.startsWith('flooding'));
      steady.takeSpan();
      let highestMb = 0;
      for (let i = 0; i < 60; i++) {
        await sleep(100);
        for (const { pid, mb } of before) highestMb = Math.max(highestMb, residentMb(pid) - mb);
      }
      const flooded = steady.takeSpan();
      flooder.signal('SIGKILL');
      await flooder.exited;
      const endedAt = performance.now();
      await until('its connections to be gone', async () => (await server.metrics()).connections === 8, {
        timeoutMs: 5000,
      });
      for (const { pid, fds } of before) {
        await until('its descriptors to be gone', () => descriptors(pid) <= fds + 2, { timeoutMs: 5000 });
      }
      steady.takeSpan();
      await sleep(1000);
      const after = steady.takeSpan();
      console.log(
        kind,
        { calm, flooded, after, highestMb, recoveredMs: performance.now() - endedAt - 1000 },
        await server.prometheus().then((text) =>
          text
            .split('\n')
            .filter((line) => /^mltcp_connection.*[1-9]\d*$/.test(line))
            .join('\n'),
        ),
      );
      expect(await server.workerPids(), 'no worker died').to.deep.equal(workers);
      expect(steady.wrong).to.equal(0);
    });
  }
});
