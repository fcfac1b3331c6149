// Redis, Sentinels and Redis Clusters that are reached by TLS and by IPv6, what `config --check` says of unusable ones,
// and the user with the fewest rights.

import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { createServer, type Server } from 'node:tls';
import { expect } from 'chai';
import { Redis, type RedisOptions } from 'ioredis';
import { checkRedis, type Finding, scriptedCommands } from '#src/metrics/transport/redis-check.js';
import type { RedisSettings } from '#src/metrics/transport/redis-connection.js';
import { Authority, type Certificate } from '../support/certificates.js';
import { ask, startNode, TestAggregator } from '../support/cluster.js';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses, freePort, root, TestProcess } from '../support/processes.js';
import { RedisServer, redisSettings } from '../support/redis-server.js';
import { cleanEnv } from '../support/server.js';
import { skip } from '../support/skip.js';

/** The servers' certificates are for this name alone, which none of their addresses resolves to. */
const hostName = 'redis.example';
const authority = new Authority();
const certificate = authority.issue('server', 1, `DNS:${hostName}`);
const ours = authority.issue('metrics');
const tlsFiles = { caFile: authority.certFile, certFile: ours.certFile, keyFile: ours.keyFile };

const tlsArguments = ({ certFile, keyFile }: Certificate, wantsCertificate = true): readonly string[] => [
  ...['--tls-cert-file', certFile, '--tls-key-file', keyFile, '--tls-ca-cert-file', authority.certFile],
  ...['--tls-auth-clients', wantsCertificate ? 'yes' : 'no', '--tls-replication', 'yes'],
];

/** A Redis that speaks only TLS. */
async function startTls(more: readonly string[] = [], wantsCertificate = true): Promise<RedisServer> {
  const port = await freePort();
  const tls = ['--port', '0', '--tls-port', String(port), ...tlsArguments(certificate, wantsCertificate)];
  return RedisServer.start(port, [...tls, ...more]);
}

async function startSentinel(masterPort: number, more: readonly string[] = [], host = '127.0.0.1'): Promise<number> {
  const port = await freePort();
  const file = join(temporaryFolder(), 'sentinel.conf');
  const listen = more.includes('--tls-cert-file') ? `port 0\ntls-port ${port}` : `port ${port}`;
  writeFileSync(file, `${listen}\nbind ${host}\nsentinel monitor metrics ${host} ${masterPort} 1\n`);
  const sentinel = new TestProcess('redis-server', [file, '--sentinel', ...more]);
  await sentinel.line('a sentinel', (line) => line.includes('+monitor master metrics'));
  return port;
}

/** A Redis Cluster of one node, which has all slots. */
async function startCluster(more: readonly string[] = []): Promise<RedisServer> {
  const clustered = ['--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1'];
  const redis =
    more.length > 0
      ? await startTls([...clustered, '--tls-cluster', 'yes'])
      : await RedisServer.start(undefined, clustered);
  const tls =
    more.length > 0 ? { tls: { ca: authority.cert, cert: ours.cert, key: ours.key, servername: hostName } } : {};
  const control = admin({ port: redis.port, ...tls });
  await control.call('CLUSTER', 'ADDSLOTSRANGE', 0, 16383);
  while (!((await control.call('CLUSTER', 'INFO')) as string).includes('cluster_state:ok'));
  return redis;
}

const admins: Redis[] = [];
const disconnectAdmins = (): void => {
  for (const one of admins.splice(0)) one.disconnect();
};

function admin(options: number | RedisOptions): Redis {
  const redis = typeof options === 'number' ? new Redis(options) : new Redis(options);
  redis.on('error', () => {});
  admins.push(redis);
  return redis;
}

async function findings(settings: Partial<RedisSettings>): Promise<readonly Finding[]> {
  const found: Finding[] = [];
  const quick = { connectTimeoutMs: 1000, commandTimeoutMs: 500, keyPrefix: 'mltcp', ...settings };
  for await (const finding of checkRedis(redisSettings(settings.url ?? '', quick), 'default')) found.push(finding);
  return found;
}

const failures = (found: readonly Finding[]): readonly Finding[] => found.filter(({ result }) => result === 'failed');

async function expectToWork(settings: Partial<RedisSettings>): Promise<void> {
  const found = await findings(settings);
  expect(failures(found)).to.deep.equal([]);
  expect(found.filter(({ result }) => result === 'ok')).to.have.length.of.at.least(5);
}

