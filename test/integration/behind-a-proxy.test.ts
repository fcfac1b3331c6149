// The aggregator behind a real nginx: under a path, and two of them behind a round-robin balancer.

import { expect } from 'chai';
import { io, type ManagerOptions, type Socket, type SocketOptions } from 'socket.io-client';
import type { Metrics } from '#src/aggregator/metrics.js';
import { ask, startNode, TestAggregator } from '../support/cluster.js';
import { hasNginx, startNginx } from '../support/nginx.js';
import { endProcesses } from '../support/processes.js';
import { RedisServer } from '../support/redis-server.js';
import { TestServer } from '../support/server.js';
import { skip } from '../support/skip.js';
import { until } from '../support/until.js';
import { overWebSocket } from '../support/web-socket.js';

const upgrade =
  'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgraded;';
const connection = 'map $http_upgrade $upgraded { default upgrade; "" ""; }';
const sockets: Socket[] = [];

/** A Socket.IO client, what it has received, and what went wrong. */
function listen(url: string, options: Partial<ManagerOptions & SocketOptions> = {}) {
  const socket = io(url, { forceNew: true, ...options });
  sockets.push(socket);
  const received: Metrics[] = [];
  const troubles: string[] = [];
  socket.on('metrics', (metrics: Metrics) => received.push(metrics));
  socket.on('connect_error', (error) => troubles.push(error.message));
  socket.on('disconnect', (reason) => troubles.push(reason));
  return { socket, received, troubles, transport: () => socket.io.engine.transport.name };
}

