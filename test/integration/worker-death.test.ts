// Workers and primaries that die at the worst moment: while a connection is on its way from one process to another. The
// primary is stopped meanwhile, so that it finds everything at once when it continues.

import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import type { ServerStatus } from '#src/control/protocol.js';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses, freePort, isRunning, root, TestProcess, workersOf } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { TestServer } from '../support/server.js';
import { until } from '../support/until.js';

/** It has ended, but its parent does not know that yet. */
const isZombie = (pid: number): boolean => /\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
const hasStopped = (pid: number): boolean => /\) T /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));

async function stop(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  await until(`process ${pid} to stand still`, () => hasStopped(pid));
}

async function kill(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL');
  await until(`process ${pid} to end`, () => isZombie(pid));
}

async function expectNobodyForgotten(clients: readonly RawClient[]): Promise<void> {
  for (const client of clients) client.send(Buffer.from('x'));
  await until('each client to be answered or told', () =>
    clients.every(({ replies, socket }) => replies.length > 0 || socket.closed || socket.readableEnded),
  );
}

function connect(port: number, count: number): Promise<readonly RawClient[]> {
  return Promise.all(Array.from({ length: count }, () => RawClient.connect(port)));
}

/** A server whose model answers only while there is no file at `gate`. */
function gatedServer(gate: string, workers: number): TestServer {
  const model = { name: 'gate', backend: 'module', path: `${root}test/support/models/gate.mjs`, settings: { gate } };
  const file = `${gate}.json`;
  writeFileSync(file, JSON.stringify({ models: [{ ...model, execution: 'thread' }], server: { model: 'gate' } }));
  return new TestServer({ args: ['--config', file, '--workers', String(workers)] });
}

const descriptorsOf = ({ pid }: TestServer): number => readdirSync(`/proc/${pid}/fd`).length;

