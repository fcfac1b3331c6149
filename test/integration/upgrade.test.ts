// An upgrade in place: the package's folder becomes another version while a server runs from it. A copy of the package
// is upgraded here, not the one under test.

import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { ServerStatus } from '#src/control/protocol.js';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses, freePort, isRunning, root, TestProcess } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { cleanEnv, type LogLine } from '../support/server.js';
import { until } from '../support/until.js';

class Installation {
  readonly folder = temporaryFolder();
  readonly #code: string;

  constructor() {
    for (const part of ['bundle', 'dist', 'config', 'package.json'])
      cpSync(join(root, part), join(this.folder, part), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(this.folder, 'node_modules'));
    mkdirSync(join(this.folder, 'tmp'));
    this.#code = readFileSync(join(this.folder, 'bundle/worker/main.js'), 'utf8');
  }

  get env(): NodeJS.ProcessEnv {
    return cleanEnv({ TMPDIR: join(this.folder, 'tmp') });
  }

  upgrade(version: string): void {
    const file = join(this.folder, 'package.json');
    const text = readFileSync(file, 'utf8');
    writeFileSync(file, text.replace(/"version": ".*?"/, `"version": "${version}"`));
  }

  /** The same version with other code. */
  rebuild(): void {
    writeFileSync(join(this.folder, 'bundle/worker/main.js'), `${this.#code}\n// rebuilt`);
  }

  restore(): void {
    writeFileSync(join(this.folder, 'bundle/worker/main.js'), this.#code);
  }

  start(...args: readonly string[]): TestProcess {
    const flags = ['start', '--http-port', '0', ...args];
    return new TestProcess(process.execPath, [join(this.folder, 'bundle/cli.js'), ...flags], { env: this.env });
  }

  async cli(...args: readonly string[]): Promise<{ code: number | null; output: string }> {
    const cli = new TestProcess(process.execPath, [join(this.folder, 'bundle/cli.js'), ...args], { env: this.env });
    return { code: (await cli.ended()).code, output: cli.output };
  }

  async status(): Promise<ServerStatus> {
    return JSON.parse((await this.cli('status', '--json')).output) as ServerStatus;
  }
}

const eventOf = async (server: TestProcess, msg: string): Promise<LogLine> =>
  JSON.parse(await server.line(msg, (line) => line.includes(`"msg":"${msg}"`))) as LogLine;

const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };

