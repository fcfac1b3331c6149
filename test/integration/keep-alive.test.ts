// Clients that vanish without a FIN or an RST, as when a cable is pulled or a NAT forgets them.

import { rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { expect } from 'chai';
import { InferenceClient } from '#src/client/client.js';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/folder.js';
import { keepAliveSeconds } from '../support/kernel-sockets.js';
import { Networks } from '../support/networks.js';
import { endProcesses, root, TestProcess } from '../support/processes.js';
import { cleanEnv, type LogLine, TestServer } from '../support/server.js';
import { skip } from '../support/skip.js';
import { until } from '../support/until.js';

const certificate = new Authority().issue('server');
const tls = { certFile: certificate.certFile, keyFile: certificate.keyFile };
const oneRequest = Buffer.from('0000000178', 'hex');

/** A plain listener and one with TLS. */
function listeners(host = '127.0.0.1', ports = [0, 0]): object[] {
  return ports.map((port, i) => ({ host, port, model: 'dummy', tls: i === 1 }));
}

function opened(socket: Socket, event: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    socket.once(event, () => resolve(socket));
    socket.once('error', reject);
  });
}

/** Seconds until the kernel probes the peer; -1: never. */
function timer(port: number | null, peerPort: number | undefined): Promise<number> {
  return until('a quiet connection', () => keepAliveSeconds(port, peerPort ?? 0) ?? -1);
}

describe('a client that is gone without a word', () => {
  afterEach(endProcesses);

  it('is asked for by the kernel after the time that config says: plain, with TLS, moved, and of the aggregator', async () => {
    const file = join(temporaryFolder(), 'config.json');
    const write = (seconds: number): void => {
      const server = { tls, keepAliveSeconds: seconds };
      writeFileSync(file, JSON.stringify({ server, http: { tls, keepAliveSeconds: 50 }, listeners: listeners() }));
    };
    write(200);
    const server = new TestServer({ args: ['--config', file], hasListeners: true });
    const { tcp } = (await server.event('ready')) as LogLine & { tcp: readonly string[] };
    const [plainPort = 0, tlsPort = 0] = tcp.map((text) => Number(/:(\d+)/.exec(text)?.[1]));
    const httpPort = Number(new URL(await server.url()).port);
    const sockets = await Promise.all([
      opened(connect(plainPort, '127.0.0.1'), 'connect'),
      opened(connectTls({ host: '127.0.0.1', port: tlsPort, rejectUnauthorized: false }), 'secureConnect'),
      opened(connectTls({ host: '127.0.0.1', port: httpPort, rejectUnauthorized: false }), 'secureConnect'),
    ]);
    const [plain, secured, http] = sockets as [Socket, Socket, Socket];
    plain.on('data', () => {}).write(oneRequest);
    await opened(plain, 'data');
    expect(await timer(plainPort, plain.localPort)).to.be.within(150, 200);
    expect(await timer(tlsPort, secured.localPort)).to.be.within(150, 200);
    expect(await timer(httpPort, http.localPort)).to.be.within(20, 50);
    write(100);
    expect((await server.operate('reload')).code).to.equal(0);
    expect(await timer(plainPort, plain.localPort), 'moved').to.be.within(50, 100);
    write(0);
    expect((await server.operate('reload')).code).to.equal(0);
    expect(await timer(plainPort, plain.localPort), 'moved, and switched off').to.equal(-1);
    plain.write(oneRequest);
    await opened(plain, 'data');
    for (const socket of sockets) socket.destroy();
  });

  it('asks for a server of its own that is gone, if it is our client', async () => {
    const server = new TestServer({ env: { MODEL: 'dummy' } });
    const port = await server.port();
    const timerOf = async (options: { readonly keepAliveMs?: number }): Promise<number> => {
      const client = await InferenceClient.connect({ port, ...options });
      await client.infer(Buffer.from('x'));
      const seconds = await timer(null, port);
      client.destroy();
      return seconds;
    };
    expect(await timerOf({})).to.be.within(20, 30);
    expect(await timerOf({ keepAliveMs: 0 })).to.equal(-1);
  });
});

