// One flood against its own server, from a calm time before it to the time after it, with well-behaved clients beside
// it throughout. A real flood does not share the processors of its target; here it does, so clients have the highest
// priority, then the server, and the flood has the lowest.

import { readdirSync, readFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '#src/errors.js';
import { root, TestProcess } from './processes.js';
import { TestServer } from './server.js';
import { type Span, SteadyClients } from './steady.js';
import { until } from './until.js';

interface Flood {
  /** Connections at once, or in total. */
  readonly count: number;
  /** The limit of the server. */
  readonly maxConnections: number;
}

export const floods: Readonly<Record<string, Flood>> = {
  'slow senders': { count: 2500, maxConnections: 3000 },
  'half frames': { count: 300, maxConnections: 1000 },
  'slow readers': { count: 200, maxConnections: 1000 },
  'half-open connections': { count: 2500, maxConnections: 3000 },
  'connect and reset': { count: 50, maxConnections: 1000 },
  'more connections than are allowed': { count: 50_000, maxConnections: 1000 },
  'frames of the maximum size': { count: 100, maxConnections: 1000 },
  'pipelines of tiny frames': { count: 20, maxConnections: 1000 },
};

/**
 * How much more memory a worker may need than when it is idle, in MB: the formula in config/README.md's section on
 * security.
 */
export const ceilingMb = ({ maxConnections }: Flood): number => 2 * maxBufferedMb + 0.02 * maxConnections + 200;

const maxBufferedMb = 16;
const settings = [
  `server.maxBufferedMb=${maxBufferedMb}`,
  'server.payloadTimeoutSeconds=4',
  'server.writeTimeoutSeconds=4',
];
/** Everything must be as before within this time. */
const recoveryMs = 5000;
const steadyConnections = 8;

export interface FloodReport {
  readonly calm: Span;
  readonly flooded: Span;
  readonly after: Span;
  /** Replies that well-behaved clients missed, or that were wrong. */
  readonly wrong: number;
  /** How much the memory of the worker that grew most has grown, in MB. */
  readonly grownMb: number;
  /** From the end of the flood until nothing of it was left. */
  readonly goneMs: number;
  readonly hasLostWorkers: boolean;
}

/**
 * Throws when something of the flood is left five seconds after its end.
 * @param calmMs how long to observe the time before it, for comparison
 */
export async function measureFlood(kind: string, seconds: number, calmMs = 2000): Promise<FloodReport> {
  const { count, maxConnections } = floods[kind] as Flood;
  const env = { MODEL: 'dummy', RESPONSE_SIZE: '1000', WORKERS: '2', MAX_CONNECTIONS: String(maxConnections) };
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
    const calm = await spanOf(calmMs);
    const pids = await server.workerPids();
    const before = pids.map((pid) => ({ pid, mb: residentMb(pid), descriptors: descriptors(pid) }));
    let grownMb = 0;
    const watch = setInterval(() => {
      for (const { pid, mb } of before) grownMb = Math.max(grownMb, residentMb(pid) - mb);
    }, 50);
    const hostile = flooder(kind, port, count);
    await hostile.line('the flood', (line) => line.startsWith('flooding'));
    const flooded = await spanOf(seconds * 1000);
    clearInterval(watch);
    hostile.signal('SIGKILL');
    await hostile.exited;
    const endedAt = performance.now();
    const limit = { timeoutMs: recoveryMs };
    const areGone = async (): Promise<boolean> => (await server.metrics()).connections === steadyConnections;
    await until('the connections of the flood to be gone', areGone, limit);
    for (const { pid, descriptors: had } of before) {
      await until('its descriptors to be gone', () => descriptors(pid) <= had + steadyConnections, limit);
    }
    const goneMs = performance.now() - endedAt;
    const after = await spanOf(1000);
    const hasLostWorkers = String(await server.workerPids()) !== String(pids);
    return { calm, flooded, after, wrong: steady.wrong, grownMb, goneMs, hasLostWorkers };
  } catch (error) {
    throw new Error(`${messageOf(error)}; the server said:\n${server.output}`, { cause: error });
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
