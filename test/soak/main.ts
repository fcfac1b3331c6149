// Good and bad traffic for a long time, and a check of what it leaves: the memory of the workers after each round is
// compared with that after the warm-up, and descriptors with those before any traffic. `npm run soak -- --seconds 600`.

import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { descriptors, flooder, residentMb } from '../support/flood.js';
import { endProcesses } from '../support/processes.js';
import { TestServer } from '../support/server.js';
import { SteadyClients } from '../support/steady.js';
import { until } from '../support/until.js';

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '600' } } });
const seconds = Number(values.seconds);
/** One kind after the other, each for a while, with a pause after all of them. */
const bad: readonly (readonly [kind: string, count: number])[] = [
  ['slow senders', 100],
  ['half frames', 50],
  ['slow readers', 50],
  ['connect and reset', 20],
  ['more connections than are allowed', 1000],
  ['frames of the maximum size', 20],
  ['pipelines of tiny frames', 10],
];
const floodMs = 3000;
const steadyConnections = 8;
const most = 1.05;

const settings = ['server.maxConnections=300', 'server.maxBufferedMb=16', 'server.payloadTimeoutSeconds=2'];
const args = [...settings, 'server.writeTimeoutSeconds=2'].flatMap((setting) => ['--set', setting]);
const server = new TestServer({ env: { MODEL: 'dummy', RESPONSE_SIZE: '1000', WORKERS: '2' }, args });
const port = await server.port();
const pids = await server.workerPids();
const before = pids.map(descriptors);
const steady = await SteadyClients.connect({
  port,
  connections: steadyConnections,
  rate: 500,
  payload: Buffer.alloc(256),
  reply: Buffer.alloc(1000, 'X'),
});

/** Runs all floods once, then waits; returns the memory of the workers at that time, in MB. */
async function round(): Promise<number> {
  for (const [kind, count] of bad) {
    const process = flooder(kind, port, count);
    await sleep(floodMs);
    process.signal('SIGKILL');
    await process.exited;
  }
  await until('the floods to be gone', async () => (await server.metrics()).connections === steadyConnections);
  await sleep(2000);
  return pids.reduce((sum, pid) => sum + residentMb(pid), 0);
}

const startedAt = performance.now();
const elapsed = (): number => (performance.now() - startedAt) / 1000;
const warm: number[] = [];
const later: number[] = [];
while (elapsed() < seconds || later.length === 0) {
  const mb = await round();
  (elapsed() < seconds / 5 || warm.length === 0 ? warm : later).push(mb);
  console.log(`${elapsed().toFixed(0)} s: workers have ${mb.toFixed(0)} MB`);
}
steady.destroy();
await until('no connection', async () => (await server.metrics()).connections === 0);
const isClosed = await until('no descriptor', () => pids.every((pid, i) => descriptors(pid) <= (before[i] ?? 0))).then(
  () => true,
  () => false,
);
const [warmMb, endMb] = [Math.max(...warm), later.at(-1) ?? 0];
const isSame = String(await server.workerPids()) === String(pids);
await endProcesses();
console.log(
  `after the warm-up ${warmMb.toFixed(0)} MB, in the end ${endMb.toFixed(0)} MB (${(endMb / warmMb).toFixed(2)})`,
);
console.log(`wrong or missing replies of well-behaved clients: ${steady.wrong}`);
console.log(isClosed ? 'no descriptor is left' : `descriptors are left: ${pids.map(descriptors)}, before ${before}`);
console.log(isSame ? 'no worker died' : 'workers died');
process.exit(endMb <= most * warmMb && steady.wrong === 0 && isClosed && isSame ? 0 : 1);
