// Nothing leaves the machine and no file is written unless config names it: strace observes all of it, from a home that
// is empty before and after.

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect } from 'chai';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses, root, TestProcess, workersOf } from '../support/processes.js';
import { RedisServer } from '../support/redis-server.js';
import { cleanEnv, type LogLine, metricsWhen, TestServer } from '../support/server.js';
import { skip } from '../support/skip.js';
import { type Footprint, hasStrace, TracedProcess } from '../support/traced.js';
import { until } from '../support/until.js';

const cli = `${root}bundle/cli.js`;

/** Folders that no program may touch, one for all temporary files, and one for counters. */
interface Home {
  readonly env: NodeJS.ProcessEnv;
  readonly temporary: string;
  readonly counterFiles: string;
  /** Files that are where they should not be. */
  left(): readonly string[];
}

function emptyHome(extra: Readonly<Record<string, string>> = {}): Home {
  const folder = mkdtempSync(join(temporaryFolder(), 'h'));
  const [home, cache, temporary, counterFiles] = ['home', 'cache', 'tmp', 'slabs'].map((name) =>
    join(folder, name),
  ) as [string, string, string, string];
  for (const path of [home, cache, temporary]) mkdirSync(path);
  return {
    env: { ...cleanEnv(extra), HOME: home, XDG_CACHE_HOME: cache, TMPDIR: temporary, SLAB_FOLDER: counterFiles },
    temporary,
    counterFiles,
    left: () => [home, cache, temporary].flatMap((path) => readdirSync(path, { recursive: true, encoding: 'utf8' })),
  };
}

/**
 * Expects it to listen, keep counters and have a control socket only where config says, and to connect only to these
 * peers.
 */
function expectNothingElse(footprint: Footprint, home: Home, peers: readonly string[]): void {
  const { connected, bound, written } = footprint;
  // The C library asks a daemon of the system, where there is one, for the user's name.
  const known = new Set([...bound, ...peers, '/var/run/nscd/socket', '/run/nscd/socket']);
  const control = join(home.temporary, `ml-tcp-server-${process.getuid?.()}`);
  const isNamed = (path: string): boolean =>
    path === '/dev/null' || path.startsWith(home.counterFiles) || path === control || path.startsWith(`${control}/`);
  // Beside its counters are the locks of their writers, which it asks whether they are held.
  const isOwn = (peer: string): boolean => peer.startsWith(control) || peer.startsWith(home.counterFiles);
  expect(connected.filter((peer) => !known.has(peer) && !isOwn(peer))).to.deep.equal([]);
  expect(bound.filter((address) => !address.startsWith('127.0.0.1:'))).to.deep.equal([]);
  expect(written.filter((path) => !isNamed(path))).to.deep.equal([]);
  expect(home.left().filter((path) => !isNamed(join(home.temporary, path)))).to.deep.equal([]);
}

const eventOf = async (process: TestProcess, msg: string): Promise<LogLine & Record<string, unknown>> =>
  JSON.parse(await process.line(msg, (line) => line.includes(`"msg":"${msg}"`), 40_000));

async function ran(process: TracedProcess): Promise<Footprint> {
  const { code } = await process.ended(40_000);
  expect(code, process.output).to.equal(0);
  return process.footprint();
}

