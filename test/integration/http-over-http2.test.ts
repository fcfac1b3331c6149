// HTTP over HTTP/2, beside gRPC on the same port and the same connection: it means the same as over HTTP/1.1.

import { once } from 'node:events';
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from 'node:http2';
import { buffer } from 'node:stream/consumers';
import { expect } from 'chai';
import { endHeaders, endStream, field, frame, frameTypes, Http2Client } from '../support/http2-client.js';
import { endProcesses } from '../support/processes.js';
import { TestServer } from '../support/server.js';
import { until } from '../support/until.js';

const sessions: ClientHttp2Session[] = [];

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

function open(port: number): ClientHttp2Session {
  const session = connect(`http://127.0.0.1:${port}`).on('error', () => {});
  sessions.push(session);
  return session;
}

async function ask(session: ClientHttp2Session, path: string, body?: Buffer | string, headers = {}): Promise<Answer> {
  const stream = session.request({ ':path': path, ':method': body === undefined ? 'GET' : 'POST', ...headers });
  let answered: IncomingHttpHeaders = {};
  stream.on('response', (all) => {
    answered = all;
  });
  stream.end(body);
  const text = (await buffer(stream)).toString();
  return { status: Number(answered[':status']), headers: answered, body: text };
}

const row = (first: number): string =>
  JSON.stringify({
    inputs: [
      {
        name: 'pixels',
        datatype: 'FP32',
        shape: [1, 64],
        data: Array.from({ length: 64 }, (_, i) => (i + first) % 17),
      },
    ],
  });
const infer = '/v2/models/digits/infer';

describe('HTTP over HTTP/2', () => {
  const startServer = (env: Readonly<Record<string, string>> = {}): TestServer =>
    new TestServer({ env: { PROTOCOL: 'open', WORKERS: '1', ...env } });
  afterEach(async () => {
    for (const session of sessions.splice(0)) session.destroy();
    await endProcesses();
  });

  it('is answered as over HTTP/1.1, whatever is asked at once, and counted as one connection', async () => {
    const server = startServer();
    const port = await server.port();
    const session = open(port);
    const rows = Array.from({ length: 40 }, (_, i) => row(i));
    const answers = await Promise.all(rows.map((one) => ask(session, infer, one)));
    for (const [i, { status, body }] of answers.entries()) {
      const plain = await fetch(`http://127.0.0.1:${port}${infer}`, { method: 'POST', body: rows[i] as string });
      expect(status).to.equal(200);
      expect(body).to.equal(await plain.text());
    }
    const wrong = await ask(session, infer, '{');
    expect(wrong.status).to.equal(400);
    expect(JSON.parse(wrong.body)).to.include({ reason: 'BAD_INPUT' });
    expect(await ask(session, '/v2/nowhere')).to.include({ status: 404 });
    session.close();
    const metrics = await server.metricsWhen('all of it', (all) => all.total_requests === 81 && all.in_flight === 0);
    expect(metrics.audit_imbalance).to.equal(0);
    const closed = 'mltcp_connections_closed_total{reason="client"}';
    await until('its end', async () => (await server.prometheus()).includes(`${closed} `));
    const text = await server.prometheus();
    const accepted = Number(/^mltcp_connections_accepted_total (\d+)$/m.exec(text)?.[1]);
    const ends = [...text.matchAll(/^mltcp_connections_closed_total\{.*\} (\d+)$/gm)].reduce(
      (sum, [, n]) => sum + Number(n),
      0,
    );
    expect(ends).to.be.at.most(accepted);
  });

  it('is answered when it announces trailers, expects to be told to go on, or asks for a tunnel', async () => {
    const server = startServer();
    const port = await server.port();
    const session = open(port);
    expect(await ask(session, '/v2', undefined, { trailer: 'checksum' })).to.include({ status: 200 });
    const announced = { trailer: 'checksum', 'content-length': Buffer.byteLength(row(1)) };
    expect(await ask(session, infer, row(1), announced)).to.include({ status: 200 });
    const stream = session.request({ ':path': infer, ':method': 'POST', expect: '100-continue' });
    await once(stream, 'continue');
    stream.end(row(1));
    const [headers] = await once(stream, 'response');
    expect(headers[':status']).to.equal(200);
    const client = await Http2Client.open(port);
    const connectTo = [field(':method', 'CONNECT'), field(':authority', 'elsewhere')];
    client.send(frame(frameTypes.headers, endHeaders | endStream, 1, Buffer.concat(connectTo)));
    await client.frame('the end of its answer', ({ stream: id, flags }) => id === 1 && (flags & endStream) !== 0);
    client.socket.destroy();
    const metrics = await server.metricsWhen('all of it', (all) => all.total_requests === 2);
    expect(metrics.audit_imbalance).to.equal(0);
  });

  it('takes no body for the next request', async () => {
    const server = startServer();
    const client = await Http2Client.open(await server.port());
    const fields = { ':method': 'GET', ':scheme': 'http', ':path': '/v2/health/live', ':authority': 'test' };
    const headers = Buffer.concat(Object.entries(fields).map(([name, value]) => field(name, value)));
    const hidden = Buffer.from('GET /v2/repository HTTP/1.1\r\nHost: test\r\n\r\n');
    for (let id = 1; id <= 9; id += 2) {
      client.send(frame(frameTypes.headers, endHeaders, id, headers), frame(frameTypes.data, endStream, id, hidden));
      await client.frame('an answer', ({ stream, flags }) => stream === id && (flags & endStream) !== 0);
      const [body] = client.of(id, frameTypes.data);
      expect(body?.payload.toString()).to.equal('{"live":true}');
    }
    client.socket.destroy();
    // What was hidden would be counted: as a request of a path that there is not.
    await server.metricsWhen('its end', (all) => all.connections === 0);
    expect(await server.prometheus()).to.match(/^mltcp_requests_unroutable_total\{reason="malformed"\} 0$/m);
  });

  it('is held to the limits of HTTP: bodies, the secret', async () => {
    const server = startServer({ MAX_PAYLOAD_SIZE_KB: '16', SHARED_SECRET: 'sesame' });
    const session = open(await server.port());
    const authorization = 'Bearer sesame';
    expect((await ask(session, infer, row(1))).status).to.equal(401);
    expect((await ask(session, infer, row(1), { authorization })).status).to.equal(200);
    expect((await ask(session, infer, ' '.repeat(100_000), { authorization })).status).to.equal(413);
    expect((await ask(session, '/v2/health/live')).status).to.equal(200);
  });

  it('is answered before the server goes, and told that it does', async () => {
    const server = startServer();
    const session = open(await server.port());
    await ask(session, infer, row(1));
    let isGoing = false;
    session.on('goaway', () => {
      isGoing = true;
    });
    server.signal('SIGTERM');
    await until('the goodbye', () => isGoing || session.closed);
    expect(await server.ended()).to.deep.equal({ code: 0, signal: null });
  });
});
