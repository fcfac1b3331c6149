// The aggregator's HTTP, WebSocket and Socket.IO, against clients that may not read, and clients that get in the way.

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { request as httpsRequest } from 'node:https';
import { connect, type Socket } from 'node:net';
import { expect } from 'chai';
import fc from 'fast-check';
import { io } from 'socket.io-client';
import WebSocket from 'ws';
import type { Metrics } from '#src/aggregator/metrics.js';
import { Authority } from '../support/certificates.js';
import { TestAggregator } from '../support/cluster.js';
import { endProcesses, root, TestProcess } from '../support/processes.js';
import { RedisServer } from '../support/redis-server.js';
import { cleanEnv, TestServer } from '../support/server.js';
import { until, within } from '../support/until.js';
import { overWebSocket } from '../support/web-socket.js';

const dummy = { MODEL: 'dummy', WORKERS: '1' };
const bearer = { authorization: 'Bearer correct-horse' };
const guarded = { ...dummy, HTTP_TOKEN: 'correct-horse' };

interface SocketIoOptions {
  readonly auth?: { readonly token: string };
  readonly extraHeaders?: Readonly<Record<string, string>>;
  readonly transports?: readonly ('polling' | 'websocket')[];
}

/** The first update over Socket.IO, or why there is none. */
async function overSocketIo(url: string, { transports = ['polling', 'websocket'], ...options }: SocketIoOptions = {}) {
  const socket = io(url, { ...options, transports: [...transports], reconnection: false, forceNew: true });
  try {
    return await new Promise<Metrics | string>((resolve) => {
      socket.once('metrics', resolve);
      socket.once('connect_error', ({ message }) => resolve(message));
    });
  } finally {
    socket.disconnect();
  }
}

const rawTo = (url: string): Socket => connect(Number(new URL(url).port), '127.0.0.1').on('error', () => {});

describe('a token', () => {
  let server: TestServer;
  let url: string;
  before(async () => {
    server = new TestServer({ env: guarded });
    url = await server.url();
  });
  after(endProcesses);

  it('is asked for on every way to the metrics, and a wrong one is none', async () => {
    for (const headers of [{}, { authorization: 'Bearer wrong' }, { authorization: 'Basic correct-horse' }]) {
      for (const path of ['/metrics', '/api/history', '/api/models', '/api/rejections', '/page.js', '/', '/nowhere']) {
        const response = await fetch(`${url}${path}`, { headers });
        expect(response.status, path).to.equal(401);
        expect(response.headers.get('www-authenticate')).to.equal('Bearer');
      }
      expect(await overWebSocket(`${url}/metrics`, headers)).to.equal(401);
      expect(await overSocketIo(url, { extraHeaders: headers })).to.include('http.token');
    }
    expect(await overSocketIo(url, { auth: { token: 'wrong' }, transports: ['websocket'] })).to.include('http.token');
  });

  it('opens all of them, as Prometheus sends it', async () => {
    await until('what Prometheus reads', async () =>
      (await server.prometheus()).includes('# TYPE mltcp_workers gauge'),
    );
    for (const path of ['/api/history', '/api/models', '/api/rejections'])
      expect((await fetch(url + path, { headers: bearer })).status).to.equal(200);
    expect((await fetch(`${url}/`, { headers: bearer })).status).to.equal(200);
    expect(await overWebSocket(`${url}/metrics`, bearer)).to.have.property('total_requests');
    expect(await overSocketIo(url, { extraHeaders: bearer })).to.have.property('total_requests');
    expect(await overSocketIo(url, { auth: { token: 'correct-horse' } })).to.have.property('total_requests');
  });

  it('is not asked of probes', async () => {
    expect((await fetch(`${url}/healthz`)).status).to.equal(200);
    await until('readiness', async () => (await fetch(`${url}/readyz`)).status === 200);
  });

  it('is typed in at the page, which then has a cookie that no script and no other site can use', async () => {
    const html = { accept: 'text/html,*/*;q=0.8' };
    const first = await fetch(url, { headers: html });
    expect(first.status).to.equal(401);
    expect(await first.text()).to.include('<form method="post" action="login">');
    const login = (typed: string): Promise<Response> =>
      fetch(`${url}/login`, { method: 'POST', body: new URLSearchParams({ token: typed }), redirect: 'manual' });
    const wrong = await login('wrong');
    expect([wrong.status, wrong.headers.get('set-cookie')]).to.deep.equal([303, null]);
    const cookie = (await login('correct-horse')).headers.get('set-cookie') ?? '';
    expect(cookie).to.match(/^mltcp_token=[0-9a-f]{64}; HttpOnly; SameSite=Strict$/);
    const headers = { ...html, cookie: cookie.split(';')[0] as string };
    expect(await (await fetch(url, { headers })).text()).to.include('page.js');
    expect(await overWebSocket(`${url}/metrics`, headers)).to.have.property('total_requests');
    expect(await overSocketIo(url, { extraHeaders: headers })).to.have.property('total_requests');
  });

  it('is what top and the simulation show', async () => {
    const run = async (env: Readonly<Record<string, string>>): Promise<number | null> => {
      const args = ['top', '--once', '--json', '--metrics', url];
      return (
        await new TestProcess(process.execPath, [`${root}bundle/cli.js`, ...args], { env: cleanEnv(env) }).ended()
      ).code;
    };
    expect(await run({ HTTP_TOKEN: 'correct-horse' })).to.equal(0);
    expect(await run({})).to.equal(6);
  });
});

