// What may happen at night. Each event starts something, returns at once or soon with a text of what it did, and mends
// by itself what it breaks.

import { createConnection, type Socket } from 'node:net';
import { Redis } from 'ioredis';
import { encodeFrame } from '#src/protocol/frames.js';
import { within } from '../support/until.js';
import type { ChaosCluster } from './cluster.js';
import { type ChaosNode, retentionSeconds } from './node.js';
import { Random } from './random.js';

type Event = (cluster: ChaosCluster, random: Random) => Promise<string> | string;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Prefers the first: most of the load is on it. */
const someNode = ({ near, far }: ChaosCluster, random: Random): ChaosNode => (random.next() < 0.7 ? near : far);

function someOf<T>(items: readonly T[], random: Random): T | undefined {
  return items[random.between(0, Math.max(0, items.length - 1))];
}

function signalWorker(pid: number | undefined, signal: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(pid, signal);
  } catch {
    // It has just ended by itself.
  }
}

const killWorker: Event = (cluster, random) => {
  const node = someNode(cluster, random);
  signalWorker(someOf(node.workers, random), 'SIGKILL');
  return `killed a worker of ${node.name}`;
};

const killAllWorkers: Event = (cluster, random) => {
  const node = someNode(cluster, random);
  for (const pid of node.workers) signalWorker(pid, 'SIGKILL');
  return `killed all workers of ${node.name}`;
};

/** Stops a worker, at work or while it loads its models; the primary has to notice and to kill it. */
const hangWorker: Event = (cluster, random) => {
  const node = someNode(cluster, random);
  signalWorker(someOf(node.begun, random), 'SIGSTOP');
  return `hung a worker of ${node.name}`;
};

const stutterWorker: Event = async (cluster, random) => {
  const node = someNode(cluster, random);
  const pid = someOf(node.workers, random);
  signalWorker(pid, 'SIGSTOP');
  await pause(random.between(50, 400));
  signalWorker(pid, 'SIGCONT');
  return `held a worker of ${node.name} for a moment`;
};

const reload: Event = (cluster, random) => {
  const node = someNode(cluster, random);
  node.process.signal('SIGUSR2');
  return `reloaded ${node.name}`;
};

const reloadBroken: Event = async (cluster, random) => {
  const node = someNode(cluster, random);
  node.writeConfig(false);
  const { code } = await node.process.operate('reload');
  node.writeConfig(true);
  return `reloaded ${node.name} with a model that is not there (exit code ${code})`;
};

const scale: Event = (cluster, random) => {
  const node = someNode(cluster, random);
  const more = random.next() < 0.5;
  node.process.signal(more ? 'SIGTTIN' : 'SIGTTOU');
  return `${more ? 'added' : 'removed'} a worker of ${node.name}`;
};

const killPrimary: Event = async (cluster, random) => {
  const node = someNode(cluster, random);
  await node.restart();
  return `killed the primary of ${node.name} and started it again`;
};

const killAggregator: Event = async (cluster) => {
  await cluster.restartAggregator();
  return 'killed the aggregator and started it again';
};

const holdRedis: Event = async (cluster, random) => {
  cluster.redis.signal('SIGSTOP');
  await pause(random.between(200, 2000));
  cluster.redis.signal('SIGCONT');
  return 'held Redis';
};

const restartRedis: Event = async (cluster) => {
  await cluster.restartRedis();
  return 'killed Redis and started it again, empty';
};

/** Deletes some of our keys, or some fields of one, as an eviction, a DEL or a lagging replica would. */
const loseKeys: Event = async (cluster, random) => {
  const redis = new Redis(cluster.redis.url, {
    lazyConnect: true,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
    connectTimeout: 500,
    commandTimeout: 1000,
  });
  redis.on('error', () => {});
  const lost: string[] = [];
  try {
    await redis.connect();
    for (let i = random.between(1, 3); i > 0; i--) {
      const key = someOf((await redis.keys('*')).sort(), random);
      if (key === undefined) break;
      const fields = (await redis.type(key)) === 'hash' ? (await redis.hkeys(key)).sort() : [];
      const gone = random.next() < 0.7 ? fields.filter(() => random.next() < 0.5) : [];
      if (gone.length > 0) await redis.hdel(key, ...gone);
      else await redis.del(key);
      lost.push(gone.length > 0 ? `${key} (${gone.join(', ')})` : key);
    }
  } catch (error) {
    lost.push(`then ${String(error)}`); // Redis is held, or restarts
  } finally {
    redis.disconnect();
  }
  return `had Redis lose ${lost.join('; ') || 'nothing'}`;
};

