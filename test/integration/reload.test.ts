// Workers come and go, connections stay: clients notice nothing of a reload, of scaling or of balancing.

import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import type { ServerStatus } from '#src/control/protocol.js';
import { CheckedClient, type CheckedClientOptions, faultOf } from '../support/checked-client.js';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses, freePort, root } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { type ServerOptions, TestServer } from '../support/server.js';
import { skip } from '../support/skip.js';
import { until } from '../support/until.js';

const folder = temporaryFolder();
let configs = 0;

/** The server's config, in a file that a test may change. */
class Config {
  readonly path = `${folder}/config-${++configs}.json`;

  constructor(server: object = {}, more: object = {}) {
    this.write(server, more);
  }

  write(server: object = {}, more: object = {}): void {
    const models = [{ name: 'echo', backend: 'module', path: `${root}test/support/models/echo.mjs` }];
    const settings = { models, server: { model: 'echo', maxConnections: 5000, ...server }, ...more };
    writeFileSync(this.path, JSON.stringify(settings));
  }
}

function startServer({ args = [], ...options }: ServerOptions = {}, config = new Config()): TestServer {
  return new TestServer({ ...options, args: ['--config', config.path, '--workers', '2', ...args] });
}

const clients: CheckedClient[] = [];
function client(port: number, options: CheckedClientOptions = {}): CheckedClient {
  const made = new CheckedClient(clients.length, port, options);
  clients.push(made);
  return made;
}

async function busyClients(
  port: number,
  count: number,
  options: CheckedClientOptions = {},
): Promise<readonly CheckedClient[]> {
  const made = Array.from({ length: count }, () => client(port, { depth: 8, ...options }));
  await until('busy connections', () => made.every(({ replied }) => replied > 0));
  return made;
}

function expectNoFault(): void {
  const fault = faultOf(clients);
  expect(fault, String(fault)).to.equal(null);
}

/**
 * All requests are answered, by the counts of the clients and of the server; no client was ever disconnected.
 * @param othersAsked requests of clients that are gone
 */
async function expectNothingLost(server: TestServer, othersAsked = 0): Promise<void> {
  await Promise.all(clients.map((one) => one.finish()));
  expectNoFault();
  expect(clients.reduce((sum, { closes }) => sum + closes, 0)).to.equal(0);
  const requests = clients.reduce((sum, { replied }) => sum + replied, othersAsked);
  const metrics = await server.metricsWhen(
    `${requests} requests on ${clients.length} connections`,
    ({ total_requests, connections }) => total_requests === requests && connections === clients.length,
  );
  expect(metrics).to.include({ errors: 0, audit_imbalance: 0 });
}

async function reload(server: TestServer): Promise<void> {
  const before = server.count('reloaded');
  server.signal('SIGUSR2');
  const isOver = (): boolean => server.count('reloaded') > before || faultOf(clients) !== null;
  await until('the reload', isOver, { timeoutMs: 30_000 });
  expectNoFault();
}

/** Connections of each worker, lowest slot first. */
async function loads(server: TestServer): Promise<readonly number[]> {
  const { output } = await server.operate('status', '--json');
  const { workers } = JSON.parse(output) as ServerStatus;
  return workers.toSorted((a, b) => a.slot - b.slot).map(({ connections }) => connections);
}

async function evenedOut(server: TestServer, workers: number, connections: number): Promise<void> {
  const mean = connections / workers;
  await until(`${connections} connections on ${workers} workers within 20 % of even`, async () => {
    const counts = await loads(server);
    return counts.length === workers && counts.every((count) => Math.abs(count - mean) <= 0.2 * mean);
  });
}

async function cleanUp(): Promise<void> {
  for (const one of clients.splice(0)) one.destroy();
  await endProcesses();
}