describe('a death in the worst moment', () => {
  afterEach(endProcesses);

  it('of workers that connections are just given to: the primary lives, and no client is forgotten', async () => {
    const port = await freePort(); // with 0, the next workers would have another port
    const server = new TestServer({ env: { MODEL: 'dummy', WORKERS: '2', PORT: String(port) }, hasListeners: true });
    await server.event('ready');
    const workers = workersOf(server);
    for (const pid of workers) await stop(pid);
    await stop(server.pid);
    const clients = await connect(port, 8);
    for (const pid of workers) await kill(pid);
    server.signal('SIGCONT');
    await expectNobodyForgotten(clients);
    await until('both replacements', () => server.count('worker replaced') === 2);
    expect(workersOf(server)).to.have.lengthOf(2);
    const [again] = await connect(port, 1);
    again?.send(Buffer.from('x'));
    await again?.replied(1);
  });

  it('of a worker that has not taken a moving connection yet: the next client is not given to it', async () => {
    const server = new TestServer({ env: { MODEL: 'dummy', WORKERS: '1' } });
    const port = await server.port();
    const [first] = workersOf(server);
    const moving = await connect(port, 40);
    const status = async (): Promise<ServerStatus> =>
      JSON.parse((await server.operate('status', '--json')).output) as ServerStatus;
    await server.operate('scale', '2');
    const second = workersOf(server).find((pid) => pid !== first) as number;
    await stop(second);
    const hasSome = async (): Promise<boolean> =>
      (await status()).workers.some(({ pid, connections }) => pid === second && connections > 0);
    await until('connections to move', hasSome);
    const before = descriptorsOf(server);
    await stop(server.pid);
    await kill(second);
    const clients = await connect(port, 8);
    server.signal('SIGCONT');
    await expectNobodyForgotten([...clients, ...moving]);
    await server.event('worker replaced');
    for (const client of [...clients, ...moving]) client.destroy();
    await until('no descriptor left behind', () => descriptorsOf(server) < before);
  });

  it('is seen where health is judged: each request and connection that a worker took with it is counted once', async () => {
    const gate = `${temporaryFolder()}/gate`;
    const server = gatedServer(gate, 2);
    const port = await server.port();
    const clients = await connect(port, 6);
    for (const client of clients) client.send(Buffer.from('x'));
    await Promise.all(clients.map((client) => client.replied(1)));
    writeFileSync(gate, '');
    for (const client of clients) client.send(...Array.from({ length: 7 }, () => Buffer.from('y')));
    const { workers } = await server.metricsWhen('all requests in flight', ({ in_flight }) => in_flight === 42);
    const victim = workers.find(({ connections }) => connections > 0);
    process.kill(victim?.pid as number, 'SIGKILL');
    const connections = victim?.connections as number;
    const requests = 7 * connections;
    const metrics = await server.metricsWhen('the loss', ({ requests_lost }) => requests_lost > 0);
    expect(metrics).to.include({ requests_lost: requests, requests_lost_60s: requests, errors: 0 });
    expect(metrics).to.include({ connections_lost: connections, connections_lost_60s: connections });
    expect(metrics).to.include({ requests_abandoned: requests, audit_imbalance: 0 });
    expect(metrics.events.map(({ severity, text }) => `${severity} ${text}`).join('\n')).to.match(
      new RegExp(`bad lost with a worker of .*: ${requests} requests and ${connections} connection`),
    );
    const text = await server.prometheus();
    expect(text).to.include(`mltcp_requests_lost_total{model="gate"} ${requests}\n`);
    expect(text).to.include(`mltcp_connections_closed_total{reason="worker_died"} ${connections}\n`);
    const top = new TestProcess(process.execPath, [
      ...[`${root}bundle/cli.js`, 'top', '--once', '--metrics', await server.url()],
    ]);
    await top.ended();
    expect(top.output).to.include(`✖ unhealthy: `).and.include(`${requests} requests and ${connections} connection`);
    rmSync(gate);
    const others = clients.filter(({ socket }) => !socket.closed && !socket.readableEnded);
    await Promise.all(others.map((client) => client.replied(8)));
    // Connections that move, or end in order, are not lost.
    await server.operate('reload');
    for (const client of others) client.end();
    await Promise.all(others.map(({ closed }) => closed));
    const after = await server.metricsWhen('all closed', (now) => now.connections === 0);
    expect(after).to.include({ requests_lost: requests, connections_lost: connections });
  });

  it('of workers that have just said that they are ready: the primary lives', async () => {
    const folder = temporaryFolder();
    const trap = `${folder}/trap`;
    writeFileSync(
      `${folder}/trap.mjs`,
      `import { existsSync } from 'node:fs';
       const { send } = process;
       if (existsSync('${trap}')) process.send = (...args) => {
         send.apply(process, args);
         if (args[0].kind === 'ready') process.kill(process.pid, 'SIGKILL');
       };
       export default () => ({ infer: (payloads) => payloads });`,
    );
    const models = [{ name: 'trap', backend: 'module', path: `${folder}/trap.mjs` }];
    writeFileSync(`${folder}/config.json`, JSON.stringify({ models, server: { model: 'trap' } }));
    writeFileSync(trap, ''); // for the first worker, which tests how connections can be passed, and for a later one
    const server = new TestServer({ args: ['--config', `${folder}/config.json`, '--workers', '1'] });
    await server.event('worker died');
    rmSync(trap);
    const [client] = await connect(await server.port(), 1);
    writeFileSync(trap, '');
    server.signal('SIGTTIN');
    await until('its death', () => server.count('worker died') > 1);
    rmSync(trap);
    await server.event('worker added');
    expect(server.log.filter(({ msg }) => msg.includes('through Node itself'))).to.deep.equal([]);
    client?.send(Buffer.from('x'));
    await client?.replied(1);
  });

  it('of nobody: a connection that is on its way when the server drains is closed, and no other is taken', async () => {
    const gate = `${temporaryFolder()}/gate`;
    const server = gatedServer(gate, 1);
    const port = await server.port();
    const [busy] = await connect(port, 1);
    writeFileSync(gate, '');
    busy?.send(Buffer.from('x'));
    await server.metricsWhen('a request in flight', ({ in_flight }) => in_flight === 1);
    const [worker] = workersOf(server);
    await stop(worker as number);
    const [late] = await connect(port, 1);
    server.signal('SIGTERM');
    await until('the drain', () => server.log.some(({ msg }) => msg.startsWith('draining')));
    await until('the end of the port', () =>
      connect(port, 1).then(
        () => false,
        () => true,
      ),
    );
    process.kill(worker as number, 'SIGCONT');
    await late?.serverEnded();
    rmSync(gate);
    await busy?.replied(1);
    expect(await server.ended()).to.include({ code: 0 });
  });

  it('of the primary before its workers have begun: they end, and no error is ours', async () => {
    const server = new TestServer({ env: { MODEL: 'dummy', WORKERS: '4' } });
    const workers = await until('workers', () => (workersOf(server).length === 4 ? workersOf(server) : null), {
      intervalMs: 1,
    });
    process.kill(server.pid, 'SIGKILL');
    await until('all workers to end', () => !workers.some(isRunning), { timeoutMs: 5000 });
    await server.exited;
    expect(server.output).not.to.match(/(bundle|dist)\//); // Node itself may say that the channel is closed
  });

  it('of the primary while a connection leaves a worker: the worker ends as well', async () => {
    const gate = `${temporaryFolder()}/gate`;
    const server = gatedServer(gate, 2);
    const clients = await connect(await server.port(), 4);
    writeFileSync(gate, '');
    for (const client of clients) client.send(Buffer.from('x'));
    await server.metricsWhen('all requests in flight', ({ in_flight }) => in_flight === 4);
    const workers = workersOf(server);
    server.signal('SIGTTOU'); // its connections migrate when the model has answered
    await server.event('scaling');
    await stop(server.pid);
    rmSync(gate);
    await Promise.all(clients.map((client) => client.replied(1)));
    process.kill(server.pid, 'SIGKILL');
    await until('all workers to end', () => !workers.some(isRunning), { timeoutMs: 5000 });
  });
});