describe('nothing leaves the machine, and no file is written, but what config names', function () {
  this.timeout(90_000);
  afterEach(endProcesses);

  describe('as strace sees it', () => {
    before(function () {
      if (!hasStrace) {
        skip(this, 'strace is not on PATH (Debian: strace)');
      }
    });

    it('of a server with models inline and in threads, a reload, and all clients', async () => {
      const home = emptyHome({ WORKERS: '1' });
      const config = join(temporaryFolder(), 'config.json');
      const digits = { backend: 'onnx', path: join(root, 'config/models/digits') };
      const models = [
        { ...digits, name: 'inline', execution: 'inline' },
        { ...digits, name: 'thread', execution: 'thread' },
      ];
      const listeners = models.map(({ name }) => ({ port: 0, model: name }));
      writeFileSync(config, JSON.stringify({ models, listeners, http: { port: 0 } }));
      const start = ['start', '--config', config];
      const server = new TracedProcess(process.execPath, [cli, ...start], home.env);
      const { tcp, metrics, pid } = await eventOf(server, 'ready');
      const ports = (tcp as readonly string[]).map((text) => /:(\d+) /.exec(text)?.[1] ?? '');
      const { host } = new URL(String(metrics));

      const commands = [
        ...ports.map((port) => ['simulate', '-p', port, '-n', '500', '-c', '2', '--metrics', 'none']),
        ['top', '--once', '--metrics', `http://${host}`],
        ['status', '--pid', String(pid)],
        ['reload', '--pid', String(pid)],
        ['config', '--config', config],
      ];
      const clients = emptyHome();
      const seen = [];
      for (const command of commands) {
        // Commands that operate the server find its socket in the temporary folder.
        const env = { ...clients.env, TMPDIR: home.temporary };
        seen.push(await ran(new TracedProcess(process.execPath, [cli, ...command], env)));
      }
      const example = [join(root, 'scripts/examples/client.mjs'), '127.0.0.1', ports[0] as string];
      seen.push(await ran(new TracedProcess(process.execPath, example, clients.env)));
      server.signal('SIGTERM');
      const served = await ran(server);

      expectNothingElse(served, home, []);
      const offered = [host, ...ports.map((port) => `127.0.0.1:${port}`)];
      expect(served.bound).to.include.members(offered);
      expect(served.written.some((path) => path.startsWith(home.counterFiles))).to.equal(true);
      for (const footprint of seen) expectNothingElse(footprint, { ...home, left: clients.left }, offered);
      expect(seen.flatMap(({ connected }) => connected)).to.include.members(offered);
    });

    it('of a node and an aggregator that meet in Redis', async () => {
      const redis = await RedisServer.start();
      const address = `127.0.0.1:${redis.port}`;
      const home = emptyHome({ WORKERS: '1', REDIS_URL: redis.url });
      const node = new TracedProcess(process.execPath, [cli, 'start', '--port', '0'], home.env);
      const aggregator = new TracedProcess(process.execPath, [cli, 'aggregator', '--http-port', '0'], home.env);
      const { metrics } = await eventOf(aggregator, 'ready');
      await metricsWhen(new URL(String(metrics)).origin, 'the node', ({ nodes }) => nodes[0]?.state === 'up');
      for (const process of [node, aggregator]) process.signal('SIGTERM');
      for (const process of [node, aggregator]) {
        const footprint = await ran(process);
        expect(footprint.connected).to.include(address);
        expectNothingElse(footprint, home, [address]);
      }
    });
  });

  describe('as a library', () => {
    const backend = pathToFileURL(`${root}dist/inference/backends/onnx.js`).href;
    const session = `{ intraOpNumThreads: 1, interOpNumThreads: 1, executionProviders: ['cpu'], graphOptimizationLevel: 'all' }`;
    const load = `
      const { loadOnnxModel } = await import('${backend}');
      const model = await loadOnnxModel('${root}config/models/digits', ${session}, { maxBatchSize: 8, tolerance: 1e-4 });
      await model.close();`;
    const threads = `import { Worker } from 'node:worker_threads';
      const thread = (options) => new Promise((resolve, reject) =>
        new Worker(new URL('data:text/javascript,' + encodeURIComponent(${JSON.stringify(load)})), options)
          .once('exit', resolve).once('error', reject));`;

    async function runProgram(text: string, env: Readonly<Record<string, string>> = {}): Promise<string> {
      const home = emptyHome(env);
      const file = join(temporaryFolder(), 'program.mjs');
      writeFileSync(file, text);
      const program = new TestProcess(process.execPath, [file], { env: home.env });
      const { code } = await program.ended();
      expect(home.left()).to.deep.equal([]);
      return code === 0 ? 'done' : program.output;
    }

    it('the ONNX backend leaves no file of ONNX Runtime, in the main thread, threads and forked processes', async () => {
      const host = `
        import { ThreadedModel } from '${root}dist/inference/threads/host.js';
        const source = { name: 'digits', backend: 'onnx', path: '${root}config/models/digits', settings: {}, session: ${session}, batchTolerance: 1e-4 };
        const model = await ThreadedModel.open(source, {
          threads: 1, maxBatchSize: 8, curve: { mostRows: 8, longestMs: 1000, memoryBytes: 2 ** 30 }, hangTimeoutMs: 5000, loadTimeoutMs: 60_000, loadTimeoutMs: 20_000, maxHungThreads: 1,
          onCrash() {}, onHang() {}, onHangOver() {},
        });
        await model.close();`;
      const forked = `
        import cluster from 'node:cluster';
        import { once } from 'node:events';
        if (cluster.isPrimary) process.exitCode = (await once(cluster.fork(), 'exit'))[0];
        else { ${load} process.exit(0); }`;
      const outcomes = await Promise.all([
        runProgram(load),
        runProgram(load, { ORT_DISABLE_TELEMETRY: '' }),
        runProgram(load, { ORT_DISABLE_TELEMETRY: 'on' }),
        runProgram(host),
        runProgram(forked),
        runProgram(`${threads} await import('${backend}'); await thread({ env: {} });`),
        runProgram(`${threads} await thread();`, { ORT_DISABLE_TELEMETRY: '1' }),
      ]);
      expect(outcomes).to.deep.equal(outcomes.map(() => 'done'));
    });

    it('a thread that cannot see to it refuses to load ONNX Runtime, and says what would mend it', async () => {
      expect(await runProgram(`${threads} await thread();`)).to.include('set ORT_DISABLE_TELEMETRY=1');
    });
  });

  describe('the telemetry of ONNX Runtime', () => {
    const telemetryOf = (pid: number): string | undefined =>
      /(?:^|\0)ORT_DISABLE_TELEMETRY=([^\0]*)/.exec(readFileSync(`/proc/${pid}/environ`, 'utf8'))?.[1];
    const warning = (line: string): boolean =>
      line.includes('"level":"warn"') && line.includes('ONNX Runtime may report');

    before(function () {
      if (process.platform !== 'linux') skip(this, 'it is seen in /proc, on Linux only');
    });

    // With the dummy model, which makes no ONNX Runtime session: this test sends nothing.
    it('is off in every worker from its first moment, and an operator may turn it on, also by a reload', async () => {
      const file = join(temporaryFolder(), 'config.json');
      const allow = (isAllowed: boolean): void =>
        writeFileSync(file, JSON.stringify({ onnxRuntime: { disableTelemetry: !isAllowed } }));
      allow(false);
      const server = new TestServer({ args: ['--config', file], env: { MODEL: 'dummy', WORKERS: '2' } });
      await server.event('ready');
      const before = workersOf(server);
      expect(before.map(telemetryOf)).to.deep.equal(['1', '1']);
      expect(server.lines.some(warning)).to.equal(false);
      allow(true);
      server.signal('SIGUSR2');
      await server.event('reloaded');
      await until('the old workers to be gone', () => workersOf(server).every((pid) => !before.includes(pid)));
      expect(workersOf(server).map(telemetryOf)).to.deep.equal(['0', '0']);
      expect(server.lines.some(warning)).to.equal(true);
    });

    it('is on when the environment says so, and a value that says neither is a mistake', async () => {
      const env = { MODEL: 'dummy', WORKERS: '1' };
      const server = new TestServer({ env: { ...env, ORT_DISABLE_TELEMETRY: '0' } });
      await server.event('ready');
      expect(workersOf(server).map(telemetryOf)).to.deep.equal(['0']);
      expect(server.lines.some(warning)).to.equal(true);
      const mistaken = new TestServer({ env: { ...env, ORT_DISABLE_TELEMETRY: 'maybe' } });
      expect((await mistaken.ended()).code).to.equal(2);
      expect(mistaken.output).to.include('onnxRuntime.disableTelemetry: must be true or false');
    });
  });
});
