// The real PM2, in its own home, with the ecosystem file as it is shipped.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { CheckedClient, faultOf } from '../support/checked-client.js';
import { endProcesses, freePort, isRunning, root, TestProcess } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { RedisServer } from '../support/redis-server.js';
import { cleanEnv, metricsWhen } from '../support/server.js';
import { until } from '../support/until.js';

interface App {
  readonly name: string;
  readonly pid: number;
  readonly pm2_env: { readonly status: string; readonly restart_time: number };
}

describe('under PM2', function () {
  this.timeout(90_000);
  let home: string;
  let env: NodeJS.ProcessEnv;
  let port: number;
  let httpPort: number;

  async function pm2(...args: readonly string[]): Promise<string> {
    const command = new TestProcess(process.execPath, ['node_modules/pm2/bin/pm2', ...args], { cwd: root, env });
    const { code } = await command.ended(60_000);
    expect(code, command.output).to.equal(0);
    return command.output;
  }
  const apps = async (): Promise<readonly App[]> =>
    JSON.parse((await pm2('jlist', '--silent')).split('\n').at(-1) ?? '[]') as App[];

  beforeEach(async () => {
    home = mkdtempSync(join(tmpdir(), 'mltcp-pm2-'));
    writeFileSync(
      join(home, 'slow.mjs'),
      'export default () => ({ infer: (payloads) => new Promise((resolve) => setTimeout(resolve, 1000, payloads)) });\n',
    );
    writeFileSync(
      join(home, 'config.json'),
      JSON.stringify({
        models: [{ name: 'slow', backend: 'module', path: join(home, 'slow.mjs') }],
        server: { model: 'slow' },
      }),
    );
    const redis = await RedisServer.start();
    [port, httpPort] = [await freePort(), await freePort()];
    env = cleanEnv({
      PM2_HOME: join(home, 'pm2'),
      REDIS_URL: redis.url,
      PORT: String(port),
      HTTP_PORT: String(httpPort),
      CONFIG_FILE: join(home, 'config.json'),
      WORKERS: '2',
    });
  });
  afterEach(async () => {
    await pm2('kill');
    await endProcesses();
    rmSync(home, { recursive: true, force: true });
  });

  it('starts both apps, online only when ready; stop answers what is in flight; a killed primary comes back', async () => {
    await pm2('start', 'ecosystem.config.cjs');
    // The command has returned: everything must serve by now.
    const client = await RawClient.connect(port);
    const online = await apps();
    expect(online.map(({ name, pm2_env }) => `${name} ${pm2_env.status}`)).to.have.members([
      'ml-tcp-server online',
      'ml-tcp-aggregator online',
    ]);
    const url = `http://127.0.0.1:${httpPort}`;
    client.send(Buffer.from('first'));
    expect(String((await client.replied(1))[0])).to.equal('first');
    const { workers } = await metricsWhen(url, 'the first request', ({ total_requests }) => total_requests === 1);
    expect(workers).to.have.lengthOf(2);

    const server = online.find(({ name }) => name === 'ml-tcp-server') as App;
    client.send(Buffer.from('second'));
    await metricsWhen(url, 'the second request in flight', ({ in_flight }) => in_flight === 1);
    const stopping = pm2('stop', 'ml-tcp-server');
    expect(String((await client.replied(2))[1])).to.equal('second');
    await client.serverEnded();
    client.end();
    await stopping;
    expect([server.pid, ...workers.map(({ pid }) => pid)].filter(isRunning)).to.deep.equal([]);
    await metricsWhen(
      url,
      'the totals of a stopped node',
      ({ total_requests, nodes }) => total_requests === 2 && nodes[0]?.state === 'stopped',
    );

    await pm2('start', 'ml-tcp-server');
    const again = (await apps()).find(({ name }) => name === 'ml-tcp-server') as App;
    process.kill(again.pid, 'SIGKILL');
    await until('PM2 to bring it back', async () => {
      const app = (await apps()).find(({ name }) => name === 'ml-tcp-server');
      return app?.pm2_env.status === 'online' && app.pid !== again.pid;
    });
    const last = await until('a connection', () => RawClient.connect(port));
    last.send(Buffer.from('third'));
    expect(String((await last.replied(1))[0])).to.equal('third');
    last.destroy();
  });

  it('reloads by signal under load and loses nothing; restart and startOrReload bring it back', async () => {
    const echo = [{ name: 'echo', backend: 'module', path: `${root}test/support/models/echo.mjs` }];
    writeFileSync(join(home, 'config.json'), JSON.stringify({ models: echo, server: { model: 'echo' } }));
    await pm2('start', 'ecosystem.config.cjs');
    const [before] = (await apps()).filter(({ name }) => name === 'ml-tcp-server');
    const clients = Array.from(
      { length: 20 },
      (_, i) => new CheckedClient(i, port, { depth: 4, isReconnecting: true }),
    );
    try {
      for (const reloads of [1, 2]) {
        await pm2('sendSignal', 'SIGUSR2', 'ml-tcp-server');
        const log = join(home, 'pm2/logs/ml-tcp-server-out.log');
        const done = /"msg":"reloaded"/g;
        await until('a reload', () => (readFileSync(log, 'utf8').match(done) ?? []).length === reloads);
      }
      expect(clients.map(({ closes }) => closes)).to.deep.equal(clients.map(() => 0));
      const [after] = (await apps()).filter(({ name }) => name === 'ml-tcp-server');
      expect(after).to.deep.include({ pid: before?.pid });
      for (const command of [
        ['restart', 'ml-tcp-server'],
        ['startOrReload', 'ecosystem.config.cjs'],
      ]) {
        const replied = clients.map((client) => client.replied);
        await pm2(...command);
        await until(`replies after ${command}`, () =>
          clients.every((client, i) => client.replied > (replied[i] ?? 0) + 10),
        );
      }
      await Promise.all(clients.map((client) => client.finish()));
      expect(faultOf(clients)).to.equal(null);
      const requests = clients.reduce((sum, { replied }) => sum + replied, 0);
      const url = `http://127.0.0.1:${httpPort}`;
      // A graceful stop answers what has come in whole; clients may have been sending more, which they send again.
      const metrics = await metricsWhen(
        url,
        'all replies',
        ({ total_requests, stale }) => !stale && total_requests >= requests,
      );
      expect(metrics).to.include({ errors: 0, audit_imbalance: 0 });
    } finally {
      for (const client of clients) client.destroy();
    }
  });

  it('is refused in cluster mode, with one clear line, and is not restarted', async () => {
    const { apps: shipped } = createRequire(import.meta.url)(join(root, 'ecosystem.config.cjs')) as { apps: object[] };
    const file = join(home, 'cluster.config.cjs');
    const app = { ...shipped[0], name: 'clustered', exec_mode: 'cluster', instances: 2 };
    writeFileSync(file, `module.exports = ${JSON.stringify({ apps: [app] })};`);
    await pm2('start', file);
    await until('PM2 to leave both stopped', async () => {
      const found = await apps();
      return found.length === 2 && found.every(({ pm2_env }) => pm2_env.status === 'stopped');
    });
    expect((await apps()).map(({ pm2_env }) => pm2_env.restart_time)).to.deep.equal([0, 0]);
    const lines = readdirSync(join(home, 'pm2/logs'))
      .filter((name) => name.startsWith('clustered'))
      .flatMap((name) =>
        readFileSync(join(home, 'pm2/logs', name), 'utf8')
          .split('\n')
          .filter(Boolean),
      );
    expect(lines.map((line) => (JSON.parse(line) as { code: string }).code)).to.deep.equal([
      'CONFIG_INVALID',
      'CONFIG_INVALID',
    ]);
    expect(lines[0]).to.include('fork mode');
  });

  it('does not restart after a wrong flag', async () => {
    await pm2('start', 'bundle/cli.js', '--name', 'wrong', '--stop-exit-codes', '2', '--', 'start', '--porrt', '5');
    await until('PM2 to leave it stopped', async () => (await apps())[0]?.pm2_env.status === 'stopped');
    expect((await apps())[0]?.pm2_env.restart_time).to.equal(0);
  });

  it('does not restart what a restart cannot mend', async () => {
    env = { ...env, WORKERS: 'many' };
    await pm2('start', 'ecosystem.config.cjs', '--only', 'ml-tcp-server');
    await until('PM2 to leave it stopped', async () => (await apps())[0]?.pm2_env.status === 'stopped');
    expect((await apps())[0]?.pm2_env.restart_time).to.equal(0);
  });
});