describe('behind a cable that is pulled, a client', function () {
  this.timeout(60_000);
  let networks: Networks | null = null;
  before(function () {
    networks = Networks.create();
    if (networks === null) {
      skip(this, 'network namespaces need Linux, root and the ip command (Debian: iproute2)');
    }
  });
  after(async () => {
    await endProcesses();
    networks?.remove();
  });

  it('gives its place back when the kernel has asked for it in vain', async () => {
    if (networks === null) throw new Error('there are no networks');
    const near = networks.machine('near', '10.77.0.1');
    const far = networks.machine('far', '10.77.0.2');
    const start = (on: typeof near, ...command: string[]): TestProcess => {
      const [program = '', ...args] = on.run([process.execPath, ...command]);
      return new TestProcess(program, args, { env: cleanEnv() });
    };
    const run = async (on: typeof near, script: string): Promise<string> => {
      const process = start(on, '--input-type=module', '--eval', script);
      await process.ended();
      return process.output;
    };
    const file = join(temporaryFolder(), 'config.json');
    const gate = join(temporaryFolder(), 'gate');
    writeFileSync(gate, '');
    const server = { tls, keepAliveSeconds: 1, maxConnections: 4 };
    const path = `${root}test/support/models/gate.mjs`;
    const models = [{ name: 'gate', backend: 'module', path, execution: 'thread', settings: { gate } }];
    const slow = { host: near.address, port: 9003, model: 'gate', tls: false };
    const all = [...listeners(near.address, [9001, 9002]), slow];
    writeFileSync(file, JSON.stringify({ server, models, listeners: all }));
    const args = ['--config', file, '--workers', '1', '--http-port', '8080'];
    const served = start(near, `${root}bundle/cli.js`, 'start', ...args);
    await served.line('the server', (line) => line.includes('"msg":"ready"'));
    const connected = (script: string) =>
      start(far, '--input-type=module', '--eval', script).line('a client', (line) => line === 'served');
    await connected(plainClients(near.address));
    const reload = start(near, `${root}bundle/cli.js`, 'reload', '--pid', String(served.pid)); // moves the clients
    expect((await reload.ended()).code).to.equal(0);
    await connected(tlsClient(near.address));

    await connected(clientWithoutReply(near.address));
    const fetching = `console.log(await (await fetch('http://127.0.0.1:8080/metrics', { headers: { accept: 'text/plain' } })).text())`;
    await until('its request', async () => (await run(near, fetching)).includes('received_total{model="gate"} 1'));

    networks.cable('far', 'down');
    rmSync(gate); // the reply can never arrive
    expect(await run(near, oneAsking(near.address))).to.equal('refused');
    await until('a place', async () => (await run(near, oneAsking(near.address))) === 'served', {
      timeoutMs: 20_000,
      intervalMs: 500,
    });
    await until('their count', async () => (await run(near, fetching)).includes('closed_total{reason="keep_alive"} 4'));
  });
});

/** One client that says nothing, and one that was answered. */
function plainClients(host: string): string {
  return `
    import { connect } from 'node:net';
    connect(9001, '${host}', () => {
      const asking = connect(9001, '${host}', () => asking.write(Buffer.from('0000000178', 'hex')));
      asking.once('data', () => console.log('served'));
    });`;
}

function tlsClient(host: string): string {
  return `
    import { connect } from 'node:tls';
    connect({ host: '${host}', port: 9002, rejectUnauthorized: false }, () => console.log('served'));`;
}

function clientWithoutReply(host: string): string {
  return `
    import { connect } from 'node:net';
    const socket = connect(9003, '${host}', () => socket.write(Buffer.from('0000000178', 'hex'), () => console.log('served')));
    socket.once('data', () => process.exit(1));`;
}

/** Asks once, and prints whether it is served. */
function oneAsking(host: string): string {
  return `
    import { connect } from 'node:net';
    const socket = connect(9001, '${host}', () => socket.write(Buffer.from('0000000178', 'hex')));
    socket.once('data', (reply) => {
      console.log(reply.length > 4 ? 'served' : 'refused');
      socket.destroy();
    });`;
}
