// `ml-tcp-server top`, at a terminal and in a pipe.

import { spawnSync } from 'node:child_process';
import { expect } from 'chai';
import type { Metrics } from '#src/aggregator/metrics.js';
import { formatScreen } from '#src/tools/top/render.js';
import { startNode } from '../support/cluster.js';
import { endProcesses, freePort, root, TestProcess } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { cleanEnv, type TestServer } from '../support/server.js';
import { skip } from '../support/skip.js';
import { until } from '../support/until.js';

const hasTerminal = spawnSync('script', ['--version']).error === undefined;

describe('top', () => {
  afterEach(endProcesses);

  async function busyServer(): Promise<TestServer> {
    const server = startNode({ NODE_NAME: 'n1' });
    const client = await RawClient.connect(await server.port());
    client.send(Buffer.from('x'), Buffer.from('y'));
    await server.metricsWhen(
      'two requests',
      ({ total_requests, workers }) => total_requests === 2 && workers.length === 2,
    );
    return server;
  }
  const run = (...args: readonly string[]): TestProcess =>
    new TestProcess(process.execPath, [`${root}bundle/cli.js`, 'top', ...args], { env: cleanEnv() });

  it('prints everything once, for people and as JSON', async () => {
    const server = await busyServer();
    const text = run('--metrics', await server.url(), '--once');
    expect(await text.ended()).to.deep.equal({ code: 0, signal: null });
    expect(text.output)
      .to.match(/● ml-tcp-server, live/)
      .and.to.match(/2 in all/);
    for (const pid of await server.workerPids()) expect(text.output).to.match(new RegExp(`n1 +\\d +${pid} +ready`));
    const json = run('--metrics', await server.url(), '--once', '--json');
    await json.ended();
    expect((JSON.parse(json.output) as Metrics).total_requests).to.equal(2);
  });

  it('says so when no aggregator answers, or what it is given is no address', async () => {
    const nobody = run('--metrics', `http://127.0.0.1:${await freePort()}`, '--once');
    expect(await nobody.ended()).to.have.property('code', 6);
    expect(nobody.output).to.match(/no aggregator answers on http:.*ECONNREFUSED.*see --metrics/);
    expect(await run('--metrics', 'localhost').ended()).to.have.property('code', 2);
  });

  it('prints a plain line every so often where the output is piped', async () => {
    const server = await busyServer();
    const piped = run('--metrics', await server.url());
    await until('two lines', () => piped.lines.length >= 2);
    for (const line of piped.lines) {
      expect(line).to.match(/^\d{4}-.*requests\/s .* 1 connections .* 2 workers of 1 node$/);
      expect(line).not.to.include('\x1b');
    }
    piped.signal('SIGTERM');
    await piped.ended();
  });

  it('draws at a terminal, as wide and as high as that is, and quits with q', async function () {
    if (!hasTerminal) skip(this, 'script (util-linux) is not on PATH');
    const server = await busyServer();
    const command = `stty cols 70 rows 12; ${process.execPath} ${root}bundle/cli.js top --metrics ${await server.url()}`;
    const terminal = new TestProcess('script', ['-qefc', command, '/dev/null'], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: cleanEnv({ TERM: 'xterm' }),
    });
    await terminal.line('the screen', (line) => line.includes('live, up for'));
    terminal.child.stdin?.write('q');
    expect(await terminal.ended()).to.have.property('code', 0);
    expect(terminal.output).to.include('\x1b[?1049h').and.to.include('\x1b[?1049l');
    const drawn = terminal.output.split('\x1b[H').at(-1) ?? '';
    const lines = drawn.split('\x1b[J')[0]?.split('\n') ?? [];
    expect(lines.length).to.be.within(5, 12);
  });

  it('fits any terminal, and says what it leaves out', async () => {
    const server = await busyServer();
    const view = { metrics: await server.metrics(), gone: null, ageMs: 0 };
    for (const [columns, rows] of [
      [80, 24],
      [20, 5],
      [1, 1],
    ] as const) {
      const lines = formatScreen(view, columns, rows);
      expect(lines.length).to.be.at.most(rows);
      expect(Math.max(...lines.map(({ length }) => length))).to.be.at.most(columns);
    }
    expect(formatScreen(view, 80, 5).at(-1)).to.match(/^… \d+ more$/);
    expect(formatScreen({ ...view, gone: 'ECONNREFUSED', ageMs: 7000 }, 200, 5)[0]).to.match(
      /does not answer \(ECONNREFUSED\); what follows is 7 s old/,
    );
    expect(formatScreen({ ...view, metrics: { ...view.metrics, stale: true }, ageMs: 61_000 }, 200, 5)[0])
      .to.include('stale')
      .and.to.include('1 min 1 s old');
  });
});
