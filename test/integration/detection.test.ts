import { once } from 'node:events';
import { createServer as createHttpServer, request as httpRequest } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import { expect } from 'chai';
import { Recorder } from '#src/metrics/recorder.js';
import { detachHandle, plainSocketOn, type RawHandle, socketOn } from '#src/net/raw-handle.js';
import { createLog } from '#src/process/log.js';
import { type ClientProtocol, callsPreface } from '#src/protocol/first-bytes.js';
import { Detection } from '#src/worker/connections/detect.js';
import { TlsHandshakes } from '#src/worker/connections/tls-handshakes.js';
import { Authority } from '../support/certificates.js';

/** What serves each protocol: Node's own servers, and an echo. */
const http = createHttpServer(async (request, response) => {
  response.end(await buffer(request));
});
const http2 = createHttp2Server((request, response) => {
  request.pipe(response);
});

const servers: Server[] = [];
const closings: (() => void)[] = [];

/** Serves a port as a worker would: each accepted handle becomes a socket, whose protocol is detected. */
async function serve(
  toSocket: (handle: RawHandle, serve: (socket: Socket) => void) => void,
  takesFrames = false,
): Promise<{ port: number; decided: ClientProtocol[]; recorder: Recorder }> {
  const recorder = new Recorder([]);
  const decided: ClientProtocol[] = [];
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (accepted) => {
    const handle = detachHandle(accepted);
    if (handle === null) return;
    toSocket(handle, (socket) => {
      socket.on('error', () => {});
      const detection = new Detection(socket, {
        takesFrames,
        hasSecret: false,
        limits: { payloadTimeoutMs: 10_000, idleTimeoutMs: 0 },
        recorder,
        onDecided: (protocol) => {
          decided.push(protocol);
          if (protocol === 'http1') http.emit('connection', socket);
          else if (protocol === 'http2') http2.emit('connection', socket);
          else socket.on('data', (chunk: Buffer) => socket.write(Buffer.from(chunk))).on('end', () => socket.end());
          if (protocol !== 'http2') socket.resume();
        },
        onClose: () => {},
      });
      detection.start();
    });
  });
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, decided, recorder };
}

/** Sends these bytes, one a packet, and resolves to all that comes back. */
async function sendSlowly(port: number, bytes: Buffer): Promise<Buffer> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  const all = buffer(socket);
  await once(socket, 'connect');
  for (const byte of bytes) {
    socket.write(Buffer.of(byte));
    await nextTurn();
  }
  socket.end();
  return all;
}

describe('a port for several protocols', () => {
  after(() => {
    for (const server of servers) server.close();
    for (const close of closings) close();
    http.close();
    http2.close();
  });

  const body = Buffer.alloc(300_000, 'abcdefg');
  const kinds = [
    ['with memory that reads share', socketOn],
    ['with memory of their own', plainSocketOn],
  ] as const;
  for (const [kind, socketFrom] of kinds) {
    it(`serves HTTP/1.1, HTTP/2, calls and frames to their ends, on sockets ${kind}`, async () => {
      const { port, decided } = await serve((handle, begin) => begin(socketFrom(handle)), true);

      const request = httpRequest({ port, host: '127.0.0.1', method: 'POST', agent: false });
      request.end(body);
      const [response] = await once(request, 'response');
      expect((await buffer(response)).equals(body)).to.equal(true);

      const session = connectHttp2(`http://127.0.0.1:${port}`);
      const streams = [1, 2, 3].map(() => session.request({ ':method': 'POST' }).end(body));
      for (const stream of streams) expect((await buffer(stream)).equals(body)).to.equal(true);
      session.close();

      const payload = Buffer.concat([Buffer.of(0, 0, 0, 3), Buffer.from('abc')]);
      expect((await sendSlowly(port, payload)).equals(payload)).to.equal(true);
      expect((await sendSlowly(port, Buffer.concat([callsPreface, payload]))).equals(payload)).to.equal(true);
      expect(decided).to.deep.equal(['http1', 'http2', 'frames', 'calls']);
    });

    it(`reads a request that comes byte by byte, on sockets ${kind}`, async () => {
      const { port, decided } = await serve((handle, begin) => begin(socketFrom(handle)));
      const sent = 'POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello';
      expect((await sendSlowly(port, Buffer.from(sent))).toString()).to.match(/^HTTP\/1.1 200 OK.*hello/s);
      expect(decided).to.deep.equal(['http1']);
    });
  }

  it('closes a client that speaks none of them, and counts it', async () => {
    const { port, decided, recorder } = await serve((handle, begin) => begin(socketOn(handle)));
    expect(await sendSlowly(port, Buffer.of(0x16, 3, 1, 2, 0))).to.have.length(0);
    expect(decided).to.deep.equal([]);
    expect(recorder.snapshot()).to.include({ closedByProtocol: 1 });
  });

  describe('with TLS', () => {
    const log = createLog({ level: 'silent', format: 'json' }, { role: 'worker', node: 'n' });
    let authority: Authority;
    let handshakes: TlsHandshakes;
    before(() => {
      authority = new Authority();
      const { certFile, keyFile } = authority.issue('localhost');
      handshakes = new TlsHandshakes({ certFile, keyFile, caFile: '', minVersion: 'TLSv1.2' }, 10_000, log);
      closings.push(() => handshakes.close());
    });

    const secured = (offer: 'http' | 'nothing', takesFrames = false) =>
      serve(
        (handle, begin) =>
          handshakes.begin(plainSocketOn(handle), offer, (socket) => {
            if (socket !== null) begin(socket);
          }),
        takesFrames,
      );
    const client = async (port: number, options: ConnectionOptions = {}): Promise<TLSSocket> => {
      const socket = connectTls({ port, host: '127.0.0.1', ca: authority.cert, servername: 'localhost', ...options });
      await once(socket, 'secureConnect');
      return socket;
    };

    it('lets clients choose between HTTP/2 and HTTP/1.1 in the handshake', async () => {
      const { port, decided } = await secured('http');
      const session = connectHttp2(`https://localhost:${port}`, { ca: authority.cert });
      expect((await buffer(session.request({ ':method': 'POST' }).end(body))).equals(body)).to.equal(true);
      session.close();
      const socket = await client(port, { ALPNProtocols: ['http/1.1'] });
      expect(socket.alpnProtocol).to.equal('http/1.1');
      socket.end('GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n');
      expect(await text(socket)).to.match(/^HTTP\/1.1 200/);
      expect(decided).to.deep.equal(['http2', 'http1']);
    });

    it('tells protocols apart as without, when a client names none', async () => {
      const { port, decided } = await secured('http', true);
      const one = await client(port);
      expect(one.alpnProtocol).to.equal(false);
      one.end('GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n');
      expect(await text(one)).to.match(/^HTTP\/1.1 200/);
      const other = await client(port);
      other.end(Buffer.of(0, 0, 0, 1, 7));
      expect(await buffer(other)).to.deep.equal(Buffer.of(0, 0, 0, 1, 7));
      expect(decided).to.deep.equal(['http1', 'frames']);
    });

    it('refuses a client that names none of these, and offers nothing where HTTP is not spoken', async () => {
      const { port } = await secured('http');
      const error = await client(port, { ALPNProtocols: ['mqtt'] }).then(
        () => null,
        (reason: NodeJS.ErrnoException) => reason,
      );
      expect(error?.code).to.equal('ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL');
      const { port: silent } = await secured('nothing', true);
      const socket = await client(silent, { ALPNProtocols: ['h2', 'http/1.1'] });
      expect(socket.alpnProtocol).to.equal(false);
      socket.destroy();
    });
  });
});