describe('a rolling reload', () => {
  afterEach(cleanUp);

  it('drops none of 1,000 idle and 200 busy connections in ten times, and no reply', async function () {
    this.timeout(120_000);
    const server = startServer();
    const port = await server.port();
    const idle = Array.from({ length: 1000 }, () => client(port));
    await until('idle connections', () => idle.every(({ isConnected }) => isConnected));
    await Promise.all(idle.map((one) => one.asked(1)));
    await busyClients(port, 200);
    for (let i = 0; i < 10; i++) await reload(server);
    await Promise.all(idle.map((one) => one.asked(1)));
    await expectNothingLost(server);
    expect(await loads(server)).to.have.lengthOf(2);
  });

  it('moves half frames, replies that nobody has read yet, and a connection that it had to pause', async () => {
    const server = startServer();
    const port = await server.port();
    const half = client(port);
    half.send(3, true);
    const slow = await RawClient.connect(port, 4, false);
    const payloads = Array.from({ length: 400 }, (_, i) => Buffer.alloc(65_536, 97 + (i % 26)));
    slow.send(...payloads);
    await server.metricsWhen('a pause', ({ connections, in_flight }) => connections === 2 && in_flight === 0);
    await reload(server);
    await reload(server);
    slow.socket.resume();
    await slow.replied(payloads.length);
    expect(slow.replies.every((reply, i) => reply.equals(payloads[i] as Buffer))).to.equal(true);
    await half.finish();
    expect(half.replied).to.equal(3);
    expectNoFault();
    slow.end();
    await slow.closed;
  });

  it('waits for requests that a model holds, and moves their connections then', async () => {
    const gate = `${folder}/gate`;
    const models = [
      {
        name: 'slow',
        backend: 'module',
        path: `${root}test/support/models/gate.mjs`,
        execution: 'thread',
        settings: { gate },
      },
    ];
    const server = startServer({}, new Config({ model: 'slow' }, { models }));
    const client = await RawClient.connect(await server.port());
    writeFileSync(gate, '');
    client.send(Buffer.from('held'), Buffer.from('held, too'));
    await server.metricsWhen('the requests', ({ in_flight }) => in_flight === 2);
    server.signal('SIGUSR2');
    await server.event('reloading');
    client.send(Buffer.from('for the next'));
    rmSync(gate);
    expect((await client.replied(3)).map(String)).to.deep.equal(['held', 'held, too', 'for the next']);
    await server.event('reloaded');
    client.end();
    await client.closed;
  });

  it('takes over settings that have changed, and names those that need a restart', async () => {
    const config = new Config();
    const server = startServer({}, config);
    const port = await server.port();
    await busyClients(port, 4);
    config.write({ maxConnections: 4 }, { cluster: { name: 'other', workers: 3 }, http: { port: 1 } });
    await reload(server);
    const refused = await RawClient.connect(port);
    await refused.serverEnded();
    expect(refused.replies.map(String)).to.deep.equal(['']);
    const { settings } = await server.event('these settings change only with a restart');
    expect(settings).to.deep.equal(['cluster.name']);
    await expectNothingLost(server);
  });

  it('opens and closes listeners as config has them, and moves what it can', async () => {
    const [first, second] = [await freePort(), await freePort()];
    const config = new Config({ port: first });
    const server = startServer({ args: [], hasListeners: true }, config);
    await server.event('ready');
    await busyClients(first, 4);
    config.write({ port: second });
    await reload(server);
    const { listeners } = JSON.parse((await server.operate('status', '--json')).output) as ServerStatus;
    expect(listeners.map(({ port }) => port)).to.deep.equal([second]);
    await busyClients(second, 4);
    const refused = await RawClient.connect(first).catch((error: NodeJS.ErrnoException) => error.code);
    expect(refused).to.equal('ECONNREFUSED');
    await expectNothingLost(server);
  });

  it('refuses a config with mistakes, and one that no worker can start with: the old one serves on', async () => {
    const config = new Config();
    const server = startServer({}, config);
    const port = await server.port();
    await busyClients(port, 4);
    config.write({ maxConnections: 'many' });
    const mistaken = await server.operate('reload');
    expect(mistaken).to.have.property('code', 7);
    expect(mistaken.output).to.include('server.maxConnections: must be a whole number');
    const broken = [{ name: 'echo', backend: 'module', path: `${folder}/nowhere.mjs` }];
    config.write({}, { models: broken });
    const unloadable = await server.operate('reload');
    expect(unloadable).to.have.property('code', 7);
    expect(unloadable.output).to.include('the model echo cannot be served');
    expect(server.count('worker died')).to.equal(0);
    config.write();
    expect(await server.operate('reload')).to.deep.equal({ code: 0, output: 'reloaded' });
    await expectNothingLost(server);
  });

  it('goes back to the old config when only the second worker cannot start with the new one', async () => {
    const config = new Config();
    const server = startServer({}, config);
    await busyClients(await server.port(), 6);
    // It loads the first time, and fails the second time.
    const once = `${folder}/once.mjs`;
    writeFileSync(
      once,
      `import { existsSync, writeFileSync } from 'node:fs';
       const mark = ${JSON.stringify(`${once}.mark`)};
       if (existsSync(mark)) throw new Error('not twice');
       writeFileSync(mark, '');
       export { default } from ${JSON.stringify(`${root}test/support/models/echo.mjs`)};`,
    );
    config.write({}, { models: [{ name: 'echo', backend: 'module', path: once, execution: 'inline' }] });
    const { code, output } = await server.operate('reload');
    expect(code).to.equal(7);
    expect(output).to.include('not twice');
    await until('all workers with the old config', async () => {
      const status = JSON.parse((await server.operate('status', '--json')).output) as ServerStatus;
      return (
        status.workers.length === 2 &&
        status.workers.every(({ revision, state }) => revision === 1 && state === 'ready')
      );
    });
    await expectNothingLost(server);
  });

  it('drains connections where they may not move: what was asked is answered, then they close', async () => {
    const server = startServer({ args: ['--set', 'cluster.moveConnections=false'] });
    const port = await server.port();
    const clients = await busyClients(port, 10, { isReconnecting: true });
    await reload(server);
    expect(clients.every(({ closes }) => closes >= 1)).to.equal(true);
    await Promise.all(clients.map((one) => one.finish()));
    expectNoFault();
  });
});

