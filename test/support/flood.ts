// One flood against a server of its own, from a calm time before it to the time after it, with well-behaved clients
// beside it all the while. Processors are shared, which in truth they are not: so clients go first, then the server,
// and the flood last.

import { readdirSync, readFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { root, TestProcess } from './processes.js';
import { TestServer } from './server.js';
import { type Span, SteadyClients } from './steady.js';
import { until } from './until.js';

/** By kind, how many connections at once, or in all. */
export const floods: Readonly<Record<string, number>> = {
  'slow senders': 900,
  'half frames': 300,
  'slow readers': 200,
  'half-open connections': 900,
  'connect and reset': 50,
  'more connections than are allowed': 50_000,
  'frames of the maximum size': 100,
  'pipelines of tiny frames': 20,
};

export const floodLimits = { maxConnections: 1000, maxBufferedMb: 16 };
const settings = [
  `server.maxConnections=${floodLimits.maxConnections}`,
  `server.maxBufferedMb=${floodLimits.maxBufferedMb}`,
  'server.payloadTimeoutSeconds=4',
  'server.writeTimeoutSeconds=4',
];
/** All must be as before in this time. */
const recoveryMs = 5000;
const steadyConnections = 8;

export interface FloodReport {
  readonly calm: Span;
  readonly flooded: Span;
  readonly after: Span;
  /** Replies that well-behaved clients missed, or that were not theirs. */
  readonly wrong: number;
  /** What the worker that grew most had more than before, in MB. */
  readonly grownMb: number;
  /** From the end of the flood until nothing of it was left. */
  readonly goneMs: number;
  readonly hasLostWorkers: boolean;
}

/** Throws when something of the flood is left five seconds after its end. */
export async function measureFlood(kind: string, seconds: number): Promise<FloodReport> {
  const env = { MODEL: 'dummy', RESPONSE_SIZE: '1000', WORKERS: '2' };
  const server = new TestServer({ env, args: settings.flatMap((setting) => ['--set', setting]) });
  setPriority(server.pid, constants.priority.PRIORITY_BELOW_NORMAL);
  const port = await server.port();
  const steady = await SteadyClients.connect({
    port,
    connections: steadyConnections,
    rate: 1000,
    payload: Buffer.alloc(256),
    reply: Buffer.alloc(1000, 'X'),
  });
  try {
    const spanOf = async (ms: number): Promise<Span> => {
      steady.takeSpan();
      await sleep(ms);
      return steady.takeSpan();
    };
    await spanOf(1000);
    const calm = await spanOf(2000);
    const pids = await server.workerPids();
    const before = pids.map((pid) => ({ pid, mb: residentMb(pid), descriptors: descriptors(pid) }));
    let grownMb = 0;
    const watch = setInterval(() => {
      for (const { pid, mb } of before) grownMb = Math.max(grownMb, residentMb(pid) - mb);
    }, 50);
    const hostile = flooder(kind, port, floods[kind] as number);
    await hostile.line('the flood', (line) => line.startsWith('flooding'));
    const flooded = await spanOf(seconds * 1000);
    clearInterval(watch);
    hostile.signal('SIGKILL');
    await hostile.exited;
    const endedAt = performance.now();
    const limit = { timeoutMs: recoveryMs };
    await until(
      'the connections of the flood to be gone',
      async () => (await server.metrics()).connections === steadyConnections,
      limit,
    );
    for (const { pid, descriptors: had } of before) {
      await until('its descriptors to be gone', () => descriptors(pid) <= had + steadyConnections, limit);
    }
    const goneMs = performance.now() - endedAt;
    const after = await spanOf(1000);
    const hasLostWorkers = String(await server.workerPids()) !== String(pids);
    return { calm, flooded, after, wrong: steady.wrong, grownMb, goneMs, hasLostWorkers };
  } finally {
    steady.destroy();
  }
}

/** A process that floods `port`: see flooder.ts. */
export function flooder(kind: string, port: number, count: number): TestProcess {
  return new TestProcess(process.execPath, [`${root}build/test/support/flooder.js`, kind, String(port), String(count)]);
}

export const residentMb = (pid: number): number =>
  (Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024) / 1e6;

export const descriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;
