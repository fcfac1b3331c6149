// Redis as it is deployed: with users and TLS, behind Sentinel, as a Redis Cluster.

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { Redis } from 'ioredis';
import { io, type Socket } from 'socket.io-client';
import type { Metrics } from '#src/aggregator/metrics.js';
import { ask, startNode, TestAggregator } from '../support/cluster.js';
import { temporaryFolder } from '../support/folder.js';
import { Load } from '../support/load.js';
import { endProcesses, freePort, TestProcess } from '../support/processes.js';
import { RedisServer } from '../support/redis-server.js';
import type { TestServer } from '../support/server.js';
import { closeProxies, TcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

describe('Redis as it is deployed', () => {
  const sockets: Socket[] = [];
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.disconnect();
    closeProxies();
    await endProcesses();
  });

  it('with TLS, a user and a password; none of the password is ever shown', async () => {
    const folder = temporaryFolder();
    const openssl = (...args: readonly string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });
    openssl(
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      'ca.key',
      '-out',
      'ca.pem',
      '-subj',
      '/CN=ca',
      '-days',
      '2',
    );
    openssl(
      'req',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      'redis.key',
      '-out',
      'redis.csr',
      '-subj',
      '/CN=localhost',
    );
    writeFileSync(join(folder, 'names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1');
    openssl(
      'x509',
      '-req',
      '-in',
      'redis.csr',
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-out',
      'redis.pem',
      '-days',
      '2',
      '-extfile',
      'names',
    );
    const port = await freePort();
    const tls = [
      '--port',
      '0',
      '--tls-port',
      String(port),
      '--tls-cert-file',
      join(folder, 'redis.pem'),
      '--tls-key-file',
      join(folder, 'redis.key'),
      '--tls-ca-cert-file',
      join(folder, 'ca.pem'),
      '--tls-auth-clients',
      'no',
    ];
    const acl = join(folder, 'users.acl');
    writeFileSync(acl, 'user default off\nuser metrics on >pa%ss+w0rd ~{test:*}* &* +@all\n');
    const users = ['--aclfile', acl];
    await RedisServer.start(port, [...tls, ...users]);
    const password = encodeURIComponent('pa%ss+w0rd');
    const caFile = join(folder, 'ca.pem');
    const env = { REDIS_URL: `rediss://metrics:${password}@localhost:${port}`, REDIS_CA_FILE: caFile };
    const args = ['--set', 'redis.keyPrefix=test'];
    const node = startNode(env, { args });
    const aggregator = await TestAggregator.start(env, 0, args);
    await ask(node, 10);
    await aggregator.when('ten requests', ({ total_requests }) => total_requests === 10);
    for (const text of [node.output, aggregator.output, JSON.stringify(await aggregator.metrics())]) {
      expect(text).not.to.include('pa%ss').and.not.to.include(password);
    }
    const stranger = startNode({ ...env, REDIS_URL: `rediss://metrics:wrong@localhost:${port}` }, { args });
    await until('the refusal', () => stranger.output.includes('WRONGPASS'));
    expect((await stranger.event('redis lost: inference goes on, metrics will be late')).reason).to.include(
      'WRONGPASS',
    );
  });

  it('behind one address that is cut off and fails over: numbers are stale, then right, and all live clients are served', async function () {
    this.timeout(40_000);
    const [one, two] = [await RedisServer.start(), await RedisServer.start()];
    const proxy = await TcpProxy.start(one.port);
    const env = { REDIS_URL: proxy.url };
    const node = startNode(env);
    const aggregators = [await TestAggregator.start(env), await TestAggregator.start(env)];
    await ask(node, 10);
    for (const aggregator of aggregators) await aggregator.when('ten requests', (m) => m.total_requests === 10);
    const updates = aggregators.map(({ url }) => {
      const socket = io(url, { transports: ['websocket'] });
      sockets.push(socket);
      const totals: number[] = [];
      socket.on('metrics', ({ total_requests }: Metrics) => totals.push(total_requests));
      return totals;
    });

    proxy.silence();
    const cutAt = performance.now();
    for (const aggregator of aggregators) {
      await aggregator.when('stale numbers', ({ stale }) => stale);
      const response = await fetch(`${aggregator.url}/readyz`);
      expect(response.status).to.equal(503);
      expect(((await response.json()) as { reason: string }).reason).to.include('no answer within 1000 ms');
    }
    expect(performance.now() - cutAt).to.be.below(5000);

    proxy.leadTo(one.port);
    for (const aggregator of aggregators) await aggregator.when('fresh numbers', ({ stale }) => !stale);
    const replica = new Redis(one.url);
    await replica.replicaof('127.0.0.1', two.port);
    proxy.leadTo(two.port);
    await ask(node, 10);
    for (const aggregator of aggregators) {
      await aggregator.when('twenty requests', (m) => m.total_requests === 20 && !m.stale);
    }
    await until('live updates everywhere', () => updates.every((totals) => totals.at(-1) === 20));
    await until('all to have left the replica', async () => {
      // Only the connection that asks is left.
      return Number(/connected_clients:(\d+)/.exec(await replica.info('clients'))?.[1]) === 1;
    });
    replica.disconnect();
    // Cut off and failed over: each is one piece of news, and its end is another.
    for (const process of [node, ...aggregators]) {
      const news = process.lines.filter((line) => line.includes('"msg":"redis'));
      expect(news.length, news.join('\n')).to.be.within(3, 6);
    }
  });

  it('behind Sentinel: totals are exact through a failover', async function () {
    this.timeout(60_000);
    const master = await RedisServer.start();
    const replica = await RedisServer.start(undefined, ['--replicaof', '127.0.0.1', String(master.port)]);
    const sentinels = await Promise.all([1, 2, 3].map(() => startSentinel(master.port)));
    const env = {
      REDIS_NODES: sentinels.map((port) => `127.0.0.1:${port}`).join(','),
      REDIS_MASTER_NAME: 'metrics',
    };
    const probe = new Redis(`redis://127.0.0.1:${sentinels[0]}`);
    await until('the sentinels to know each other and the replica', async () => {
      const [info] = (await probe.call('SENTINEL', 'MASTERS')) as string[][];
      const field = (name: string) => info?.[info.indexOf(name) + 1];
      return field('num-slaves') === '1' && field('num-other-sentinels') === '2';
    });
    probe.disconnect();
    const node = startNode(env);
    const aggregator = await TestAggregator.start(env);
    const port = await node.port();
    const load = new Load(() => [port]);
    await load.more(500);
    master.signal('SIGKILL');
    await master.ended();
    await aggregator.when('stale numbers', ({ stale }) => stale);
    await load.more(500);
    await aggregator.when('fresh numbers', ({ stale }) => !stale);
    await load.stop();
    await aggregator.when(
      `${load.replies} requests`,
      ({ total_requests, audit_imbalance }) => total_requests === load.replies && audit_imbalance === 0,
    );
    expect(load.lost).to.equal(0);
    expect(replica.output).to.include('MASTER MODE enabled');
  });

  it('as a Redis Cluster of three nodes: all keys of one cluster lie in one slot', async function () {
    this.timeout(60_000);
    const clustered = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '2000'];
    const servers = await Promise.all([1, 2, 3].map(() => RedisServer.start(undefined, clustered)));
    const addresses = servers.map(({ port }) => `127.0.0.1:${port}`);
    const create = new TestProcess('redis-cli', ['--cluster', 'create', ...addresses, '--cluster-yes']);
    expect(await create.ended(), create.output).to.have.property('code', 0);
    const env = { REDIS_NODES: addresses.join(',') };
    const nodes = ['one', 'two', 'three'].map((name) => startNode({ ...env, CLUSTER_NAME: name }));
    const aggregators = await Promise.all(
      ['one', 'two', 'three'].map((name) => TestAggregator.start({ ...env, CLUSTER_NAME: name })),
    );
    await Promise.all(nodes.map((node, i) => ask(node, 10 * (i + 1))));
    for (const [i, aggregator] of aggregators.entries()) {
      // Redis may have refused the node's first record, and have taken those of its workers.
      await aggregator.when('its requests, of one node', ({ nodes: shown, total_requests }) => {
        return shown.length === 1 && total_requests === 10 * (i + 1);
      });
    }
    const [node] = nodes as [TestServer];
    node.signal('SIGTERM');
    expect((await node.ended()).code).to.equal(0);
    await aggregators[0]?.when('a stopped node', ({ nodes: [first], total_requests }) => {
      return first?.state === 'stopped' && total_requests === 10;
    });
    const keys = await Promise.all(
      servers.map(async ({ url }) => {
        const redis = new Redis(url);
        const found = await redis.keys('*');
        redis.disconnect();
        return found.map((key) => key.replace(/}.*/, '}'));
      }),
    );
    for (const name of ['one', 'two', 'three']) {
      expect(
        keys.filter((found) => found.includes(`{mltcp:${name}}`)),
        name,
      ).to.have.lengthOf(1);
    }
  });
});

async function startSentinel(masterPort: number): Promise<number> {
  const port = await freePort();
  const file = join(temporaryFolder(), 'sentinel.conf');
  writeFileSync(
    file,
    [
      `port ${port}`,
      'bind 127.0.0.1',
      `sentinel monitor metrics 127.0.0.1 ${masterPort} 2`,
      'sentinel down-after-milliseconds metrics 1000',
      'sentinel failover-timeout metrics 5000',
    ].join('\n'),
  );
  const sentinel = new TestProcess('redis-server', [file, '--sentinel']);
  await sentinel.line('a sentinel', (line) => line.includes('+monitor master metrics'));
  return port;
}
