// A connection returns its permit when its socket ends, whatever state it is in.

import { connect, createServer, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import { expect } from 'chai';
import fc from 'fast-check';
import { InferenceClient } from '#src/client/client.js';
import type { ServerStatus } from '#src/control/protocol.js';
import { Authority } from '../support/certificates.js';
import { endProcesses, isRunning } from '../support/processes.js';
import { TestServer } from '../support/server.js';
import { until, within } from '../support/until.js';

const maxConnections = 6;
const authority = new Authority();
const certificate = authority.issue('server');
const serverTls = { SERVER_TLS_CERT_FILE: certificate.certFile, SERVER_TLS_KEY_FILE: certificate.keyFile };
const trusting: ConnectionOptions = { ca: authority.cert };
const suspicious: ConnectionOptions = { ca: new Authority('another').cert };
const fatalAlert = Buffer.from('15030300020228', 'hex');
const oneRequest = Buffer.from('0000000178', 'hex');

/** The first bytes that a TLS client sends. */
let hello: Buffer;

/** What a client may do with a connection. A step that ends it is its last. */
const steps = [
  'half a hello',
  'hello',
  'garbage',
  'handshake',
  'handshake without trust',
  'handshake of TLS 1.2',
  'request',
  'request, and TLS ended',
  'alert',
  'wait',
  'wait longer',
] as const;
const ends = ['FIN', 'RST', 'close'] as const;
type Step = (typeof steps)[number];
type End = (typeof ends)[number];

class BadClient {
  readonly socket: Socket;
  #secured: TLSSocket | null = null;

  constructor(port: number) {
    this.socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
    this.socket.on('error', () => {}).resume();
    this.socket.once('end', () => this.socket.destroy());
  }

  async take(step: Step): Promise<void> {
    const { socket } = this;
    switch (step) {
      case 'half a hello':
        socket.write(hello.subarray(0, hello.length >> 1));
        break;
      case 'hello':
        socket.write(hello);
        break;
      case 'garbage':
        socket.write('what is no TLS at all');
        break;
      case 'alert':
        socket.write(fatalAlert);
        break;
      case 'handshake':
        this.#shakeHands(trusting);
        break;
      case 'handshake without trust':
        this.#shakeHands(suspicious);
        break;
      case 'handshake of TLS 1.2':
        this.#shakeHands({ ...trusting, maxVersion: 'TLSv1.2' });
        break;
      case 'request':
        (this.#secured ?? socket).write(oneRequest);
        break;
      case 'request, and TLS ended':
        (this.#secured ?? socket).end(oneRequest);
        break;
      case 'wait':
        await new Promise(setImmediate);
        break;
      case 'wait longer':
        await new Promise((resolve) => setTimeout(resolve, 15));
    }
  }

  end(how: End): void {
    if (how === 'FIN') this.socket.end();
    else if (how === 'RST') this.socket.resetAndDestroy();
    else this.socket.destroy();
  }

  #shakeHands(options: ConnectionOptions): void {
    if (this.#secured !== null) return;
    this.#secured = connectTls({ socket: this.socket, ...options });
    this.#secured.on('error', () => {}).resume();
    this.#secured.once('end', () => this.socket.destroy());
  }
}

/** A second, plus what a busy machine needs for the good clients. A forgotten permit is held for 30 s, or forever. */
const limitMs = 10_000;

/** Fails unless as many good clients as there are permits are served, soon after the last bad one has ended. */
async function expectAllPermits(port: number, tls: ConnectionOptions | null, permits = maxConnections): Promise<void> {
  const options = { port, ...(tls === null ? {} : { tls }) };
  const clients: InferenceClient[] = [];
  const isServed = async (): Promise<boolean> => {
    const client = await InferenceClient.connect(options);
    try {
      await client.infer(Buffer.from('x'));
    } catch {
      client.destroy();
      return false;
    }
    clients.push(client);
    return true;
  };
  try {
    await until('a permit for each good client', async () => (await isServed()) && clients.length === permits, {
      timeoutMs: limitMs,
      intervalMs: 0,
    });
  } finally {
    await Promise.all(clients.map((client) => client.close()));
  }
}

/** The same for the aggregator: one connection more than there are permits would be cut. */
async function expectAllHttpPlaces(port: number, isSecure: boolean): Promise<void> {
  const open = (): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const to = { host: '127.0.0.1', port };
      const socket = isSecure ? connectTls({ ...to, ...trusting }) : connect(to);
      socket.write('GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n');
      socket.once('data', () => resolve(socket));
      socket.once('error', reject);
      socket.once('close', () => reject(new Error('closed')));
    });
  const sockets: Socket[] = [];
  const isServed = async (): Promise<boolean> => sockets.push(await open()) === maxConnections;
  await until('a permit for each good client', isServed, { timeoutMs: limitMs, intervalMs: 0 }).finally(() => {
    for (const socket of sockets) socket.destroy();
  });
}

interface Move {
  readonly connection: number;
  readonly step: Step | End;
}

/** Makes the moves; in the end, every connection has been ended. */
async function play(port: number, moves: readonly Move[], last: End): Promise<void> {
  const clients = new Map<number, BadClient>();
  for (const { connection, step } of moves) {
    const client = clients.get(connection) ?? new BadClient(port);
    clients.set(connection, client);
    if (!isEnd(step)) await client.take(step);
    else {
      client.end(step);
      clients.delete(connection);
    }
  }
  for (const client of clients.values()) client.end(last);
}

const script = fc.array(
  fc.record({ connection: fc.nat(2), step: fc.oneof(fc.constantFrom(...steps), fc.constantFrom(...ends)) }),
  { maxLength: 12 },
);
const isEnd = (step: Step | End): step is End => (ends as readonly string[]).includes(step);

const setups: readonly (readonly [
  what: string,
  env: Readonly<Record<string, string>>,
  good: ConnectionOptions | null,
])[] = [
  ['without TLS', {}, null],
  ['with TLS', serverTls, trusting],
  ['with certificates of clients', { ...serverTls, SERVER_TLS_CA_FILE: authority.certFile }, null],
];

describe('a permit', function () {
  before(async () => {
    hello = await new Promise<Buffer>((resolve, reject) => {
      const server = createServer((socket) => {
        socket
          .on('error', () => {})
          .once('data', (bytes) => {
            resolve(bytes);
            socket.destroy();
            server.close();
          });
      });
      server.listen(0, '127.0.0.1', () => {
        const { port } = server.address() as { port: number };
        connectTls({ host: '127.0.0.1', port, ...trusting }).on('error', () => {});
      });
      server.once('error', reject);
    });
  });

  afterEach(endProcesses);

  this.timeout(60_000);
  const serve = (env: Readonly<Record<string, string>> = {}, ...settings: string[]): TestServer => {
    const args = settings.flatMap((setting) => ['--set', setting]);
    return new TestServer({ env: { MODEL: 'dummy', WORKERS: '2', ...env }, args });
  };

  for (const [what, env, good] of setups) {
    it(`comes back at once whatever a client does ${what}`, async () => {
      const server = serve({ ...env, MAX_CONNECTIONS: String(maxConnections) });
      const port = await server.port();
      const { cert, key } = authority.issue('client');
      const tls = what === 'with certificates of clients' ? { ...trusting, cert, key } : good;
      await expectAllPermits(port, tls);
      await fc.assert(
        fc.asyncProperty(script, fc.constantFrom(...ends), async (moves, last) => {
          await play(port, moves, last);
          await expectAllPermits(port, tls);
        }),
        { numRuns: 25, interruptAfterTimeLimit: 5000, endOnFailure: true },
      );
      await server.metricsWhen('no connection', ({ connections }) => connections === 0);
    });
  }

  it('is there for a good client after a hundred that connected and left, and a hundred that did not trust us', async () => {
    const server = serve({ ...serverTls, MAX_CONNECTIONS: '100' });
    const port = await server.port();
    const closed = (socket: Socket): Promise<void> =>
      new Promise((resolve) => socket.on('error', () => {}).once('close', () => resolve()));
    for (let i = 0; i < 105; i++) {
      const socket = connect({ host: '127.0.0.1', port }, () => socket.end());
      await closed(socket.resume());
    }
    await Promise.all(
      Array.from({ length: 105 }, () => closed(connectTls({ host: '127.0.0.1', port, ...suspicious }))),
    );
    await expectAllPermits(port, trusting);
  });

  it('of a handshake that comes a byte at a time is taken back when its time is over', async () => {
    const server = serve({ ...serverTls, MAX_CONNECTIONS: '1', PAYLOAD_TIMEOUT_SECONDS: '1' });
    const slow = await slowHandshake(await server.port());
    await within(5000, 'the end of a slow handshake', slow.closed);
    expect(slow.tookMs).to.be.within(900, 4000);
    const isCounted = async (): Promise<boolean> => (await server.prometheus()).includes('{reason="handshake"} 1\n');
    await until('its count', isCounted);
  });

  it('of a handshake holds up neither a stop nor a reload', async () => {
    const server = serve({ ...serverTls });
    const port = await server.port();
    const hang = async (): Promise<Socket[]> => {
      const silent = new BadClient(port);
      const begun = new BadClient(port);
      await begun.take('half a hello');
      const isThere = async (): Promise<boolean> => (await placesOf(server)) === 2;
      await until('two handshakes', isThere);
      return [silent.socket, begun.socket];
    };
    await hang();
    const pids = await server.workerPids();
    const reloadedAt = performance.now();
    expect((await server.operate('reload')).code).to.equal(0);
    await until('the end of the old workers', () => !pids.some(isRunning));
    expect(performance.now() - reloadedAt).to.be.below(6000);
    await hang();
    const stoppedAt = performance.now();
    server.signal('SIGTERM');
    expect((await server.ended()).code).to.equal(0);
    expect(performance.now() - stoppedAt).to.be.below(5000);
  });

  it('of the aggregator comes back as well, with TLS and without', async () => {
    for (const env of [{}, { HTTP_TLS_CERT_FILE: certificate.certFile, HTTP_TLS_KEY_FILE: certificate.keyFile }]) {
      const server = serve(env, `http.maxConnections=${maxConnections}`);
      const port = Number(new URL(await server.url()).port);
      const isSecure = 'HTTP_TLS_CERT_FILE' in env;
      await fc.assert(
        fc.asyncProperty(script, fc.constantFrom(...ends), async (moves, last) => {
          await play(port, moves, last);
          await expectAllHttpPlaces(port, isSecure);
        }),
        { numRuns: 15, interruptAfterTimeLimit: 3000, endOnFailure: true },
      );
    }
  });

  it('comes back when a connection ends while it moves to another worker', async () => {
    const many = 60;
    const server = serve({ MAX_CONNECTIONS: String(many) });
    const port = await server.port();
    const clients = Array.from({ length: many }, () => new BadClient(port));
    for (const client of clients) await client.take('request');
    await until('all of them', async () => (await placesOf(server)) === many);
    const reloading = server.operate('reload');
    for (const [i, client] of clients.entries()) {
      client.end(ends[i % ends.length] ?? 'FIN');
      await client.take('wait longer'); // 60 × 15 ms: before, while and after they migrate
    }
    expect((await reloading).code).to.equal(0);
    await expectAllPermits(port, null, many);
  });

  it('is not taken from a client that ends behind its request, and its handshake: it has its reply', async () => {
    const { cert, key } = authority.issue('client');
    const server = serve({ ...serverTls, SERVER_TLS_CA_FILE: authority.certFile });
    const port = await server.port();
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const socket = connectTls({ host: '127.0.0.1', port, ...trusting, cert, key, maxVersion });
      const received: Buffer[] = [];
      socket.on('data', (bytes: Buffer) => received.push(bytes)).end(oneRequest); // before there is TLS
      await new Promise((resolve, reject) => socket.once('close', resolve).once('error', reject));
      expect(Buffer.concat(received).length, maxVersion).to.equal(9);
    }
  });
});

/** Sends a ClientHello a byte at a time, and never the whole of it. */
async function slowHandshake(port: number): Promise<{ closed: Promise<void>; readonly tookMs: number }> {
  const socket = connect({ host: '127.0.0.1', port });
  await new Promise((resolve) => socket.once('connect', resolve));
  const since = performance.now();
  let sent = 0;
  const dripping = setInterval(() => socket.write(hello.subarray(sent, ++sent)), 100);
  const slow = {
    tookMs: 0,
    closed: new Promise<void>((resolve) => {
      socket.on('error', () => {}).resume();
      socket.once('close', () => {
        clearInterval(dripping);
        slow.tookMs = performance.now() - since;
        resolve();
      });
    }),
  };
  return slow;
}

/** How many connections have a permit, according to the primary. */
async function placesOf(server: TestServer): Promise<number> {
  const { workers } = JSON.parse((await server.operate('status', '--json')).output) as ServerStatus;
  return workers.reduce((sum, { connections }) => sum + connections, 0);
}
