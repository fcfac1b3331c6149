// Several nodes and aggregators that share a real Redis.

import { expect } from 'chai';
import { io } from 'socket.io-client';
import type { Metrics } from '#src/aggregator/metrics.js';
import { ask, startNode as startTestNode, TestAggregator } from '../support/cluster.js';
import { endProcesses, root, TestProcess } from '../support/processes.js';
import { RedisServer } from '../support/redis-server.js';
import { cleanEnv, metricsWhen, type TestServer } from '../support/server.js';
import { until } from '../support/until.js';

type Env = Readonly<Record<string, string>>;

const fast = ['--set', 'redis.commandTimeoutMs=300', '--set', 'metrics.publishIntervalMs=50'];

const startAggregator = (env: Env): Promise<TestAggregator> => TestAggregator.start(env, 0, fast);
const startNode = (env: Env): TestServer => startTestNode(env, { args: fast });

describe('a cluster that shares a Redis', () => {
  afterEach(endProcesses);

  it('adds up all nodes, on every aggregator, and mixes with no other cluster', async () => {
    const redis = await RedisServer.start();
    const env = { REDIS_URL: redis.url, CLUSTER_NAME: 'one' };
    const nodes = [startNode({ ...env, NODE_NAME: 'a' }), startNode({ ...env, NODE_NAME: 'b' })];
    const stranger = startNode({ ...env, CLUSTER_NAME: 'two', NODE_NAME: 'a' });
    const aggregators = [await startAggregator(env), await startAggregator(env)];
    await Promise.all([...nodes.map((node, i) => ask(node, 100 * (i + 1))), ask(stranger, 1000)]);
    for (const { url } of aggregators) {
      const metrics = await metricsWhen(
        url,
        'both nodes',
        ({ total_requests, nodes }) => total_requests === 300 && nodes.length === 2,
      );
      expect(metrics.nodes.map(({ node, state }) => `${node} ${state}`)).to.have.members(['a up', 'b up']);
      expect(metrics.workers).to.have.lengthOf(4);
      expect(metrics.audit_imbalance).to.equal(0);
    }
  });

  it('sends each update to each Socket.IO client once, with two aggregators behind one adapter', async () => {
    const redis = await RedisServer.start();
    const env = { REDIS_URL: redis.url };
    startNode(env);
    const aggregators = [await startAggregator(env), await startAggregator(env)];
    await metricsWhen(aggregators[1]?.url as string, 'the node', ({ nodes }) => nodes.length === 1);
    const socket = io(aggregators[0]?.url as string, { transports: ['websocket'] });
    const received: Metrics[] = [];
    socket.on('metrics', (metrics: Metrics) => received.push(metrics));
    const begin = performance.now();
    await until('eight updates', () => received.length >= 8);
    socket.disconnect();
    // The first comes at once and seven follow, 250 ms apart; with two senders, that would take half as long.
    expect(performance.now() - begin).to.be.above(5 * 250);
  });

  it('keeps exact totals through a worker that dies, a node that stops and one that starts under its name', async () => {
    const redis = await RedisServer.start();
    const env = { REDIS_URL: redis.url, NODE_NAME: 'a' };
    const node = startNode(env);
    const { url } = await startAggregator(env);
    await ask(node, 10);
    const { workers } = await metricsWhen(url, 'ten requests', ({ total_requests }) => total_requests === 10);
    process.kill(workers[0]?.pid as number, 'SIGKILL');
    await node.event('worker replaced');
    await ask(node, 10);
    await metricsWhen(url, 'twenty requests', ({ total_requests }) => total_requests === 20);
    node.signal('SIGTERM');
    expect((await node.ended()).code).to.equal(0);
    const stopped = await metricsWhen(url, 'a stopped node', ({ nodes }) => nodes[0]?.state === 'stopped');
    expect(stopped).to.include({ total_requests: 20, connections: 0, audit_imbalance: 0 });
    expect(stopped.workers).to.deep.equal([]);
    await ask(startNode(env), 5);
    const again = await metricsWhen(url, 'the new run', ({ total_requests }) => total_requests === 25);
    expect(again.nodes.map(({ state }) => state)).to.have.members(['up']);
  });

  it('serves on while Redis is gone or stands still, and loses no count', async function () {
    this.timeout(60_000);
    let redis = await RedisServer.start();
    const env = { REDIS_URL: redis.url };
    const node = startNode(env);
    const aggregator = await startAggregator(env);
    const { url } = aggregator;
    await ask(node, 10);
    await metricsWhen(url, 'ten requests', ({ total_requests }) => total_requests === 10);
    expect((await fetch(`${url}/readyz`)).status).to.equal(200);

    redis.signal('SIGSTOP');
    await node.line('Redis to be missed', (line) => line.includes('redis lost'));
    await ask(node, 10);
    await until('not ready', async () => (await fetch(`${url}/readyz`)).status === 503);
    expect((await fetch(`${url}/healthz`)).status).to.equal(200);
    redis.signal('SIGCONT');
    await metricsWhen(url, 'twenty requests', ({ total_requests }) => total_requests === 20);

    redis.signal('SIGKILL');
    await redis.ended();
    await ask(node, 10);
    redis = await RedisServer.start(redis.port); // its memory is empty
    await metricsWhen(url, 'thirty requests', ({ total_requests }) => total_requests === 30);
    await until('ready again', async () => (await fetch(`${url}/readyz`)).status === 200);
    expect(aggregator.output).to.include('redis lost: serving the last known state');
  });

  it('starts and serves without Redis there, and shows itself when it comes', async () => {
    const { freePort } = await import('../support/processes.js');
    const port = await freePort();
    const env = { REDIS_URL: `redis://127.0.0.1:${port}` };
    const node = startNode(env);
    await ask(node, 3);
    const { url } = await startAggregator(env);
    expect((await fetch(`${url}/readyz`)).status).to.equal(503);
    await RedisServer.start(port);
    await metricsWhen(url, 'three requests', ({ total_requests }) => total_requests === 3);
    expect(node.log.filter(({ msg }) => msg.startsWith('redis lost'))).to.have.lengthOf(1);
  });

  it('refuses to run an aggregator without Redis', async () => {
    const aggregator = new TestProcess('node', ['bundle/cli.js', 'aggregator'], { cwd: root, env: cleanEnv() });
    expect((await aggregator.ended()).code).to.equal(2);
    expect(aggregator.output).to.include('set redis.url (REDIS_URL)');
  });
});