describe('HTTP', () => {
  afterEach(endProcesses);

  it('has the headers that make browsers careful, and none that open it to other pages', async () => {
    const server = new TestServer({ env: dummy });
    const url = await server.url();
    for (const path of ['/', '/metrics', '/healthz', '/nowhere', '/socket.io/?EIO=4&transport=polling']) {
      const { headers } = await fetch(`${url}${path}`, { headers: { origin: url } });
      expect(headers.get('content-security-policy'), path).to.include("default-src 'none'");
      expect(headers.get('x-content-type-options'), path).to.equal('nosniff');
      expect(headers.get('x-frame-options'), path).to.equal('SAMEORIGIN');
      expect(headers.get('access-control-allow-origin'), path).to.equal(null);
      expect(headers.get('x-powered-by'), path).to.equal(null);
    }
  });

  it('is open to pages of other origins only when they are named', async () => {
    const friend = 'https://ops.example.com';
    const foe = { origin: 'https://evil.example.com' };
    const server = new TestServer({ env: dummy, args: ['--set', `http.corsOrigins=${friend}`] });
    const url = await server.url();
    const allowed = await fetch(`${url}/metrics`, { headers: { origin: friend } });
    expect(allowed.headers.get('access-control-allow-origin')).to.equal(friend);
    expect(await overWebSocket(`${url}/metrics`, { origin: friend })).to.have.property('total_requests');
    const other = await fetch(`${url}/metrics`, { headers: foe });
    expect(other.headers.get('access-control-allow-origin')).to.equal(null);
    expect(await overWebSocket(`${url}/metrics`, foe)).to.equal(403);
    expect(await overSocketIo(url, { extraHeaders: foe })).to.be.a('string');
    expect(await overSocketIo(url, { extraHeaders: foe, transports: ['websocket'] })).to.be.a('string');
  });

  it('refuses what is too large, too long or too often, and serves on', async () => {
    const server = new TestServer({ env: dummy, args: ['--set', 'http.maxRequestsPerSecond=20'] });
    const url = await server.url();
    const body = 'x'.repeat(5000);
    expect((await fetch(`${url}/login`, { method: 'POST', body })).status).to.equal(413);
    expect((await fetch(`${url}/metrics`, { headers: { 'x-long': 'x'.repeat(20_000) } })).status).to.equal(431);
    const statuses = await Promise.all(Array.from({ length: 60 }, async () => (await fetch(`${url}/metrics`)).status));
    const refused = statuses.filter((status) => status === 429).length;
    expect(refused).to.be.at.least(20);
    const late = await until('a later second', async () => {
      const response = await fetch(`${url}/metrics`);
      return response.status === 200 && response;
    });
    expect(late.status).to.equal(200);
    const text = await until('the counters', async () => {
      const shown = await server.prometheus();
      return shown.startsWith('# HELP') && shown;
    });
    expect(text).to.include('mltcp_http_refusals_total{reason="size"} 2\n');
    expect(Number(/_refusals_total\{reason="rate"\} (\d+)/.exec(text)?.[1])).to.be.at.least(refused);
  });

  it('cuts who sends slowly, or nothing, and who is one too many', async () => {
    const args = ['--set', 'http.requestTimeoutSeconds=0.5', '--set', 'http.maxConnections=20'];
    const server = new TestServer({ env: dummy, args });
    const url = await server.url();
    const slow = rawTo(url);
    slow.write('GET /metrics HTTP/1.1\r\nhost: x\r\n');
    const drip = setInterval(() => slow.write('x-a: b\r\n'), 50);
    const ends = [slow, rawTo(url)].map((socket) => once(socket.resume(), 'close'));
    try {
      await within(10_000, 'the end of a slow sender and of a silent one', Promise.all(ends));
    } finally {
      clearInterval(drip);
    }
    const many = Array.from({ length: 40 }, () => rawTo(url).resume());
    let closed = 0;
    for (const socket of many) socket.once('close', () => closed++);
    await until('all to be closed', () => closed === 40);
    const text = await server.prometheus();
    expect(text).to.match(/_refusals_total\{reason="connections"\} (2\d|3\d|40)\n/);
    expect(text).to.match(/_refusals_total\{reason="timeout"\} [1-9]/);
    expect((await fetch(`${url}/healthz`)).status).to.equal(200);
  });

  it('has so many live clients and no more, and gives their places back', async () => {
    const server = new TestServer({ env: dummy, args: ['--set', 'http.maxLiveClients=3'] });
    const url = await server.url();
    const clients = Array.from({ length: 3 }, () => new WebSocket(`${url.replace(/^http/, 'ws')}/metrics`));
    await Promise.all(clients.map((client) => once(client, 'message')));
    expect(await overWebSocket(`${url}/metrics`)).to.equal(503);
    expect(await overSocketIo(url)).to.be.a('string');
    clients[0]?.terminate();
    await until('a place', async () => (await overWebSocket(`${url}/metrics`)) !== 503);
    for (const client of clients) client.terminate();
  });

  it('drops a WebSocket that does not answer, and one that does not read, instead of buffering for it', async () => {
    const flags = ['http.pingIntervalSeconds=0.3', 'metrics.streamIntervalMs=10', 'http.requestTimeoutSeconds=60'];
    const server = new TestServer({ env: dummy, args: flags.flatMap((flag) => ['--set', flag]) });
    const url = await server.url();
    const upgrade =
      'GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n';
    const mute = rawTo(url);
    mute.write(upgrade);
    mute.resume(); // reads, and answers no ping
    await within(10_000, 'the end of a client that answers no ping', once(mute, 'close'));
    const lively = new WebSocket(`${url.replace(/^http/, 'ws')}/metrics`);
    let updates = 0;
    lively.on('message', () => updates++);
    const deaf = rawTo(url);
    deaf.write(upgrade);
    deaf.pause();
    await until('some hundred updates', () => updates > 200);
    expect(lively.readyState).to.equal(WebSocket.OPEN);
    lively.terminate();
    deaf.resume();
    await within(10_000, 'the end of a client that did not read', once(deaf, 'close'));
  });

  it('answers random bytes with an error or the end, and serves on', async function () {
    this.timeout(60_000);
    const server = new TestServer({ env: dummy, args: ['--set', 'http.requestTimeoutSeconds=0.5'] });
    const url = await server.url();
    const words = ['GET / HTTP/1.1\r\n', 'POST /login HTTP/1.1\r\n', 'host: x\r\n', '\r\n', 'content-length: 3\r\n'];
    const more = [
      'upgrade: websocket\r\nconnection: upgrade\r\n',
      'GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n',
    ];
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
      fc.constantFrom(...words, ...more).map((text) => Buffer.from(text)),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 8 }), async (pieces) => {
        const socket = rawTo(url).resume();
        const closed = once(socket, 'close');
        socket.end(Buffer.concat(pieces));
        await within(10_000, 'the end of a connection with garbage', closed);
      }),
      { numRuns: 100 },
    );
    expect((await fetch(`${url}/healthz`)).status).to.equal(200);
    expect(server.count('aggregator died; inference goes on')).to.equal(0);
  });

  it('survives an upgrade to what is no address', async () => {
    const server = new TestServer({ env: dummy });
    const url = await server.url();
    const upgrade = 'HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n';
    const refused = ['//', 'http://', '/metrics?%', '*', '/%'].map((target) => {
      const socket = rawTo(url).resume();
      const closed = once(socket, 'close');
      socket.write(`GET ${target} ${upgrade}`);
      return within(10_000, `the end of an upgrade to ${target}`, closed);
    });
    await Promise.all(refused);
    expect((await fetch(`${url}/healthz`)).status).to.equal(200);
    expect(server.output).to.not.match(/fatal|aggregator died/);
  });

  it('with TLS serves who trusts its certificate, and not what is sent plainly', async () => {
    const authority = new Authority();
    const { certFile, keyFile } = authority.issue('aggregator');
    const env = { ...guarded, HTTP_TLS_CERT_FILE: certFile, HTTP_TLS_KEY_FILE: keyFile };
    const server = new TestServer({ env });
    const url = await server.url();
    expect(url).to.match(/^https:/);
    const get = (ca: Buffer): Promise<string> =>
      new Promise((resolve, reject) => {
        const request = httpsRequest(`${url}/metrics`, { ca, headers: bearer }, (response) => {
          response.setEncoding('utf8').once('data', resolve);
          expect(response.headers['strict-transport-security']).to.be.a('string');
        });
        request.once('error', reject).end();
      });
    expect(JSON.parse(await get(authority.cert))).to.have.property('total_requests');
    const refused = await get(new Authority('another').cert).catch((error: Error) => error.message);
    expect(refused).to.match(/certificate/);
    const plain = rawTo(url).resume();
    plain.write('GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n');
    await within(10_000, 'the end of a plain client', once(plain, 'close'));
  });

  it('warns when it is open to the network without a token, and says what to set', async () => {
    const open = new TestServer({ env: { ...dummy, HTTP_HOST: '0.0.0.0' } });
    const warning = await open.event(
      'who can reach http.host can see all metrics: set http.token (HTTP_TOKEN), or http.host to 127.0.0.1',
    );
    expect(warning).to.include({ level: 'warn', host: '0.0.0.0' });
    const closed = new TestServer({ env: { ...guarded, HTTP_HOST: '0.0.0.0' } });
    await closed.event('ready');
    expect(closed.output).to.not.include('http.token');
  });
});

