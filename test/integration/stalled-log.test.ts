// The reader of our log may stall: nothing may wait for it.

import { spawnSync } from 'node:child_process';
import { closeSync, constants, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses, freePort, root, TestProcess } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { cleanEnv, TestServer } from '../support/server.js';
import { until } from '../support/until.js';

const linesOfABatch = 200;

/** Flags for a server whose model prints 200 KB for each batch. */
function printing(to: 'stdout' | 'stderr', more: object = {}): readonly string[] {
  const file = join(temporaryFolder(), 'printing.json');
  const path = `${root}test/support/models/chatty.mjs`;
  const models = [{ name: 'chatty', backend: 'module', path, settings: { lines: linesOfABatch, to }, ...more }];
  writeFileSync(file, JSON.stringify({ models, server: { model: 'chatty' }, cluster: { workers: 1 } }));
  return ['--config', file];
}

async function ask(port: number): Promise<void> {
  const client = await RawClient.connect(port);
  client.send(Buffer.from('x'));
  expect((await client.replied(1)).map(String)).to.deep.equal(['x']);
  client.end();
  await client.closed;
}

async function lostLines(metricsUrl: string): Promise<number> {
  const response = await fetch(`${metricsUrl}/metrics`, { headers: { accept: 'text/plain' } });
  return Number(/^mltcp_log_lines_lost_total (\d+)/m.exec(await response.text())?.[1]);
}

/** Sends requests until lines are lost; returns how many lines the model has printed by then. */
async function askUntilLost(port: number, metricsUrl: string): Promise<number> {
  let printed = 0;
  const before = await lostLines(metricsUrl);
  await until('lost lines', async () => {
    await ask(port);
    printed += linesOfABatch;
    return (await lostLines(metricsUrl)) > before;
  });
  return printed;
}

const printedLines = (lines: readonly string[]): number => lines.filter((line) => line === '.'.repeat(999)).length;
const lostByTheLog = (lines: readonly string[]): number =>
  lines
    .filter((line) => line.includes('"msg":"log lines were lost"'))
    .reduce((sum, line) => sum + (JSON.parse(line) as { lines: number }).lines, 0);

describe('a log that nobody reads any more', () => {
  afterEach(endProcesses);

  for (const [to, execution] of [
    ['stdout', 'inline'],
    ['stdout', 'thread'],
    ['stderr', 'inline'],
  ] as const) {
    it(`(${to}, a socket as of journald and PM2; a model ${execution}) stops neither clients nor SIGTERM, and says what is missing`, async () => {
      const server = new TestServer({ args: printing(to, { execution }) });
      const [port, url] = [await server.port(), await server.url()];
      server.child[to]?.pause();
      let printed = await askUntilLost(port, url);
      server.child[to]?.resume();
      await until('the line that says so', () => lostByTheLog(server.lines) > 0);
      await until('every line, or its loss', () => printedLines(server.lines) + lostByTheLog(server.lines) >= printed);
      // Afterwards, it works as before.
      await ask(port);
      printed += linesOfABatch;
      await until('lines that come again', () => printedLines(server.lines) + lostByTheLog(server.lines) === printed);
      expect(server.lines.every((line) => line.startsWith('{') || line === '.'.repeat(999))).to.equal(true);

      server.child[to]?.pause();
      await askUntilLost(port, url);
      server.signal('SIGTERM');
      const exit = await new Promise((resolve) => server.child.once('exit', (code) => resolve(code)));
      expect(exit).to.equal(0);
      server.child[to]?.resume();
    });
  }

  it('(stdout, a pipe of a shell) stops neither clients nor SIGTERM, and says what is missing', async () => {
    const fifo = join(temporaryFolder(), 'pipe');
    expect(spawnSync('mkfifo', [fifo]).status).to.equal(0);
    const descriptor = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
    const [port, httpPort] = [await freePort(), await freePort()];
    const args = [`${root}bundle/cli.js`, 'start', '--port', String(port), '--http-port', String(httpPort)];
    const server = new TestProcess(process.execPath, [...args, ...printing('stdout')], {
      env: cleanEnv(),
      stdio: ['ignore', descriptor, 'pipe'],
    });
    const url = `http://127.0.0.1:${httpPort}`;
    await until('the metrics', () => lostLines(url).then((lost) => lost === 0));
    const printed = await askUntilLost(port, url);
    let output = '';
    const chunk = Buffer.alloc(1 << 16);
    await until('every line, or its loss', () => {
      try {
        output += chunk.toString('utf8', 0, readSync(descriptor, chunk));
      } catch (error) {
        expect((error as NodeJS.ErrnoException).code).to.equal('EAGAIN');
      }
      const lines = output.split('\n');
      return lostByTheLog(lines) > 0 && printedLines(lines) + lostByTheLog(lines) === printed;
    });
    await askUntilLost(port, url);
    server.signal('SIGTERM');
    expect(await server.ended()).to.deep.equal({ code: 0, signal: null });
    closeSync(descriptor);
  });

  it('lets a command end that has something to complain of', async () => {
    const fifo = join(temporaryFolder(), 'pipe');
    expect(spawnSync('mkfifo', [fifo]).status).to.equal(0);
    const descriptor = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
    fill(descriptor);
    const cli = new TestProcess(process.execPath, [`${root}bundle/cli.js`, 'start', '--port', 'x'], {
      stdio: ['ignore', 'ignore', descriptor],
      env: cleanEnv(),
    });
    expect(await cli.ended(10_000)).to.deep.equal({ code: 2, signal: null });
    closeSync(descriptor);
  });
});

/** Fills it until it takes no more. */
function fill(descriptor: number): void {
  try {
    for (;;) writeSync(descriptor, '.'.repeat(4096));
  } catch (error) {
    expect((error as NodeJS.ErrnoException).code).to.equal('EAGAIN');
  }
}
