// What may happen at night. Each event begins something and returns at once, or soon, with what it did; what it breaks
// for a while it mends by itself.

import { createConnection } from 'node:net';
import type { ChaosCluster } from './cluster.js';
import type { Dice } from './dice.js';

type Event = (cluster: ChaosCluster, dice: Dice) => Promise<string> | string;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function someWorker(cluster: ChaosCluster, dice: Dice): number | undefined {
  const { workers } = cluster;
  return workers[dice.between(0, Math.max(0, workers.length - 1))];
}

function signalWorker(pid: number | undefined, signal: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(pid, signal);
  } catch {
    // It has just ended by itself.
  }
}

const killWorker: Event = (cluster, dice) => {
  signalWorker(someWorker(cluster, dice), 'SIGKILL');
  return 'killed a worker';
};

const killAllWorkers: Event = (cluster) => {
  for (const pid of cluster.workers) signalWorker(pid, 'SIGKILL');
  return 'killed all workers';
};

/** It stands still, at work or while it loads its models; the primary has to notice and to kill it. */
const hangWorker: Event = (cluster, dice) => {
  const { begun } = cluster;
  signalWorker(begun[dice.between(0, Math.max(0, begun.length - 1))], 'SIGSTOP');
  return 'hung a worker';
};

const stutterWorker: Event = async (cluster, dice) => {
  const pid = someWorker(cluster, dice);
  signalWorker(pid, 'SIGSTOP');
  await pause(dice.between(50, 400));
  signalWorker(pid, 'SIGCONT');
  return 'held a worker for a moment';
};

const reload: Event = (cluster) => {
  cluster.node.signal('SIGUSR2');
  return 'reloaded';
};

const reloadBroken: Event = async (cluster) => {
  cluster.writeConfig(false);
  const { code } = await cluster.node.operate('reload');
  cluster.writeConfig(true);
  return `reloaded with a model that is not there (exit code ${code})`;
};

const scale: Event = (cluster, dice) => {
  const more = dice.next() < 0.5;
  cluster.node.signal(more ? 'SIGTTIN' : 'SIGTTOU');
  return more ? 'added a worker' : 'removed a worker';
};

const killPrimary: Event = async (cluster) => {
  await cluster.restartNode();
  return 'killed the primary and started it again';
};

const killAggregator: Event = async (cluster) => {
  await cluster.restartAggregator();
  return 'killed the aggregator and started it again';
};

const holdRedis: Event = async (cluster, dice) => {
  cluster.redis.signal('SIGSTOP');
  await pause(dice.between(200, 2000));
  cluster.redis.signal('SIGCONT');
  return 'held Redis';
};

const restartRedis: Event = async (cluster) => {
  await cluster.restartRedis();
  return 'killed Redis and started it again, empty';
};

const killAll: Event = async (cluster) => {
  await cluster.restartAll();
  return 'killed Redis, the aggregator and the primary at once';
};

const loseRecords: Event = async (cluster) => {
  await cluster.loseRecords();
  return 'had Redis forget every other record';
};

/** Clients that send what is no request, and leave as they like. */
const sendGarbage: Event = async (cluster, dice) => {
  for (let i = 0; i < 20; i++) {
    const socket = createConnection({ host: '127.0.0.1', port: cluster.port });
    socket.on('error', () => {});
    socket.on('data', () => {});
    socket.write(Buffer.from([dice.between(1, 255), ...Array.from({ length: 9 }, () => dice.between(0, 255))]));
    const isRude = dice.next() < 0.5;
    setTimeout(() => (isRude ? socket.resetAndDestroy() : socket.end()), dice.between(0, 300));
    setTimeout(() => socket.destroy(), 1000);
  }
  return 'sent garbage';
};

const stallClient: Event = async (cluster, dice) => {
  const client = cluster.witnesses[dice.between(0, cluster.witnesses.length - 1)];
  client?.pause();
  await pause(dice.between(100, 1000));
  client?.resume();
  return 'had a client not read for a while';
};

/** With how often each is to happen among the others. */
export const events: readonly (readonly [weight: number, event: Event])[] = [
  [4, killWorker],
  [1, killAllWorkers],
  [2, hangWorker],
  [2, stutterWorker],
  [6, reload],
  [1, reloadBroken],
  [5, scale],
  [1, killPrimary],
  [1, killAggregator],
  [2, holdRedis],
  [1, restartRedis],
  [1, killAll],
  [2, loseRecords],
  [2, sendGarbage],
  [3, stallClient],
];