const hasIpv6 = Object.values(networkInterfaces()).some((addresses) =>
  addresses?.some(({ address }) => address === '::1'),
);

describe('Redis by TLS', () => {
  afterEach(disconnectAdmins);
  afterEach(endProcesses);

  it('is used through Sentinels that speak TLS as well, by servers that are known by address, with our certificate', async () => {
    const master = await startTls();
    const sentinel = await startSentinel(master.port, tlsArguments(certificate));
    const env = {
      REDIS_URL: `rediss://${hostName}`,
      REDIS_NODES: `127.0.0.1:${sentinel}`,
      REDIS_MASTER_NAME: 'metrics',
      REDIS_CA_FILE: tlsFiles.caFile,
      REDIS_CERT_FILE: tlsFiles.certFile,
      REDIS_KEY_FILE: tlsFiles.keyFile,
    };
    const node = startNode(env);
    const aggregator = await TestAggregator.start(env);
    await ask(node, 10);
    await aggregator.when('ten requests', ({ total_requests, stale }) => total_requests === 10 && !stale);
  });

  it('may be mixed: Sentinels in plain text before a master by TLS, and the other way round', async () => {
    const secure = await startTls();
    const before = await startSentinel(secure.port);
    const plain = await RedisServer.start();
    const secureSentinel = await startSentinel(plain.port, tlsArguments(certificate));
    const masterName = 'metrics';
    await expectToWork({
      ...tlsFiles,
      masterName,
      url: `rediss://${hostName}`,
      sentinelTls: false,
      nodes: [`127.0.0.1:${before}`],
    });
    const nodes = [`127.0.0.1:${secureSentinel}`];
    await expectToWork({ ...tlsFiles, masterName, url: `redis://${hostName}`, sentinelTls: true, nodes });
  });

  it('is used as a Redis Cluster whose nodes are known by address', async () => {
    const { port } = await startCluster(['tls']);
    await expectToWork({ ...tlsFiles, url: `rediss://${hostName}`, nodes: [`127.0.0.1:${port}`] });
  });

  it('is told the host name of the URL (SNI), and its certificate must be for it', async () => {
    const { port } = await RedisServer.start();
    const names: (string | false | undefined)[] = [];
    const local = authority.issue('local');
    const server: Server = createServer({ cert: local.cert, key: local.key }, (socket) => {
      names.push(socket.servername ?? undefined);
      const upstream = connect(port, '127.0.0.1');
      socket.on('error', () => upstream.destroy()).pipe(upstream);
      upstream.on('error', () => socket.destroy()).pipe(socket);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const caFile = authority.certFile;
    const address = server.address() as AddressInfo;
    try {
      await expectToWork({ caFile, url: `rediss://localhost:${address.port}` });
      expect(new Set(names)).to.deep.equal(new Set(['localhost']));
      await expectToWork({
        caFile,
        url: 'rediss://127.0.0.1',
        nodes: [`localhost:${await startTlsSentinelBefore(address.port)}`],
        masterName: 'metrics',
        sentinelTls: false,
      });
    } finally {
      server.close();
    }
  });

  const startTlsSentinelBefore = (port: number): Promise<number> => startSentinel(port);

  it('reads renewed files for the next connection', async () => {
    const redis = await startTls();
    const caFile = join(temporaryFolder(), 'ca.pem');
    writeFileSync(caFile, new Authority('another authority').cert);
    const url = `rediss://${hostName}`;
    const node = startNode({
      REDIS_URL: url,
      REDIS_NODES: `127.0.0.1:${await startSentinel(redis.port)}`,
      REDIS_MASTER_NAME: 'metrics',
      REDIS_SENTINEL_TLS: 'false',
      REDIS_CA_FILE: caFile,
      REDIS_CERT_FILE: ours.certFile,
      REDIS_KEY_FILE: ours.keyFile,
    });
    await node.line('distrust', (line) => line.includes('name the certificate of the authority'));
    writeFileSync(caFile, authority.cert);
    await node.event('redis connected');
  });
});

describe('Redis by IPv6', () => {
  afterEach(disconnectAdmins);
  afterEach(endProcesses);

  it('is reached as one server, through Sentinels, and as a Redis Cluster, with brackets around the address', async function () {
    if (!hasIpv6) skip(this, 'this machine has no IPv6 loopback');
    const redis = await RedisServer.start(undefined, ['--bind', '::1']);
    await expectToWork({ url: `redis://[::1]:${redis.port}/1` });
    const sentinel = await startSentinel(redis.port, [], '::1');
    await expectToWork({ nodes: [`[::1]:${sentinel}`], masterName: 'metrics' });
    const cluster = await RedisServer.start(undefined, [
      '--bind',
      '::1',
      '--cluster-enabled',
      'yes',
      '--cluster-announce-ip',
      '::1',
    ]);
    const control = admin({ host: '::1', port: cluster.port });
    await control.call('CLUSTER', 'ADDSLOTSRANGE', 0, 16383);
    while (!((await control.call('CLUSTER', 'INFO')) as string).includes('cluster_state:ok'));
    await expectToWork({ nodes: [`[::1]:${cluster.port}`] });
  });
});

describe('ml-tcp-server config --check', () => {
  afterEach(disconnectAdmins);
  const ports = { plain: 0, secure: 0, cluster: 0, sentinel: 0, secureSentinel: 0, replica: 0, nobody: 0 };
  before(async () => {
    const [plain, secure, cluster] = [await RedisServer.start(), await startTls([], false), await startCluster()];
    const replica = await RedisServer.start(undefined, ['--replicaof', '127.0.0.1', String(plain.port)]);
    Object.assign(ports, {
      plain: plain.port,
      secure: secure.port,
      cluster: cluster.port,
      replica: replica.port,
      sentinel: await startSentinel(plain.port),
      secureSentinel: await startSentinel(plain.port, tlsArguments(certificate, false)),
      nobody: await freePort(),
    });
    const control = admin(plain.port);
    const right = ['on', '>secret', '~{mltcp:*', '&*', '+@all'];
    await control.call('ACL', 'SETUSER', 'noeval', ...right, '-eval');
    await control.call('ACL', 'SETUSER', 'nohset', ...right, '-hset');
    await control.call('ACL', 'SETUSER', 'nokeys', ...right, 'resetkeys', '~other');
    await control.call('ACL', 'SETUSER', 'nosubscribe', ...right, '-psubscribe');
    await control.call('ACL', 'SETUSER', 'nopublish', ...right, '-publish');
    await control.call('ACL', 'SETUSER', 'nochannels', ...right, 'resetchannels');
  });
  after(endProcesses);

  type Case = readonly [what: string, settings: () => Partial<RedisSettings>, reason: RegExp, advice: RegExp];
  const at = (name: keyof typeof ports, user = ''): string =>
    `redis://${user && `${user}:secret@`}127.0.0.1:${ports[name]}`;
  const cases: readonly Case[] = [
    ['nobody there', () => ({ url: at('nobody') }), /ECONNREFUSED/, /whether Redis runs/],
    [
      'a host that does not resolve',
      () => ({ url: 'redis://nowhere.invalid' }),
      /ENOTFOUND|EAI_AGAIN/,
      /does not resolve/,
    ],
    ['a wrong password', () => ({ url: at('plain', 'nobody') }), /WRONGPASS/, /user or password are wrong/],
    ['a user without EVAL', () => ({ url: at('plain', 'noeval') }), /NOPERM.*'eval'/, /ACL/],
    ['a user without HSET', () => ({ url: at('plain', 'nohset') }), /may not run HSET/, /\+hset$/],
    ['a user without our keys', () => ({ url: at('plain', 'nokeys') }), /NOPERM.*keys/, /~\{mltcp:default\}:\*$/],
    ['a user without PSUBSCRIBE', () => ({ url: at('plain', 'nosubscribe') }), /'psubscribe'/, /\+psubscribe$/],
    ['a user without PUBLISH', () => ({ url: at('plain', 'nopublish') }), /'publish'/, /\+publish$/],
    [
      'a user without our channels',
      () => ({ url: at('plain', 'nochannels') }),
      /channels/,
      /&\{mltcp:default\}:socket/,
    ],
    ['plain text where TLS is spoken', () => ({ url: at('secure') }), /it speaks TLS/, /rediss:\/\//],
    [
      'TLS where plain text is spoken',
      () => ({ url: `rediss://127.0.0.1:${ports.plain}` }),
      /it speaks plain text/,
      /redis:\/\//,
    ],
    [
      'an authority that is not trusted',
      () => ({ url: `rediss://127.0.0.1:${ports.secure}` }),
      /certificate/,
      /redis\.caFile/,
    ],
    [
      'a certificate for another name',
      () => ({ url: `rediss://127.0.0.1:${ports.secure}`, caFile: authority.certFile }),
      /altnames/,
      /host of redis\.url/,
    ],
    ['a replica', () => ({ url: at('replica') }), /READONLY/, /connect to the master/],
    ['a database that is not there', () => ({ url: `${at('plain')}/99` }), /out of range/, /choose another/],
    ['a Redis Cluster as one server', () => ({ url: `${at('cluster')}/1` }), /cluster mode/, /redis\.nodes/],
    [
      'one server as a Redis Cluster',
      () => ({ nodes: [`127.0.0.1:${ports.plain}`] }),
      /cluster support/,
      /redis\.url alone/,
    ],
    [
      'a server as a Sentinel',
      () => ({ nodes: [`127.0.0.1:${ports.plain}`], masterName: 'metrics' }),
      /unknown command/i,
      /no Sentinel/,
    ],
    [
      'a Sentinel as a Redis Cluster',
      () => ({ nodes: [`127.0.0.1:${ports.sentinel}`] }),
      /unknown command/i,
      /Sentinel/,
    ],
    [
      'a master that Sentinels do not know',
      () => ({ nodes: [`127.0.0.1:${ports.sentinel}`], masterName: 'other' }),
      /knows no master other/,
      /sentinel monitor/,
    ],
    [
      'a Sentinel that speaks TLS only',
      () => ({ nodes: [`127.0.0.1:${ports.secureSentinel}`], masterName: 'metrics' }),
      /it speaks TLS/,
      /redis\.sentinelTls/,
    ],
  ];
  for (const [what, settings, reason, advice] of cases) {
    it(`says what would mend ${what}`, async () => {
      const failed = failures(await findings(settings()));
      expect(failed).to.not.deep.equal([]);
      expect(
        failed.some((one) => reason.test(one.reason) && advice.test(one.advice)),
        JSON.stringify(failed),
      ).to.equal(true);
    });
  }

  it('finds a Redis Cluster behind a single URL by what it answers to our keys', async () => {
    const control = admin(ports.cluster);
    await control.call('CLUSTER', 'DELSLOTSRANGE', 0, 16383);
    const failed = failures(await findings({ url: at('cluster') }));
    expect(JSON.stringify(failed)).to.match(/CLUSTERDOWN/);
    await control.call('CLUSTER', 'ADDSLOTSRANGE', 0, 16383);
  });

  it('ends with 0 when all is well and with 2 when it is not, leaves no key behind, and shows no password', async () => {
    const check = async (env: Record<string, string>, ...args: string[]) => {
      const cli = new TestProcess(process.execPath, [`${root}bundle/cli.js`, 'config', '--check', ...args], {
        env: cleanEnv(env),
      });
      return { ...(await cli.ended()), output: cli.output };
    };
    const url = at('plain', 'nosubscribe');
    const [well, ill, none, json] = await Promise.all([
      check({ REDIS_URL: at('plain') }),
      check({ REDIS_URL: url }),
      check({}),
      check({ REDIS_URL: url }, '--json'),
    ]);
    expect(well.code, well.output).to.equal(0);
    expect(ill.code, ill.output).to.equal(2);
    expect(ill.output).to.include('+psubscribe').and.not.to.include('secret');
    expect(none.code).to.equal(0);
    expect(none.output).to.include('no Redis is configured');
    expect(json.code).to.equal(2);
    expect(JSON.parse(json.output)).to.include({ ok: false });
    const control = admin(ports.plain);
    expect(await control.keys('*')).to.deep.equal([]);
  });

  it('warns of a Redis that may evict our keys', async () => {
    const control = admin(ports.plain);
    await control.config('SET', 'maxmemory-policy', 'allkeys-lru');
    const warnings = (await findings({ url: at('plain') })).filter(({ result }) => result === 'warning');
    await control.config('SET', 'maxmemory-policy', 'noeviction');
    expect(warnings).to.have.lengthOf(1);
    expect(warnings[0]?.reason).to.include('allkeys-lru');
  });

  it('is what start and the aggregator say in their logs, once, and start serves on', async () => {
    const environments: readonly Record<string, string>[] = [
      { REDIS_NODES: `127.0.0.1:${ports.secureSentinel}`, REDIS_MASTER_NAME: 'metrics' },
      { REDIS_URL: at('plain', 'noeval') },
    ];
    await Promise.all(environments.map(expectSameWords));
  });
});

/** The logs of a node and of an aggregator, and /readyz, say what the check says; the log says it once. */
async function expectSameWords(env: Readonly<Record<string, string>>): Promise<void> {
  const { REDIS_URL: url = '', REDIS_NODES: nodes, REDIS_MASTER_NAME: masterName = '' } = env;
  const [failed] = failures(await findings({ url, masterName, nodes: nodes === undefined ? [] : [nodes] }));
  const node = startNode(env);
  const aggregator = await TestAggregator.start(env);
  await ask(node, 3);
  for (const process of [node, aggregator]) {
    const isIt = (text: string): boolean => /"msg":"redis (lost|takes|refuses)/.test(text);
    const line = JSON.parse(await process.line('what is wrong', isIt)) as { reason: string; advice: string };
    expect(line.advice).to.equal(failed?.advice);
    expect(line.reason).to.include(failed?.reason);
  }
  const response = await fetch(`${aggregator.url}/readyz`);
  expect(response.status).to.equal(503);
  expect(((await response.json()) as { reason: string }).reason).to.include(failed?.reason);
  expect((await aggregator.metrics()).stale).to.equal(true);
  for (const process of [node, aggregator]) {
    const lines = process.lines.filter((text) => text.includes('"msg":"redis'));
    expect(lines, process.output).to.have.lengthOf(1);
  }
}

describe('the ACL of config/README.md', () => {
  afterEach(disconnectAdmins);
  afterEach(endProcesses);

  const rules = (): string[] => {
    const [, line = ''] = /ACL SETUSER metrics (.*)/.exec(readFileSync(join(root, 'config/README.md'), 'utf8')) ?? [];
    return line.replace('PASSWORD', 'secret').split(' ');
  };

  it('is enough for nodes and aggregators: nothing that they do is refused', async () => {
    const redis = await RedisServer.start();
    const control = admin(redis.port);
    await control.call('ACL', 'SETUSER', 'metrics', ...rules());
    await control.call('ACL', 'SETUSER', 'default', 'off').catch(() => {});
    const env = { REDIS_URL: redis.url.replace('//', '//metrics:secret@') };
    const args = ['--set', 'metrics.nodeRetentionSeconds=1'];
    const [node, gone] = [startNode({ ...env, NODE_NAME: 'a' }), startNode({ ...env, NODE_NAME: 'b' })];
    const aggregators = [await TestAggregator.start(env, 0, args), await TestAggregator.start(env, 0, args)];
    await Promise.all([ask(node, 10), ask(gone, 5)]);
    gone.signal('SIGTERM');
    await gone.ended();
    for (const aggregator of aggregators) {
      await aggregator.when('a node folded', (m) => m.total_requests === 15 && m.nodes.length === 1 && !m.stale);
    }
    for (const process of [node, ...aggregators]) expect(process.output).to.not.match(/redis (lost|takes|refuses)/);
    expect(await control.call('ACL', 'LOG')).to.deep.equal([]);
  });

  it('has nothing that could be left out: config --check misses each of its commands', async () => {
    const redis = await RedisServer.start();
    const control = admin(redis.port);
    const url = redis.url.replace('//', '//metrics:secret@');
    await control.call('ACL', 'SETUSER', 'metrics', ...rules());
    expect(failures(await findings({ url }))).to.deep.equal([]);
    const commands = rules().filter((rule) => rule.startsWith('+'));
    expect(scriptedCommands.filter((name) => !commands.includes(`+${name.toLowerCase()}`))).to.deep.equal([]);
    // INFO is needed only for a warning, and can be missing.
    const needed = commands.filter(
      (one) => one !== '+info' && (!/subscribe$/.test(one) || /^\+p?subscribe$/.test(one)),
    );
    for (const rule of needed) {
      await control.call('ACL', 'SETUSER', 'metrics', rule.replace('+', '-'));
      expect(failures(await findings({ url })), rule).to.not.deep.equal([]);
      await control.call('ACL', 'SETUSER', 'metrics', rule);
    }
  });
});
