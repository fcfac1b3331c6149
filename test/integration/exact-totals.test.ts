// Totals equal what clients saw: they include every reply that a client has, and exceed the replies by no more than
// what was in flight at a kill.

import { readdirSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Server } from 'node:net';
import { expect } from 'chai';
import { Redis } from 'ioredis';
import type { Metrics } from '#src/aggregator/metrics.js';
import { ask, startNode, TestAggregator } from '../support/cluster.js';
import { temporaryFolder } from '../support/folder.js';
import { Load } from '../support/load.js';
import { aggregatorOf, endProcesses, freePort, isRunning, workersOf } from '../support/processes.js';
import { RedisServer } from '../support/redis-server.js';
import { fetchMetrics, type TestServer } from '../support/server.js';
import { until } from '../support/until.js';

const loads: Load[] = [];
function load(ports: () => readonly number[]): Load {
  const made = new Load(ports);
  loads.push(made);
  return made;
}

type When = (what: string, isThere: (metrics: Metrics) => boolean) => Promise<Metrics>;

/**
 * Stops the load and compares; nothing is in flight then, so the server must agree with itself as well. If nobody was
 * killed, the server has counted exactly the replies that clients have received: it never received what clients sent
 * when it accepted no more.
 */
async function agrees(when: When, running: Load, killed: 'somebody was killed' | 'nobody was killed'): Promise<void> {
  await running.stop();
  const { replies } = running;
  const lost = killed === 'nobody was killed' ? 0 : running.lost;
  const answered = ({ models }: Metrics): number => models.reduce((sum, model) => sum + model.answered, 0);
  const isRight = (metrics: Metrics): boolean =>
    !metrics.stale &&
    answered(metrics) >= replies &&
    answered(metrics) <= replies + lost &&
    metrics.latency_ms.count === answered(metrics) &&
    metrics.audit_imbalance === 0 &&
    metrics.in_flight === 0 &&
    metrics.connections === 0;
  const metrics = await when(`the totals of ${replies} replies (${lost} were lost)`, isRight);
  if (lost === 0) expect(metrics.total_requests).to.equal(replies);
}

async function reloadsUnder(running: Load, server: TestServer): Promise<void> {
  for (let reloads = 1; reloads <= 3; reloads++) {
    await running.more(500);
    server.signal('SIGHUP');
    await until('a reload', () => server.count('reloaded') === reloads);
  }
  await running.more(500);
  expect(running.lost).to.equal(0);
}

const watches: Watch[] = [];

/** Checks that the totals never fall. */
class Watch {
  #isOver = false;
  #highest = 0;
  readonly #watching: Promise<void>;

  constructor(url: string) {
    this.#watching = this.#watch(url);
    this.#watching.catch(() => {});
    watches.push(this);
  }

  /** Rejects if they fell. */
  end(): Promise<void> {
    this.#isOver = true;
    return this.#watching;
  }