describe('behind nginx', function () {
  this.timeout(40_000);
  before(function () {
    if (!hasNginx) skip(this, 'nginx is not installed (Debian: nginx-light)');
  });
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.disconnect();
    await endProcesses();
  });

  for (const [how, flags, pass] of [
    ['that nginx takes away', [], '/'],
    ['that nginx leaves there, with http.basePath', ['--set', 'http.basePath=ml/a'], ''],
  ] as const) {
    it(`under a path ${how}: everything is there, the token and its cookie included`, async () => {
      const server = new TestServer({ env: { MODEL: 'dummy', WORKERS: '1', HTTP_TOKEN: 'sesame' }, args: flags });
      const upstream = await server.url();
      const headers = `proxy_set_header Host $http_host; ${upgrade}`;
      const address = await startNginx({
        http: connection,
        server: `location /ml/a/ { proxy_pass ${upstream}${pass}; ${headers} }`,
      });
      const url = `http://${address}/ml/a/`;
      const bearer = { authorization: 'Bearer sesame' };
      for (const path of [
        'metrics',
        'api/history',
        'api/models',
        'api/rejections',
        'page.js',
        'page.css',
        'icon.svg',
        '?slash.js',
        '',
      ])
        expect((await fetch(url + path, { headers: bearer })).status, path).to.equal(200);
      const page = await fetch(url, { headers: { accept: 'text/html' } });
      expect(page.status).to.equal(401);
      expect(await page.text()).to.not.match(/(?:href|src|action)="\//);
      const login = await fetch(`${url}login`, {
        method: 'POST',
        body: new URLSearchParams({ token: 'sesame' }),
        redirect: 'manual',
      });
      expect(login.status).to.equal(303);
      expect(new URL(login.headers.get('location') ?? '', `${url}login`).href).to.equal(url);
      const cookie = login.headers.get('set-cookie') ?? '';
      expect(cookie, 'of the path that was asked for').to.not.include('Path=');
      const shown = { cookie: `mltcp_token=${'0'.repeat(64)}; ${cookie.split(';')[0]}`, origin: `http://${address}` };
      expect(await overWebSocket(`${url}metrics`, shown)).to.have.property('total_requests');
      const path = '/ml/a/socket.io';
      const clients = [
        listen(`http://${address}`, { path, extraHeaders: shown, transports: ['websocket'] }),
        listen(`http://${address}`, { path, auth: { token: 'sesame' } }),
      ];
      await until('updates', () => clients.every(({ received }) => received.length > 2));
      expect(clients.map(({ troubles }) => troubles)).to.deep.equal([[], []]);
    });
  }

  it('believes what a proxy says of its clients when that proxy is trusted, and nobody else', async () => {
    const limit = ['--set', 'http.maxRequestsPerSecond=20'];
    const [trusting, other] = [
      new TestServer({
        env: { MODEL: 'dummy', WORKERS: '1', HTTP_TOKEN: 't' },
        args: [...limit, '--set', 'http.trustedProxies=127.0.0.0/8'],
      }),
      new TestServer({ env: { MODEL: 'dummy', WORKERS: '1', HTTP_TOKEN: 't' }, args: limit }),
    ];
    const forward =
      'proxy_set_header X-Forwarded-For $http_x_test_client; proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Proto https;';
    const [near, far] = await Promise.all(
      [trusting, other].map(async (server) =>
        startNginx({
          http: connection,
          server: `location / { proxy_pass ${await server.url()}; ${upgrade} ${forward} }`,
        }),
      ),
    );
    const refusedOf = async (address: string | undefined, clientOf: (i: number) => string): Promise<number> => {
      const statuses = await Promise.all(
        Array.from({ length: 60 }, async (_, i) => {
          const headers = { 'x-test-client': clientOf(i), authorization: 'Bearer t' };
          return (await fetch(`http://${address}/metrics`, { headers })).status;
        }),
      );
      return statuses.filter((status) => status === 429).length;
    };
    const manyClients = (i: number): string => `10.0.0.${i}`;
    expect(await refusedOf(near, manyClients)).to.equal(0);
    // What a client has written into the header comes before what the proxy adds.
    expect(await refusedOf(near, (i) => `10.1.0.${i}, 10.9.9.9`)).to.be.at.least(20);
    expect(await refusedOf(far, manyClients)).to.be.at.least(20);
    const login = { method: 'POST', body: new URLSearchParams({ token: 't' }), redirect: 'manual' } as const;
    const again = await until('the next second', async () => {
      const response = await fetch(`http://${far}/login`, login);
      return response.status === 303 ? response : null;
    });
    expect(again.headers.get('set-cookie')).to.not.include('Secure');
    expect((await fetch(`http://${near}/login`, login)).headers.get('set-cookie')).to.include('; Secure');
    // nginx sends its upstream as Host here; the page's own host is in X-Forwarded-Host.
    const shown = { authorization: 'Bearer t', 'x-test-client': '10.7.7.7' };
    expect(await overWebSocket(`http://${near}/metrics`, { ...shown, origin: `http://${near}` })).to.be.an('object');
    expect(await overWebSocket(`http://${near}/metrics`, { ...shown, origin: 'http://evil.example' })).to.equal(403);
    expect(await overWebSocket(`http://${far}/metrics`, { ...shown, origin: `http://${far}` })).to.equal(403);
  });

  describe('two aggregators, in turns', () => {
    async function balanced(env: Readonly<Record<string, string>> = {}) {
      const redis = await RedisServer.start();
      const node = startNode({ REDIS_URL: redis.url });
      await ask(node, 10);
      const both = [
        await TestAggregator.start({ REDIS_URL: redis.url, ...env }),
        await TestAggregator.start({ REDIS_URL: redis.url, ...env }),
      ];
      const servers = both.map(({ url }) => `server ${new URL(url).host} max_fails=0;`);
      const address = await startNginx({
        http: `${connection} upstream aggregators { ${servers.join(' ')} }`,
        server: `location / { proxy_pass http://aggregators; proxy_set_header Host $http_host; ${upgrade} }`,
      });
      return { url: `http://${address}`, aggregators: both, redis };
    }

    it('serve a Socket.IO client as it comes, one that only polls, and WebSockets: each update once, no error', async () => {
      const { url } = await balanced();
      const asItComes = listen(url);
      const polling = listen(url, { transports: ['polling'] });
      const webSocket = listen(url, { transports: ['websocket'] });
      const all = [asItComes, polling, webSocket];
      await until('updates for all', () => all.every(({ received }) => received.length >= 12));
      expect(await overWebSocket(`${url}/metrics`)).to.have.property('total_requests', 10);
      for (const { received, troubles } of all) {
        expect(troubles).to.deep.equal([]);
        const uptimes = received.map(({ uptime }) => uptime);
        expect(uptimes, 'none is older than the one before').to.deep.equal(uptimes.toSorted((a, b) => a - b));
        expect(received.at(-1)?.total_requests).to.equal(10);
      }
      expect(all.map(({ transport }) => transport())).to.deep.equal(['websocket', 'polling', 'websocket']);
    });

    it('ask a polling client for the token wherever it comes, and let nobody else in', async () => {
      const { url } = await balanced({ HTTP_TOKEN: 'sesame' });
      for (const transports of [['polling'], ['polling', 'websocket']]) {
        const known = listen(url, { transports, auth: { token: 'sesame' } });
        const byHeader = listen(url, { transports, extraHeaders: { authorization: 'Bearer sesame' } });
        const unknown = listen(url, { transports, auth: { token: 'wrong' } });
        const elsewhere = listen(`${url}/other`, { transports, auth: { token: 'sesame' } });
        await until('updates', () => known.received.length > 3 && byHeader.received.length > 3);
        await until('refusals', () => unknown.troubles.length > 0 && elsewhere.troubles.length > 0);
        expect(unknown.troubles[0]).to.include('http.token');
        expect(elsewhere.troubles[0]).to.include('Invalid namespace');
        expect([known.troubles, byHeader.troubles, unknown.received]).to.deep.equal([[], [], []]);
      }
    });

    it('keep a polling client, also when one of them is killed; without Redis it comes back when Redis does', async () => {
      const { url, aggregators, redis } = await balanced();
      const { received, troubles, socket } = listen(url, { transports: ['polling'], reconnectionDelayMax: 500 });
      await until('updates', () => received.length > 3);
      aggregators[0]?.signal('SIGKILL');
      await aggregators[0]?.ended();
      const before = received.length;
      await until('more updates', () => received.length > before + 4);
      redis.signal('SIGKILL');
      await redis.ended();
      await until('the end of the session', () => !socket.connected);
      await RedisServer.start(redis.port);
      await until('a new session', () => socket.connected);
      const then = received.length;
      await until('updates again', () => received.length > then + 3);
      expect(troubles.length).to.be.above(0);
    });
  });
});
