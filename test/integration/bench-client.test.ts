// The client of the bench: a wrong reply ends a measurement, and its message must say what is wrong with the server.

import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { expect } from 'chai';
import { temporaryFolder } from '../support/folder.js';
import { root } from '../support/processes.js';
import { skip } from '../support/skip.js';

interface Load {
  readonly port: number;
  readonly connections: number;
  readonly depth: number;
  readonly payloadBytes: number;
  readonly replyBytes: number;
  readonly seconds: number;
}

interface CallLoad extends Omit<Load, 'payloadBytes'> {
  readonly call: string;
  readonly answerFloats: number;
}

interface Client {
  load(settings: Load): Promise<{ readonly replies: number }>;
  loadSizes(settings: Load): Promise<{ readonly replies: number }>;
  loadCalls(settings: CallLoad): Promise<{ readonly replies: number }>;
}

interface Programs {
  startServer(folder: string, config: object, workers: number): Promise<{ readonly port: number }>;
  stopAll(): Promise<unknown>;
}

const requestBytes = 12;
const settings = { connections: 1, depth: 4, payloadBytes: requestBytes - 4, replyBytes: 4, seconds: 0.3 };
/** A wrong reply ends a run: this is for the busiest machine. */
const long = { seconds: 10 };
/** A call: a number of five bytes, and a byte; its reply has the number, a byte and a float. */
const call = Buffer.from('08808080800178', 'hex');
const callFrameBytes = 4 + call.length;
const good = Buffer.from('0000000461626364', 'hex');

describe('the client of the bench', function () {
  this.timeout(30_000);
  let client: Client;
  const servers: Server[] = [];
  const sockets = new Set<Socket>();

  before(async function () {
    const { compileClient } = await import(`${root}scripts/bench/native-client.mjs`);
    const compiled = compileClient(temporaryFolder()) as Client | null;
    if (compiled === null) skip(this, 'there is no C compiler');
    client = compiled;
  });

  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    await Promise.all(servers.splice(0).map((server) => once(server.close(), 'close')));
  });

  /** A server that answers request `at`, and no other, with `odd`; each byte is written by itself. */
  async function answering(at: number, odd: string): Promise<Load> {
    const reply = Buffer.from(odd, 'hex');
    const server = createServer({ noDelay: true }, (socket) => {
      sockets.add(socket);
      let received = 0;
      let answered = 0;
      socket.on('error', () => {});
      socket.on('data', ({ length }) => {
        received += length;
        for (; answered < Math.floor(received / requestBytes); answered++)
          for (const byte of answered === at ? reply : good) socket.write(Buffer.of(byte));
      });
    });
    servers.push(server);
    await once(server.listen(0, '127.0.0.1'), 'listening');
    return { ...settings, port: (server.address() as AddressInfo).port };
  }

  const complaintOf = (run: Promise<unknown>): Promise<string> =>
    run.then(
      () => 'none',
      ({ stderr }) => String(stderr),
    );

  it('takes replies that come in pieces', async () => {
    const { replies } = await client.load(await answering(-1, ''));
    expect(replies).to.be.above(10);
  });

  for (const [what, at, odd, complaint] of [
    ['a connection is refused', 0, '00000000', 'the first reply of a connection is an empty frame: there is no place'],
    ['a request fails', 9, '00000000', 'reply 9 of a connection is an empty frame: the request failed'],
    ['a reply has another size', 9, '0000010361', 'reply 9 of a connection has 259 bytes, not 4'],
    ['a reply has other bytes', 9, '0000000461626365', 'from byte 3 on: 65, not 64'],
  ] as const)
    it(`says that ${what}`, async () => {
      expect(await complaintOf(client.load({ ...(await answering(at, odd)), ...long }))).to.include(complaint);
    });

  it('looks at sizes alone where it is told to', async () => {
    expect(await complaintOf(client.loadSizes(await answering(9, '0000000461626365')))).to.equal('none');
    expect(await complaintOf(client.loadSizes({ ...(await answering(9, '00000000')), ...long }))).to.include('reply 9');
  });

  /** A server that takes the calls of a client four at a time, and answers them the last one first. */
  async function answeringCalls(change: (reply: Buffer, at: number) => void): Promise<CallLoad> {
    const server = createServer({ noDelay: true }, (socket) => {
      sockets.add(socket);
      let bytes = Buffer.alloc(0);
      let answered = 0;
      socket.on('error', () => {});
      socket.on('data', (chunk) => {
        bytes = Buffer.concat([bytes, chunk]);
        for (; bytes.length >= 4 * callFrameBytes; bytes = bytes.subarray(4 * callFrameBytes))
          for (const i of [3, 2, 1, 0]) {
            const number = bytes.subarray(i * callFrameBytes + 5, i * callFrameBytes + 10);
            const reply = Buffer.concat([Buffer.from('0000000b08', 'hex'), number, Buffer.from('6100000040', 'hex')]);
            change(reply, answered++);
            socket.write(reply);
          }
      });
    });
    servers.push(server);
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const file = `${temporaryFolder()}/call`;
    writeFileSync(file, call);
    const { port } = server.address() as AddressInfo;
    return { port, connections: 1, depth: 4, call: file, replyBytes: 11, answerFloats: 1, seconds: 0.3 };
  }

  it('numbers its calls, and takes replies in any order, whose floats differ by a rounding', async () => {
    const seen = new Set<string>();
    const load = await answeringCalls((reply, at) => {
      seen.add(reply.toString('hex', 5, 10));
      reply.writeFloatLE(2 + (at % 2) * 1e-6, 11);
    });
    const { replies } = await client.loadCalls(load);
    expect(replies).to.be.above(10);
    expect(seen.size).to.be.at.least(replies);
  });

  for (const [what, change, complaint] of [
    ['a call is answered twice', (reply) => reply.writeUInt8(0x83, 5), 'is to call 268435459, which is not in flight'],
    ['a reply is to no call', (reply) => reply.writeUInt8(0xff, 5), 'which is not in flight'],
    ['a reply is another one', (reply) => reply.write('b', 10), 'is not like the first one of its connection'],
    ['a reply has other numbers', (reply) => reply.writeFloatLE(2.001, 11), 'has other numbers than the first one'],
    ['a reply has another size', (reply) => reply.writeUInt8(12, 3), 'has 12 bytes, not 11'],
  ] as const satisfies readonly (readonly [string, (reply: Buffer) => void, string])[])
    it(`says that ${what}`, async () => {
      const load = await answeringCalls((reply, at) => void (at === 9 && change(reply)));
      expect(await complaintOf(client.loadCalls({ ...load, ...long }))).to.include(complaint);
    });

  it('has its places beside the client before it, which a busy server may not know to be gone', async () => {
    const { startServer, stopAll } = (await import(`${root}scripts/bench/programs.mjs`)) as Programs;
    const config = { server: { port: 0, model: 'dummy', responseSize: settings.replyBytes } };
    try {
      const { port } = await startServer(temporaryFolder(), config, 1);
      const connections = 64;
      for (let i = 0; i < connections; i++) {
        const before = connect({ host: '127.0.0.1', port });
        sockets.add(before.on('error', () => {}));
        await once(before, 'connect');
      }
      const run = client.load({ ...settings, port, connections });
      expect(await complaintOf(run)).to.equal('none');
    } finally {
      await stopAll();
    }
  });
});