describe('connections move with Node', () => {
  afterEach(cleanUp);

  for (const version of ['node-24', 'node-26']) {
    const node = `${root}build/node-versions/node_modules/${version}/bin/node`;
    it(`${version.slice(5)}: through reloads and scaling, half frames and unread replies as well`, async function () {
      if (!existsSync(node)) skip(this, `${version} could not be fetched`);
      const server = startServer({ node });
      const port = await server.port();
      await busyClients(port, 40);
      const idle = Array.from({ length: 20 }, () => client(port));
      const slow = await RawClient.connect(port, 4, false);
      slow.send(...Array.from({ length: 200 }, (_, i) => Buffer.alloc(65_536, 97 + (i % 26))));
      for (let i = 0; i < 3; i++) await reload(server);
      for (const workers of ['1', '3', '2']) await server.operate('scale', workers);
      slow.socket.resume();
      const replies = await slow.replied(200);
      expect(replies.every((reply, i) => reply.length === 65_536 && reply[0] === 97 + (i % 26))).to.equal(true);
      slow.end();
      await Promise.all(idle.map((one) => one.asked(3)));
      expect(
        server.count('connections cannot move between workers here: at reloads and at scaling down they are drained'),
      ).to.equal(0);
      await expectNothingLost(server, slow.replies.length);
    });
  }
});

describe('scaling', () => {
  afterEach(cleanUp);

  it('down gives connections to the workers that stay, up spreads them over all; none is dropped', async () => {
    const server = startServer({ args: ['--workers', '3'] });
    const port = await server.port();
    await busyClients(port, 60);
    expect(await server.operate('scale', '1')).to.deep.equal({ code: 0, output: '1 worker' });
    expect(await loads(server)).to.deep.equal([60]);
    await server.operate('scale', '3');
    await evenedOut(server, 3, 60);
    server.signal('SIGTTOU');
    await evenedOut(server, 2, 60);
    await expectNothingLost(server);
  });

  it('counts, logs and closes a connection whose new worker dies before it has it', async () => {
    const server = startServer();
    const port = await server.port();
    const clients = await Promise.all(Array.from({ length: 6 }, () => RawClient.connect(port)));
    for (const client of clients) client.send(Buffer.from('x'));
    await Promise.all(clients.map((client) => client.replied(1)));
    const before = await loads(server);
    const status = JSON.parse((await server.operate('status', '--json')).output) as ServerStatus;
    const heir = status.workers.find(({ slot }) => slot === 0)?.pid as number;
    process.kill(heir, 'SIGSTOP');
    server.signal('SIGTTOU');
    await until('all connections to be on their way', async () => (await loads(server))[0] === 6);
    process.kill(heir, 'SIGKILL');
    await Promise.all(clients.map((client) => client.serverEnded()));
    await server.event('worker replaced');
    expect(server.count('connection lost on its way to another worker')).to.equal(before[1]);
    const url = `${await server.url()}/metrics`;
    await until('the count of lost connections', async () => {
      const text = await (await fetch(url, { headers: { accept: 'text/plain' } })).text();
      return text.includes(`mltcp_connections_closed_total{reason="handoff_failed"} ${before[1]}`);
    });
  });
});

describe('after a worker was killed', () => {
  afterEach(cleanUp);

  it('connections spread over all workers again, those that come back and those that stayed', async () => {
    const server = startServer();
    const port = await server.port();
    const clients = await busyClients(port, 60, { isReconnecting: true });
    const [victim] = await server.workerPids();
    process.kill(victim as number, 'SIGKILL');
    await server.event('worker replaced');
    await evenedOut(server, 2, 60);
    await Promise.all(clients.map((one) => one.finish()));
    expectNoFault();
  });
});
