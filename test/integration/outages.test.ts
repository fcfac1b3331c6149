// A Redis that is away for longer than nodes are kept, comes back in an older state, loses single keys and fields,
// holds data that is not ours, or may evict: totals, states and ages stay true, and the log says how to fix it.

import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { expect } from 'chai';
import { Redis } from 'ioredis';
import type { Metrics } from '#src/aggregator/metrics.js';
import { ask, startNode, TestAggregator } from '../support/cluster.js';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses } from '../support/processes.js';
import { RedisServer } from '../support/redis-server.js';
import type { TestServer } from '../support/server.js';
import { until } from '../support/until.js';

const slow = ['--set', 'metrics.publishIntervalMs=500', '--set', 'metrics.nodeRetentionSeconds=2'];
const retentionMs = 2000;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const states = ({ nodes }: Metrics): string =>
  nodes
    .map(({ node, state }) => `${node} ${state}`)
    .sort()
    .join();

describe('a Redis that is not what it was', function () {
  this.timeout(60_000);
  const clients: { disconnect(): void }[] = [];
  const admin = (redis: RedisServer): Redis => {
    const client = new Redis(redis.url, { enableOfflineQueue: true });
    client.on('error', () => {});
    clients.push(client);
    return client;
  };
  afterEach(async () => {
    for (const client of clients.splice(0)) client.disconnect();
    await endProcesses();
  });

  it('is away for longer than nodes are kept, with an old dump after it: living nodes are not taken for gone', async () => {
    const persistent = ['--dir', temporaryFolder()];
    let redis = await RedisServer.start(undefined, persistent);
    const env = { REDIS_URL: redis.url };
    const aggregator = await TestAggregator.start(env, 0, slow);
    const nodes = ['a', 'b', 'c'].map((name) => startNode({ ...env, NODE_NAME: name }, { args: slow }));
    await Promise.all(nodes.map((node) => ask(node, 10)));
    await aggregator.when('30 requests', ({ total_requests }) => total_requests === 30);
    await admin(redis).call('SAVE');
    await Promise.all(nodes.map((node) => ask(node, 10)));
    redis.signal('SIGKILL');
    await redis.ended();
    await pause(retentionMs + 500);
    redis = await RedisServer.start(redis.port, persistent);
    await aggregator.when(
      'all requests of all nodes',
      (metrics) =>
        !metrics.stale &&
        metrics.total_requests === 60 &&
        states(metrics) === 'a up,b up,c up' &&
        metrics.audit_imbalance === 0,
    );
    expect((await fetch(`${aggregator.url}/readyz`)).status).to.equal(200);
    redis.signal('SIGSTOP');
    await pause(retentionMs + 500);
    redis.signal('SIGCONT');
    await Promise.all(nodes.map((node) => ask(node, 10)));
    await aggregator.when(
      'all requests',
      (metrics) => metrics.total_requests === 90 && states(metrics).includes('c up'),
    );
    const kinds = (await admin(redis).hkeys('{mltcp:default}:records')).map((id) => id.split(':')[0]);
    expect(kinds.filter((kind) => kind !== 'worker').sort()).to.deep.equal(['node', 'node', 'node']);
  });

  it('cannot be reached from one node for longer than that: the node is taken for gone, and back exactly', async () => {
    const redis = await RedisServer.start();
    const cable = await Cable.to(redis.port);
    const aggregator = await TestAggregator.start({ REDIS_URL: redis.url }, 0, slow);
    const [near, far] = ['near', 'far'].map((name) => {
      const url = name === 'far' ? `redis://127.0.0.1:${cable.port}` : redis.url;
      return startNode({ REDIS_URL: url, NODE_NAME: name }, { args: slow });
    }) as [TestServer, TestServer];
    await Promise.all([ask(near, 10), ask(far, 10)]);
    await aggregator.when('20 requests', ({ total_requests }) => total_requests === 20);
    let least = 20;
    const never = async (): Promise<Metrics> => {
      const metrics = await aggregator.metrics();
      expect(metrics.total_requests).to.be.at.least(least);
      least = metrics.total_requests;
      return metrics;
    };
    for (let cut = 1; cut <= 2; cut++) {
      cable.cut();
      await ask(far, 10);
      // Not out of the metrics: on a busy machine the node is gone from them by now.
      const { workers } = JSON.parse((await far.operate('status', '--json')).output) as {
        readonly workers: readonly { readonly pid: number }[];
      };
      process.kill(workers[0]?.pid as number, 'SIGKILL');
      await until('one node', async () => states(await never()) === 'near up');
      expect((await never()).total_requests).to.equal(10 + 10 * cut);
      cable.mend();
      await until('both', async () => {
        const metrics = await never();
        return states(metrics) === 'far up,near up' && metrics.total_requests === 20 + 10 * cut;
      });
      await until('an even audit', async () => (await never()).audit_imbalance === 0);
    }
    const ids = async (): Promise<readonly string[]> => admin(redis).hkeys('{mltcp:default}:records');
    await until('no record of a gone node', async () => (await ids()).every((id) => !id.startsWith('gone')));
    cable.close();
  });

  it('loses any key, and any field of it: all is there again, and nothing has changed meanwhile', async () => {
    const redis = await RedisServer.start();
    const env = { REDIS_URL: redis.url };
    const aggregator = await TestAggregator.start(env, 0, slow);
    const gone = startNode({ ...env, NODE_NAME: 'gone' }, { args: slow });
    const node = startNode({ ...env, NODE_NAME: 'a' }, { args: slow });
    await Promise.all([ask(gone, 10), ask(node, 10)]);
    await aggregator.when('20 requests', ({ total_requests }) => total_requests === 20);
    gone.signal('SIGTERM');
    await gone.ended();
    await aggregator.when('one node', (metrics) => states(metrics) === 'a up');
    const client = admin(redis);
    const hash = '{mltcp:default}:records';
    const isWhole = async (): Promise<boolean> => (await client.hlen(hash)) === 4;
    await until('all records', isWhole);
    const losses: [string, () => Promise<unknown>][] = [
      ...(await client.hkeys(hash)).map((id): [string, () => Promise<unknown>] => [id, () => client.hdel(hash, id)]),
      ...(await client.keys('*')).map((key): [string, () => Promise<unknown>] => [key, () => client.del(key)]),
      [
        'broken fields',
        async () => client.hset(hash, Object.fromEntries((await client.hkeys(hash)).map((id) => [id, '{}']))),
      ],
    ];
    expect(losses.map(([what]) => what)).to.include.members([
      '{mltcp:default}:leader',
      '{mltcp:default}:history',
      hash,
    ]);
    for (const [what, lose] of losses) {
      await lose();
      const lostAt = performance.now();
      await until(`what was lost: ${what}`, async () => {
        const metrics = await aggregator.metrics();
        expect(metrics).to.include({ total_requests: 20, audit_imbalance: 0 });
        expect(states(metrics)).to.equal('a up');
        const values = Object.values(await client.hgetall(hash));
        return values.length === 4 && !values.includes('{}') && performance.now() - lostAt > 500;
      });
    }
    const late = await TestAggregator.start(env, 0, slow);
    await late.when('the same', (metrics) => metrics.total_requests === 20 && states(metrics) === 'a up');
  });

  it('holds something else under our key: the log says which, and what to do about it', async () => {
    const redis = await RedisServer.start();
    const client = admin(redis);
    await client.set('{mltcp:default}:records', 'not ours');
    const env = { REDIS_URL: redis.url };
    const aggregator = await TestAggregator.start(env);
    const node = startNode(env);
    await ask(node, 5);
    const isAdvice = (line: string): boolean => line.includes('WRONGTYPE') && line.includes('delete it (DEL)');
    await node.line('the advice', isAdvice);
    await aggregator.line('the advice', isAdvice);
    await client.del('{mltcp:default}:records');
    await aggregator.when('five requests', ({ total_requests }) => total_requests === 5);
  });

  it('may evict our records: node and aggregator warn at their start', async () => {
    const redis = await RedisServer.start(undefined, ['--maxmemory-policy', 'allkeys-lru']);
    const env = { REDIS_URL: redis.url };
    const aggregator = await TestAggregator.start(env);
    const node = startNode(env);
    const isWarning = (line: string): boolean =>
      line.includes('redis may evict metrics') && line.includes('allkeys-lru') && line.includes('noeviction');
    await node.line('the warning', isWarning);
    await aggregator.line('the warning', isWarning);
    await admin(redis).config('SET', 'maxmemory-policy', 'volatile-lru');
    const other = startNode({ ...env, NODE_NAME: 'b' });
    await ask(other, 5);
    await aggregator.when('five requests', ({ total_requests }) => total_requests === 5);
    expect(other.output).not.to.include('may evict');
  });
});

/** A proxy to a port that can be cut: connections are lost, and new ones refused. */
class Cable {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isCut = false;

  private constructor(server: Server, port: number, target: number) {
    this.port = port;
    this.#server = server;
    server.on('connection', (near) => {
      if (this.#isCut) {
        near.resetAndDestroy();
        return;
      }
      const far = createConnection({ host: '127.0.0.1', port: target });
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => {
          this.#sockets.delete(socket);
          near.destroy();
          far.destroy();
        });
      }
      near.pipe(far).pipe(near);
    });
  }

  static async to(target: number): Promise<Cable> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('the cable has no port');
    return new Cable(server, address.port, target);
  }

  cut(): void {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  mend(): void {
    this.#isCut = false;
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}