  async #watch(url: string): Promise<void> {
    while (!this.#isOver) {
      const metrics = await fetchMetrics(url).catch(() => null);
      const total = metrics?.total_requests ?? this.#highest;
      if (total < this.#highest) throw new Error(`${total} after ${this.#highest}`);
      this.#highest = total;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

/** Ends everything that a test has left running. */
async function cleanUp(): Promise<void> {
  for (const watch of watches.splice(0)) watch.end().catch(() => {});
  for (const running of loads.splice(0)) running.destroy();
  await endProcesses();
}

const connected = (server: TestServer): number =>
  server.lines.filter((line) => line.includes('"msg":"redis connected"')).length;

async function killWorker(server: TestServer): Promise<void> {
  const replacements = (): number => server.lines.filter((line) => line.includes('"worker replaced"')).length;
  const before = replacements();
  process.kill(workersOf(server)[0] as number, 'SIGKILL');
  await until('the replacement', () => replacements() > before);
}

describe('exact totals, embedded', () => {
  afterEach(cleanUp);

  it('through workers that are killed under load', async () => {
    const server = startNode({});
    const port = await server.port();
    const watched = new Watch(await server.url());
    const running = load(() => [port]);
    for (let i = 0; i < 4; i++) {
      await running.more(500);
      await killWorker(server);
    }
    await running.more(500);
    await agrees((what, isThere) => server.metricsWhen(what, isThere), running, 'somebody was killed');
    await watched.end();
    expect(running.lost, 'the kills hit busy workers').to.be.above(0);
    expect((await server.metrics()).models[0]?.abandoned).to.be.at.most(running.lost);
  });

  it('through workers that are added and removed: nothing is lost', async () => {
    const server = startNode({});
    const port = await server.port();
    const watched = new Watch(await server.url());
    const running = load(() => [port]);
    const ready = (workers: number) =>
      server.metricsWhen(`${workers} workers`, (metrics) => {
        const states = metrics.workers.map(({ state }) => state);
        // The records of workers and of their node come by themselves, and a worker may be ready within one interval.
        const isWanted = metrics.nodes[0]?.workers_wanted === workers;
        return isWanted && states.length === workers && states.every((state) => state === 'ready');
      });
    for (const [signal, workers] of [
      ['SIGTTIN', 3],
      ['SIGTTIN', 4],
      ['SIGTTOU', 3],
      ['SIGTTOU', 2],
      ['SIGTTOU', 1],
      ['SIGTTIN', 2],
    ] as const) {
      await running.more(500);
      server.signal(signal);
      const { nodes } = await ready(workers);
      expect(nodes[0]?.restarts).to.equal(0);
    }
    await running.more(500);
    await agrees((what, isThere) => server.metricsWhen(what, isThere), running, 'nobody was killed');
    await watched.end();
  });

  it('through rolling reloads: nothing is lost', async () => {
    const server = startNode({});
    const port = await server.port();
    const watched = new Watch(await server.url());
    const running = load(() => [port]);
    await reloadsUnder(running, server);
    await agrees((what, isThere) => server.metricsWhen(what, isThere), running, 'nobody was killed');
    await watched.end();
  });

  it('through an aggregator that is killed', async () => {
    const server = startNode({}, { args: ['--http-port', String(await freePort())] });
    const port = await server.port();
    const running = load(() => [port]);
    await running.more(500);
    const died = server.event('aggregator died; inference goes on');
    process.kill(aggregatorOf(server), 'SIGKILL');
    await died;
    await running.more(500);
    await agrees((what, isThere) => server.metricsWhen(what, isThere), running, 'nobody was killed');
  });
});

describe('exact totals, embedded, through restarts', () => {
  afterEach(cleanUp);

  it('begin anew, unless a folder for the ledger is set: then they go on', async function () {
    this.timeout(40_000);
    const folder = temporaryFolder();
    const counterFiles = { SLAB_FOLDER: `${folder}/slabs` };
    const ledger = { ...counterFiles, LEDGER_FOLDER: `${folder}/a/b` };
    const runs = [
      [counterFiles, 10, 'SIGTERM'],
      [counterFiles, 10, 'SIGTERM'],
      [ledger, 10, 'SIGTERM'],
      [ledger, 20, 'SIGKILL'],
      [ledger, 30, 'SIGTERM'],
    ] as const;
    for (const [env, total, signal] of runs) {
      const server = startNode(env);
      await ask(server, 10);
      await server.metricsWhen(`${total} requests`, ({ total_requests }) => total_requests === total);
      server.signal(signal);
      await server.ended();
    }
  });
});

describe('exact totals, over Redis', () => {
  let redis: RedisServer;
  let env: Readonly<Record<string, string>>;
  let aggregator: TestAggregator;
  const when: When = (what, isThere) => aggregator.when(what, isThere);
  beforeEach(async () => {
    redis = await RedisServer.start();
    env = { REDIS_URL: redis.url, NODE_NAME: 'a' };
    aggregator = await TestAggregator.start(env);
  });
  afterEach(cleanUp);
  it('through workers that are killed under load', async () => {
    const node = startNode(env);
    const port = await node.port();
    const watched = new Watch(aggregator.url);
    const running = load(() => [port]);
    for (let i = 0; i < 3; i++) {
      await running.more(500);
      await killWorker(node);
    }
    await agrees(when, running, 'somebody was killed');
    await watched.end();
    expect(running.lost).to.be.above(0);
  });

  it('through a node whose primary is killed, workers and all, and starts again under its name', async () => {
    let port = 0;
    let node = startNode(env);
    port = await node.port();
    const watched = new Watch(aggregator.url);
    const running = load(() => (port === 0 ? [] : [port]));
    for (let i = 0; i < 2; i++) {
      await running.more(500);
      await killWorker(node);
      await running.more(500);
      const pids = workersOf(node);
      port = 0;
      // One worker hangs, so that it cannot end when its primary is gone.
      if (i === 1) process.kill(pids[0] as number, 'SIGSTOP');
      node.child.kill('SIGKILL');
      node = startNode(env);
      port = await node.port();
      await until('the end of its workers', () => !pids.some(isRunning));
    }
    await running.more(500);
    await agrees(when, running, 'somebody was killed');
    await watched.end();
  });

  it('through Redis, aggregator and node that are killed at the same time, again and again', async function () {
    this.timeout(60_000);
    let port = 0;
    let node = startNode(env);
    port = await node.port();
    const running = load(() => (port === 0 ? [] : [port]));
    for (let i = 0; i < 2; i++) {
      await running.more(500);
      await killWorker(node);
      await running.more(500);
      port = 0;
      for (const one of [redis, aggregator]) one.signal('SIGKILL');
      node.child.kill('SIGKILL');
      await Promise.all([redis.ended(), aggregator.ended()]);
      redis = await RedisServer.start(redis.port);
      node = startNode(env);
      aggregator = await TestAggregator.start(env);
      port = await node.port();
    }
    await running.more(500);
    await agrees(when, running, 'somebody was killed');
  });

  it('through a reboot, when the ledger is on a disk: all memory is lost, and Redis with it', async function () {
    this.timeout(60_000);
    const folder = temporaryFolder();
    const machine = { ...env, SLAB_FOLDER: `${folder}/memory`, LEDGER_FOLDER: `${folder}/disk` };
    for (let boots = 1; boots <= 2; boots++) {
      const node = startNode(machine);
      await ask(node, 10);
      await when('all requests', ({ total_requests }) => total_requests === 10 * boots);
      node.signal('SIGTERM');
      await node.ended();
      rmSync(`${folder}/memory`, { recursive: true });
      for (const one of [redis, aggregator]) one.signal('SIGKILL');
      await Promise.all([redis.ended(), aggregator.ended()]);
      redis = await RedisServer.start(redis.port);
      aggregator = await TestAggregator.start(env);
    }
    expect(readdirSync(`${folder}/disk`).filter((name) => name.endsWith('.ledger'))).to.have.lengthOf(1);
  });

  it('through a crash of the machine: what workers had counted is still with Redis', async () => {
    const folder = temporaryFolder();
    const machine = { ...env, SLAB_FOLDER: `${folder}/memory`, LEDGER_FOLDER: `${folder}/disk` };
    const node = startNode(machine);
    await ask(node, 10);
    await killWorker(node);
    await ask(node, 10);
    await when('all requests', ({ total_requests }) => total_requests === 20);
    const watched = new Watch(aggregator.url);
    const pids = workersOf(node);
    for (const pid of [node.pid, ...pids]) process.kill(pid, 'SIGKILL');
    await node.ended();
    rmSync(`${folder}/memory`, { recursive: true });
    await ask(startNode(machine), 10);
    await when('all requests', ({ total_requests }) => total_requests === 30);
    await watched.end();
  });

  it('of two primaries of one name that share their folders, killed and started at the same time', async function () {
    this.timeout(60_000);
    const both = (): readonly TestServer[] => [startNode(env), startNode(env)];
    const nodes = both();
    await Promise.all(nodes.map((node) => ask(node, 10)));
    await Promise.all(nodes.map(killWorker));
    await when('all requests', ({ total_requests }) => total_requests === 20);
    for (const one of [...nodes, redis, aggregator]) one.signal('SIGKILL');
    await Promise.all([...nodes, redis, aggregator].map((one) => one.ended()));
    redis = await RedisServer.start(redis.port);
    aggregator = await TestAggregator.start(env);
    await Promise.all(both().map((node) => ask(node, 10)));
    await when('all requests', ({ total_requests }) => total_requests === 40);
  });

  it('through rolling reloads: nothing is lost', async () => {
    const node = startNode(env);
    const port = await node.port();
    const watched = new Watch(aggregator.url);
    const running = load(() => [port]);
    await reloadsUnder(running, node);
    await agrees(when, running, 'nobody was killed');
    await watched.end();
  });

  it('through nodes that stop and start in order: nothing is lost', async function () {
    this.timeout(60_000);
    const ports = new Map<string, number>();
    const nodes = new Map<string, TestServer>();
    const start = async (name: string): Promise<void> => {
      const node = startNode({ ...env, NODE_NAME: name });
      nodes.set(name, node);
      ports.set(name, await node.port());
    };
    await Promise.all(['a', 'b', 'c'].map(start));
    const watched = new Watch(aggregator.url);
    const running = load(() => [...ports.values()]);
    for (const name of ['a', 'b', 'a']) {
      await running.more(500);
      ports.delete(name);
      const node = nodes.get(name) as TestServer;
      node.signal('SIGTERM');
      expect(await node.ended()).to.deep.equal({ code: 0, signal: null });
      await start(name);
    }
    await running.more(500);
    await agrees(when, running, 'nobody was killed');
    await watched.end();
  });

  it('through a Redis that stands still, is gone, and comes back with an empty memory', async function () {
    this.timeout(60_000);
    const [node, gone] = [startNode(env), startNode({ ...env, NODE_NAME: 'gone' })];
    const ports = [await node.port(), await gone.port()];
    const watched = new Watch(aggregator.url);
    const running = load(() => ports);
    await running.more(500);
    ports.pop();
    gone.signal('SIGTERM');
    await gone.ended();
    await when('the end of a node', ({ nodes }) => nodes.some(({ state }) => state === 'stopped'));

    redis.signal('SIGSTOP');
    await when('stale numbers', ({ stale }) => stale);
    await running.more(500);
    await killWorker(node);
    await running.more(500);
    redis.signal('SIGCONT');
    await when('fresh numbers', ({ stale }) => !stale);

    const { port } = redis;
    redis.signal('SIGKILL');
    await redis.ended();
    await when('stale numbers', ({ stale }) => stale);
    await running.more(500);
    redis = await RedisServer.start(port);
    await when('fresh numbers', ({ stale }) => !stale);
    await running.more(500);
    await agrees(when, running, 'somebody was killed');
    await watched.end();
    // Redis has again what it had forgotten, for aggregators that start later, even for the node that is gone.
    const late = await TestAggregator.start(env);
    const total = (await aggregator.metrics()).total_requests;
    await late.when('the same totals', ({ total_requests }) => total_requests === total);
  });

  it('through a Redis that takes no writes: full, or a read-only replica', async () => {
    const node = startNode(env);
    const port = await node.port();
    const admin = new Redis(redis.url);
    const watched = new Watch(aggregator.url);
    const running = load(() => [port]);
    try {
      await running.more(500);
      await admin.config('SET', 'maxmemory', '1');
      expect(await node.event('redis takes no writes: inference goes on, metrics will be late'))
        .to.have.property('reason')
        .that.includes('OOM');
      await running.more(500);
      await killWorker(node);
      await admin.config('SET', 'maxmemory', '0');
      await until('Redis to take writes again', () => connected(node) === 2);
      await admin.replicaof('127.0.0.1', String(await freePort()));
      await until('the refusal of a replica', () =>
        node.lines.some((line) => line.includes('takes no writes') && line.includes('READONLY')),
      );
      await running.more(500);
      await admin.replicaof('NO', 'ONE');
      await until('Redis to take writes again', () => connected(node) === 3);
      await running.more(500);
      await agrees(when, running, 'somebody was killed');
    } finally {
      admin.disconnect();
    }
    await watched.end();
  });

  it('through a way to Redis that takes its time', async () => {
    const proxy = await delayingProxy(redis.port, 300);
    const node = startNode({ ...env, REDIS_URL: `redis://127.0.0.1:${proxy.port}` });
    const port = await node.port();
    const running = load(() => [port]);
    await running.more(2000);
    await agrees(when, running, 'nobody was killed');
    proxy.close();
  });

  it('through an aggregator that is killed and starts again', async () => {
    const node = startNode(env);
    const port = await node.port();
    const running = load(() => [port]);
    await running.more(500);
    aggregator.signal('SIGKILL');
    await aggregator.ended();
    await running.more(500);
    aggregator = await TestAggregator.start(env);
    await running.more(500);
    await agrees(when, running, 'nobody was killed');
  });
});

/** A proxy to a port that delays every byte by `delayMs`. */
async function delayingProxy(port: number, delayMs: number): Promise<{ port: number; close(): void }> {
  const server: Server = createServer((near) => {
    const far = createConnection({ host: '127.0.0.1', port });
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on('data', (chunk) => setTimeout(() => to.write(chunk), delayMs));
      from.on('error', () => {});
      from.on('close', () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port');
  return { port: address.port, close: () => void server.close() };
}