/** Cuts a node off for longer than its retention, so that its records are compacted; by resets, or in silence. */
const cutNodeOff: Event = (cluster, random) => {
  if (!cluster.redisLink.isForwarding) return 'left a node cut off';
  const ms = random.between(retentionSeconds * 1000 + 500, retentionSeconds * 1000 + 4000);
  const isSilent = random.next() < 0.5;
  if (isSilent) cluster.redisLink.silence();
  else cluster.redisLink.refuse();
  cluster.meanwhile(async () => {
    await pause(ms);
    cluster.redisLink.forward();
  });
  return `cut a node off from Redis for ${ms} ms${isSilent ? ', in silence' : ''}`;
};

/** A network forgets the clients behind it: the server is not told. */
const forgetClients: Event = (cluster, random) => {
  const ms = random.between(1000, 6000);
  const count = cluster.clientLink.abandon();
  cluster.meanwhile(async () => {
    await pause(ms);
    cluster.clientLink.resetAbandoned();
  });
  return `left ${count} connections half open for ${ms} ms`;
};

const holdClients: Event = (cluster, random) => {
  if (!cluster.clientLink.isForwarding) return 'left the network of some clients held up';
  const ms = random.between(200, 2500);
  cluster.clientLink.silence();
  cluster.meanwhile(async () => {
    await pause(ms);
    cluster.clientLink.forward();
  });
  return `held up the network of some clients for ${ms} ms`;
};

const unreadRequests = 50;

/** Clients that say nothing, stop in the middle of a frame, or never read their replies, until they are gone. */
const vanish: Event = (cluster, random) => {
  const node = someNode(cluster, random);
  const frame = encodeFrame(Buffer.alloc(200, 'v'), 4);
  const sockets: Socket[] = [];
  for (let i = random.between(5, 15); i > 0; i--) {
    const socket = createConnection({ host: '127.0.0.1', port: node.port });
    socket.on('error', () => {}).pause();
    sockets.push(socket);
    const kind = random.between(0, 2);
    if (kind === 1) socket.write(frame.subarray(0, random.between(1, frame.length - 1)));
    if (kind === 2) {
      socket.write(Buffer.concat(Array.from({ length: unreadRequests }, () => frame)));
      cluster.othersAsked += unreadRequests;
    }
  }
  const ms = random.between(1000, 7000);
  cluster.meanwhile(async () => {
    await pause(ms);
    for (const socket of sockets) socket.resetAndDestroy();
  });
  return `had ${sockets.length} clients of ${node.name} stand still for ${ms} ms`;
};

/** How long a primary may take under load to answer an operator. */
const answerLimitMs = 15_000;

/**
 * Lets the pipe of the log fill up while there is something to say. A reload ends processes that share the pipe, and
 * when one of them ends, Node makes the pipe block its writers again.
 */
const stallLog: Event = async (cluster, random) => {
  const node = someNode(cluster, random);
  const server = node.process;
  server.logPipe?.stall();
  server.signal('SIGUSR2');
  if (random.next() < 0.5) signalWorker(someOf(node.workers, random), 'SIGKILL');
  await pause(random.between(200, 2000));
  const answered = await within(answerLimitMs, 'status', server.operate('status', '--json')).catch(() => null);
  if (answered === null && node.process === server)
    cluster.faults.push(`${node.name} did not answer within ${answerLimitMs} ms while nobody read its log`);
  server.logPipe?.resume();
  return `had nobody read the log of ${node.name} for a while`;
};