describe('secrets', () => {
  afterEach(endProcesses);

  it('are in no log, error, metric, page, config output or process title', async () => {
    const secrets = ['tcp-s3cret', 'http-t0ken', 'redis-passw0rd', 'sentinel-passw0rd'];
    const [tcp, http, redis, sentinel] = secrets as [string, string, string, string];
    const env = {
      ...dummy,
      LOG_LEVEL: 'trace',
      SHARED_SECRET: tcp,
      HTTP_TOKEN: http,
      REDIS_URL: `redis://user:${redis}@127.0.0.1:1`,
      REDIS_SENTINEL_PASSWORD: sentinel,
    };
    const shown: string[] = [];
    for (const flags of [[], ['--json']]) {
      const config = new TestProcess(process.execPath, [`${root}bundle/cli.js`, 'config', ...flags], {
        env: cleanEnv(env),
      });
      await config.ended();
      expect(config.output).to.include('***');
      shown.push(config.output);
    }
    const broken = new TestServer({
      env: { ...env, SHARED_SECRET: tcp.repeat(100), REDIS_URL: `http://x:${redis}@y` },
    });
    expect((await broken.ended()).code).to.equal(2);
    shown.push(broken.output);
    const { REDIS_URL: _, ...embedded } = env;
    for (const server of [new TestServer({ env }), new TestServer({ env: embedded })]) {
      await server.event('ready');
      const status = await server.operate('status', '--json');
      shown.push(status.output);
      shown.push(execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' }));
      server.signal('SIGTERM');
      await server.ended();
      shown.push(server.output);
    }
    const server = new TestServer({ env: embedded });
    const url = await server.url();
    const headers = { authorization: `Bearer ${http}` };
    for (const path of ['/', '/metrics', '/api/history', '/api/models', '/api/rejections', '/nowhere']) {
      const response = await fetch(`${url}${path}`, { headers });
      shown.push(await response.text(), JSON.stringify([...response.headers]));
    }
    for (const text of shown) for (const secret of secrets) expect(text).to.not.include(secret);
  });
});

describe('Socket.IO clients that poll, and may not look', () => {
  const aggregators: Readonly<Record<string, (flags: readonly string[]) => Promise<string>>> = {
    'an aggregator that is alone': (flags) => new TestServer({ env: guarded, args: toArgs(flags) }).url(),
    'one beside Redis': async (flags) => {
      const { url: REDIS_URL } = await RedisServer.start();
      const aggregator = await TestAggregator.start({ REDIS_URL, HTTP_TOKEN: 'correct-horse' }, 0, toArgs(flags));
      return aggregator.url;
    },
  };
  const toArgs = (flags: readonly string[]): readonly string[] => flags.flatMap((flag) => ['--set', flag]);
  const polling = (url: string): string => `${url}/socket.io/?EIO=4&transport=polling`;
  afterEach(endProcesses);

  async function open(url: string): Promise<string> {
    const text = await (await fetch(polling(url))).text();
    return `${polling(url)}&sid=${(JSON.parse(text.slice(1)) as { sid: string }).sid}`;
  }
  const post = async (session: string, ...packets: string[]): Promise<number> =>
    (await fetch(session, { method: 'POST', body: packets.join('\x1e') })).status;
  const guess = (i: number | string): string => `40{"token":"${i}"}`;

  for (const [where, start] of Object.entries(aggregators)) {
    it(`have one guess at the token in a session, with ${where}`, async () => {
      const url = await start([]);
      const session = await open(url);
      expect(await post(session, guess('wrong'))).to.equal(200);
      const told = await within(5000, 'the refusal', (async () => (await fetch(session)).text())());
      expect(told).to.include('http.token').and.to.not.include('"sid"');
      await post(session, guess('correct-horse'));
      expect(await (await fetch(session)).text()).to.not.include('"sid"');
      await until('the end of the session', async () => (await post(session, guess('correct-horse'))) === 400);

      const other = await open(url);
      await post(other, guess('wrong'), guess('correct-horse'));
      expect(await (await fetch(other)).text()).to.not.include('"sid"');
    });

    it(`are refused what they say too often, with ${where}`, async () => {
      const url = await start(['http.maxRequestsPerSecond=20']);
      const session = await open(url);
      const statuses = await Promise.all(Array.from({ length: 60 }, (_, i) => post(session, guess(i))));
      expect(statuses.filter((status) => status === 429).length).to.be.at.least(20);
    });

    it(`keep nobody out, however many sessions they open, with ${where}`, async () => {
      const url = await start(['http.maxLiveClients=3']);
      for (let i = 0; i < 10; i++) await open(url);
      for (const transports of [['polling'], ['websocket']] as const) {
        const token = 'correct-horse';
        expect(await overSocketIo(url, { transports, auth: { token } })).to.have.property('total_requests');
      }
      expect(await overWebSocket(`${url}/metrics`, bearer)).to.have.property('total_requests');
    });

    it(`have one guess over a WebSocket, and leave it then, with ${where}`, async () => {
      const url = await start([]);
      const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/socket.io/?EIO=4&transport=websocket`);
      const heard: string[] = [];
      socket.on('message', (data) => heard.push(String(data)));
      await once(socket, 'open');
      for (const token of ['a', 'b', 'correct-horse']) socket.send(guess(token));
      await within(4000, 'the end of the connection', once(socket, 'close'));
      expect(heard.filter((text) => text.startsWith('40'))).to.deep.equal([]);
      expect(heard.some((text) => text.startsWith('44') && text.includes('http.token'))).to.equal(true);
    });
  }

  it('say at most eight things at once beside Redis', async () => {
    const url = await aggregators['one beside Redis']?.([]);
    const session = await open(url as string);
    expect(await post(session, ...Array.from({ length: 9 }, () => '3'))).to.equal(400);
    expect(await post(session, ...Array.from({ length: 8 }, () => '3'))).to.equal(200);
  });

  it('let clients in up to http.maxLiveClients, who opened sessions before it was reached included', async () => {
    const url = await aggregators['one beside Redis']?.(['http.maxLiveClients=2']);
    const sessions = await Promise.all([1, 2, 3].map(() => open(url as string)));
    for (const session of sessions) expect(await post(session, guess('correct-horse'))).to.equal(200);
    const told = await Promise.all(sessions.map(async (session) => (await fetch(session)).text()));
    expect(told.map((text) => text.includes('http.maxLiveClients'))).to.deep.equal([false, false, true]);
  });
});
