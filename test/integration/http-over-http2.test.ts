// HTTP over HTTP/2, beside gRPC on the same port and the same connection: it means the same as over HTTP/1.1.

import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from 'node:http2';
import { buffer } from 'node:stream/consumers';
import { expect } from 'chai';
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
