// Many aggregators beside one Redis: the same numbers, one leader, a history, and what remains without Redis.

import { expect } from 'chai';
import { Redis } from 'ioredis';
import { io, type Socket } from 'socket.io-client';
import type { HistoryPoint } from '#src/aggregator/history-point.js';
import type { Metrics } from '#src/aggregator/metrics.js';
import { ask, startNode, TestAggregator } from '../support/cluster.js';
import { endProcesses, freePort } from '../support/processes.js';
import { RedisServer } from '../support/redis-server.js';
import type { TestServer } from '../support/server.js';
import { until } from '../support/until.js';

const sockets: Socket[] = [];
const disconnectAll = (): void => {
  for (const socket of sockets.splice(0)) socket.disconnect();
};

/** A Socket.IO client and what it has received. */
function listen(url: string): { readonly received: (Metrics & { at: number })[] } {
  const socket = io(url, { transports: ['websocket'] });
  sockets.push(socket);
  const received: (Metrics & { at: number })[] = [];
  socket.on('metrics', (metrics: Metrics) => received.push({ ...metrics, at: performance.now() }));
  return { received };
}

async function history(url: string): Promise<readonly HistoryPoint[]> {
  const response = await fetch(`${url}/api/history`);
  const { points } = (await response.json()) as { points: readonly HistoryPoint[] };
  return points;
}

describe('many aggregators', () => {
  afterEach(disconnectAll);
  afterEach(endProcesses);

  it('show the same, and each client of any has each update once; when the leader is killed, updates resume', async () => {
    const redis = await RedisServer.start();
    const env = { REDIS_URL: redis.url };
    const node = startNode(env);
    await ask(node, 10);
    const aggregators = [
      await TestAggregator.start(env),
      await TestAggregator.start(env),
      await TestAggregator.start(env),
    ];
    for (const aggregator of aggregators) await aggregator.when('ten requests', (m) => m.total_requests === 10);
    const clients = aggregators.map(({ url }) => listen(url));
    await until('updates everywhere', () => clients.every(({ received }) => received.length >= 8));
    // The same in all copies of an update. When a poll is late, the next update is of the same poll, which is older then.
    for (const { received } of clients) {
      const updates = received.slice(1).map(({ uptime, age_ms }) => `${uptime} s, ${age_ms} ms old`);
      expect(new Set(updates).size).to.equal(updates.length);
    }
    const [first, ...others] = clients.map(({ received }) => received.slice(1, 7).map(({ uptime }) => uptime));
    for (const other of others) expect(other.some((uptime) => first?.includes(uptime))).to.equal(true);

    const admin = new Redis(redis.url);
    // Whichever leads, two of the three are killed one after the other: the last must lead in the end.
    for (const victim of [0, 1]) {
      const last = clients[2]?.received as readonly { at: number }[];
      aggregators[victim]?.signal('SIGKILL');
      await aggregators[victim]?.ended();
      const killedAt = performance.now();
      await until('updates to resume', () => (last.at(-1)?.at ?? 0) > killedAt + 300);
      const next = last.find(({ at }) => at > killedAt + 300)?.at ?? Number.POSITIVE_INFINITY;
      expect(next - killedAt).to.be.below(2000);
    }
    expect(await admin.exists('{mltcp:default}:leader')).to.equal(1);
    admin.disconnect();
  });

  it('serve the last known state without Redis, marked stale, with its age; not ready, but alive', async () => {
    const redis = await RedisServer.start();
    const env = { REDIS_URL: redis.url };
    const node = startNode(env);
    await ask(node, 10);
    const aggregator = await TestAggregator.start(env);
    await aggregator.when('ten requests', ({ total_requests, stale }) => total_requests === 10 && !stale);
    const { received } = listen(aggregator.url);
    redis.signal('SIGKILL');
    await redis.ended();
    const stale = await aggregator.when('stale numbers', (metrics) => metrics.stale);
    expect(stale.total_requests).to.equal(10);
    expect(stale.age_ms).to.be.above(1900);
    expect((await fetch(`${aggregator.url}/readyz`)).status).to.equal(503);
    expect((await fetch(`${aggregator.url}/healthz`)).status).to.equal(200);
    await until('a stale update', () => received.some((metrics) => metrics.stale && metrics.total_requests === 10));
    await ask(node, 5);
    await RedisServer.start(redis.port);
    await aggregator.when('fresh numbers', ({ total_requests, stale: isStale }) => !isStale && total_requests === 15);
  });

  it('keep one history: a point a second, on all of them, through the end of the leader', async function () {
    this.timeout(40_000);
    const redis = await RedisServer.start();
    const env = { REDIS_URL: redis.url };
    const node = startNode(env);
    const one = await TestAggregator.start(env);
    await ask(node, 100);
    await until('two points', async () => (await history(one.url)).length >= 2);
    const other = await TestAggregator.start(env);
    const before = await history(other.url);
    expect(before.length).to.be.at.least(2);
    expect(before.some(({ rps }) => rps > 0)).to.equal(true);
    one.signal('SIGKILL');
    await one.ended();
    await until('points of the next leader', async () => (await history(other.url)).length >= before.length + 2);
    const seconds = (await history(other.url)).map(({ t }) => t);
    expect(seconds).to.deep.equal([...new Set(seconds)].sort((a, b) => a - b));
    const last = (await history(other.url)).at(-1);
    expect(last).to.include({ workers: 2, workers_wanted: 2, nodes: 1 });
    expect(Math.abs((last?.t ?? 0) - Date.now() / 1000)).to.be.below(5);
  });

  it('keep one record of a node that has been gone for long: totals stay, also for those who come later', async () => {
    const redis = await RedisServer.start();
    const env = { REDIS_URL: redis.url };
    const aggregator = await TestAggregator.start(env, 0, ['--set', 'metrics.nodeRetentionSeconds=2']);
    const [kept, gone, killed] = ['kept', 'gone', 'killed'].map((name) => startNode({ ...env, NODE_NAME: name })) as [
      TestServer,
      TestServer,
      TestServer,
    ];
    await Promise.all([ask(kept, 1), ask(gone, 10), ask(killed, 100)]);
    await aggregator.when('all requests', ({ total_requests }) => total_requests === 111);
    gone.signal('SIGTERM');
    await gone.ended();
    killed.signal('SIGKILL');
    await killed.ended();
    await aggregator.when('one node', ({ nodes }) => nodes.length === 1);
    const admin = new Redis(redis.url);
    const kinds = async () => (await admin.hkeys('{mltcp:default}:records')).map((id) => id.split(':')[0]).sort();
    await until(
      'a record of each node that has gone',
      async () => (await kinds()).join() === 'gone,gone,node,worker,worker',
    );
    admin.disconnect();
    expect((await aggregator.metrics()).total_requests).to.equal(111);
    const late = await TestAggregator.start(env);
    await late.when('the same total', ({ total_requests }) => total_requests === 111);
    await ask(kept, 1);
    await late.when(
      'one more',
      ({ total_requests, audit_imbalance }) => total_requests === 112 && audit_imbalance === 0,
    );
  });
});

describe('the embedded aggregator', () => {
  afterEach(endProcesses);

  it('has a history, too', async () => {
    const server = startNode({}, { args: ['--http-port', String(await freePort())] });
    await ask(server, 10);
    const url = await server.url();
    await until('two points', async () => (await history(url)).length >= 2);
    expect((await history(url)).at(-1)).to.include({ workers: 2, connections: 0 });
  });
});