/** Clients that send garbage, and then close or reset their connections. */
const sendGarbage: Event = async (cluster, random) => {
  const { port } = someNode(cluster, random);
  for (let i = 0; i < 20; i++) {
    const socket = createConnection({ host: '127.0.0.1', port });
    socket.on('error', () => {});
    socket.on('data', () => {});
    socket.write(Buffer.from([random.between(1, 255), ...Array.from({ length: 9 }, () => random.between(0, 255))]));
    const isRude = random.next() < 0.5;
    setTimeout(() => (isRude ? socket.resetAndDestroy() : socket.end()), random.between(0, 300));
    setTimeout(() => socket.destroy(), 1000);
  }
  return 'sent garbage';
};

const stallClient: Event = async (cluster, random) => {
  const client = someOf(cluster.clients, random);
  client?.pause();
  await pause(random.between(100, 1000));
  client?.resume();
  return 'had a client not read for a while';
};

/** Leaves only the node itself to remember what was counted before. */
const killAllThatRemember: Event = async (cluster, random) => {
  const node = someNode(cluster, random);
  await Promise.all([cluster.restartRedis(), cluster.restartAggregator(), node.restart()]);
  return `killed Redis (empty), the aggregator and the primary of ${node.name} at once`;
};

export interface NamedEvent {
  readonly name: string;
  readonly weight: number;
  readonly event: Event;
  /** Whether it can happen at the same time as another. */
  readonly isFault: boolean;
}

const named = (name: string, weight: number, event: Event, isFault = true): NamedEvent => ({
  name,
  weight,
  event,
  isFault,
});

/** The weight of an event is how often it happens among the others. */
const single: readonly NamedEvent[] = [
  named('kill-worker', 4, killWorker),
  named('kill-all-workers', 1, killAllWorkers),
  named('hang-worker', 2, hangWorker),
  named('stutter-worker', 2, stutterWorker),
  named('reload', 5, reload),
  named('reload-broken', 1, reloadBroken, false),
  named('scale', 4, scale),
  named('kill-primary', 1, killPrimary),
  named('kill-aggregator', 1, killAggregator),
  named('hold-redis', 2, holdRedis),
  named('restart-redis', 1, restartRedis),
  named('lose-keys', 3, loseKeys),
  named('cut-node-off', 2, cutNodeOff),
  named('forget-clients', 2, forgetClients),
  named('hold-clients', 2, holdClients),
  named('vanish', 2, vanish),
  named('stall-log', 1, stallLog, false),
  named('send-garbage', 2, sendGarbage, false),
  named('stall-client', 3, stallClient, false),
  named('kill-all-that-remember', 1, killAllThatRemember, false),
];

/** Two different faults that begin at the same moment. */
function together(faults: readonly NamedEvent[]): Event {
  return async (cluster, random) => {
    const choose = (among: readonly NamedEvent[]): NamedEvent => random.pick(among.map((item) => [item.weight, item]));
    const first = choose(faults);
    const second = choose(faults.filter((other) => other !== first));
    // Each has its own random numbers: which of them draws first depends on the machine.
    const happening = [first, second].map(({ event }) => event(cluster, new Random(random.between(0, 2 ** 31))));
    return `at once: ${(await Promise.all(happening)).join('; ')}`;
  };
}

const togetherName = 'two-at-once';

export const eventNames: readonly string[] = [...single.map(({ name }) => name), togetherName];

/** The events that are to happen. @param only empty: all except those of `without` */
export function chooseEvents(only: readonly string[], without: readonly string[]): readonly NamedEvent[] {
  const isWanted = (name: string): boolean => (only.length === 0 || only.includes(name)) && !without.includes(name);
  const chosen = single.filter(({ name }) => isWanted(name));
  const among = only.length === 0 ? chosen : single.filter(({ name }) => !without.includes(name));
  const faults = among.filter(({ isFault }) => isFault);
  if (!isWanted(togetherName) || faults.length < 2) return chosen;
  return [...chosen, named(togetherName, 4, together(faults), false)];
}
