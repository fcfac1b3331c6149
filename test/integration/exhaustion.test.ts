// Resources that run out: descriptors, room for logs.

import { closeSync, openSync } from 'node:fs';
import { expect } from 'chai';
import { endProcesses, freePort, root, TestProcess } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { cleanEnv, fetchMetrics, TestServer } from '../support/server.js';
import { until } from '../support/until.js';

const dummy = { MODEL: 'dummy', WORKERS: '1' };

describe('a worker without descriptors', () => {
  afterEach(endProcesses);

  it('refuses connections with a clear log, serves those it has, and recovers', async () => {
    const server = new TestServer({ env: { ...dummy, MAX_CONNECTIONS: '1000' }, maxOpenFiles: 96 });
    const port = await server.port();
    const clients = await Promise.all(Array.from({ length: 100 }, () => RawClient.connect(port)));
    const { level } = await server.event(
      'no descriptor left: connections are refused; raise the limit of open files (ulimit -n, LimitNOFILE), or lower server.maxConnections',
    );
    expect(level).to.equal('error');
    for (const client of clients) client.send(Buffer.from('x'));
    const served = await until('replies', () => {
      const answered = clients.filter(({ replies }) => replies.length === 1);
      return answered.length > 5 && answered;
    });
    const metrics = await server.metricsWhen('refusals', ({ connections_refused }) => connections_refused > 5);
    expect(metrics.connections).to.be.at.least(served.length);
    for (const client of clients) client.destroy();
    await until('the end of all', () => clients.every(({ socket }) => socket.destroyed));
    await server.metricsWhen('no connection', ({ connections }) => connections === 0);
    const late = await RawClient.connect(port);
    late.send(Buffer.from('x'));
    expect((await late.replied(1)).map(String)).to.deep.equal(['XXXXX']);
    expect(server.count('worker died')).to.equal(0);
    late.destroy();
  });
});

describe('a log that cannot be written', () => {
  afterEach(endProcesses);

  for (const [what, path, flags] of [
    ['a full disk', '/dev/full', 'w'],
    ['a file that is read-only', '/dev/null', 'r'],
  ] as const) {
    it(`(${what}) stops neither inference nor reloads`, async () => {
      const [port, httpPort] = [await freePort(), await freePort()];
      const descriptor = openSync(path, flags);
      const args = [`${root}bundle/cli.js`, 'start', '--port', String(port), '--http-port', String(httpPort)];
      const server = new TestProcess(process.execPath, args, {
        env: cleanEnv({ ...dummy, LOG_LEVEL: 'trace' }),
        stdio: ['ignore', descriptor, 'pipe'],
      });
      closeSync(descriptor);
      const url = `http://127.0.0.1:${httpPort}`;
      const client = await until('the port', () => RawClient.connect(port));
      client.send(Buffer.from('x'));
      await client.replied(1);
      await until('readiness', async () => (await fetch(`${url}/readyz`)).status === 200);
      server.signal('SIGUSR2');
      await until('the reload', async () => (await fetchMetrics(url)).nodes[0]?.reloads === 1);
      client.send(Buffer.from('x'));
      await client.replied(2);
      client.destroy();
      server.signal('SIGTERM');
      expect((await server.ended()).code).to.equal(0);
      expect(server.output).to.equal('');
    });
  }
});