describe('an upgrade in place', function () {
  this.timeout(40_000);
  afterEach(endProcesses);

  it('runs no new code under an old primary, and every way to see that says which version runs', async () => {
    const installation = new Installation();
    const port = await freePort();
    const server = installation.start('--port', String(port), '--model', 'dummy', '--workers', '2');
    await eventOf(server, 'ready');
    const before = await installation.status();
    expect(before).to.include({ version, codeChange: null });
    installation.upgrade('99.0.0');

    const [victim, survivor] = before.workers;
    process.kill(victim?.pid ?? 0, 'SIGKILL');
    const refused = await eventOf(server, 'no worker is started from other code');
    expect(refused).to.include({ level: 'error', slot: victim?.slot });
    expect(refused.reason).to.match(
      new RegExp(`^version 99\\.0\\.0\\+\\w+ is installed, version ${version}\\+\\w+ runs: restart`),
    );

    const status = await installation.status();
    expect(status).to.include({ version, codeChange: refused.reason });
    expect(status.workers.map(({ pid }) => pid)).to.deep.equal([survivor?.pid]);
    expect((await installation.cli('status')).output)
      .to.match(new RegExp(`^ml-tcp-server ${version},`))
      .and.include('version 99.0.0+');
    for (const command of [['reload'], ['scale', '3']]) {
      const { code, output } = await installation.cli(...command);
      expect(code, output).to.equal(7);
      expect(output).to.include('version 99.0.0+');
    }
    // The worker that is left serves on.
    const client = await RawClient.connect(port);
    client.send(Buffer.from('x'));
    await client.replied(1);
    expect(server.lines.filter((line) => line.includes('no worker is started'))).to.have.lengthOf(1);

    // With the last worker, nothing is left to keep: after a restart, the server is of one version.
    process.kill(survivor?.pid ?? 0, 'SIGKILL');
    expect(await server.ended()).to.deep.equal({ code: 8, signal: null });
    const fatal = server.lines.map((line) => JSON.parse(line) as LogLine).find(({ level }) => level === 'fatal');
    expect(fatal).to.include({ code: 'CODE_CHANGED', msg: refused.reason });
  });

  it('is told from the same code installed again, and from a rebuild of the same version', async () => {
    const installation = new Installation();
    const server = installation.start('--port', '0', '--model', 'dummy', '--workers', '2');
    await eventOf(server, 'ready');
    installation.restore(); // written again: other times, the same code
    const { workers, codeChange } = await installation.status();
    expect(codeChange).to.equal(null);
    installation.rebuild();
    process.kill(workers[0]?.pid ?? 0, 'SIGKILL');
    await eventOf(server, 'no worker is started from other code');
    expect((await installation.status()).codeChange).to.include(`version ${version}+`);
    // With the old code back, everything is as it was.
    installation.restore();
    await eventOf(server, 'worker replaced');
    expect((await installation.status()).workers).to.have.lengthOf(2);
  });

  it('starts no aggregator and no thread of other code, either', async () => {
    const installation = new Installation();
    const model = join(installation.folder, 'faulty.mjs');
    writeFileSync(
      model,
      'export default () => ({ infer: (rows) => (String(rows[0]) === "exit" ? process.exit(1) : rows) });',
    );
    const config = join(installation.folder, 'mine.json');
    const models = [{ name: 'faulty', backend: 'module', path: model, execution: 'thread' }];
    writeFileSync(config, JSON.stringify({ models, server: { model: 'faulty' } }));
    const port = await freePort();
    const server = installation.start('--port', String(port), '--config', config, '--workers', '1');
    const { pid } = await eventOf(server, 'ready');
    const { workers } = await installation.status();
    installation.upgrade('99.0.0');

    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
    const aggregator = children.find((child) => child !== workers[0]?.pid) as number;
    process.kill(aggregator, 'SIGKILL');
    expect((await eventOf(server, 'no aggregator is started from other code')).reason).to.include('99.0.0');

    // A worker that has lost its only thread keeps no connections, since it cannot serve them.
    const client = await RawClient.connect(port);
    client.send(Buffer.from('exit'));
    await client.serverEnded();
    expect(await server.ended()).to.deep.equal({ code: 8, signal: null });
    expect(server.output).to.include('no thread is started from other code');
    await until('all processes to be gone', () => !isRunning(aggregator));
  });

  it('counts its uptime from its own start, not from that of the process, which may have installed for minutes', async () => {
    const installation = new Installation();
    const waited = 1;
    const script = join(installation.folder, 'late.mjs');
    writeFileSync(
      script,
      `while (process.uptime() < ${waited});
       process.argv.splice(1, 1, 'cli', 'start', '--port', '0', '--http-port', '0', '--model', 'dummy', '--workers', '1');
       await import('./bundle/cli.js');`,
    );
    const spawnedAt = performance.now();
    const age = (): number => (performance.now() - spawnedAt) / 1000;
    const server = new TestProcess(process.execPath, [script], { env: installation.env });
    const { metrics } = (await eventOf(server, 'ready')) as LogLine & { metrics: string };
    const { uptimeSeconds } = await installation.status();
    expect(uptimeSeconds)
      .to.be.above(0)
      .and.below(age() - waited);
    const { uptime } = await until('the node', async () => {
      const answer = (await (await fetch(metrics)).json()) as { uptime: number };
      return answer.uptime > 0 && answer;
    });
    expect(uptime).to.be.below(age() - waited);
  });
});
