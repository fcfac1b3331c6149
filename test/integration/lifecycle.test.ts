// How the server, its workers and its primary begin and end.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { WorkerGauges } from '#src/metrics/snapshot.js';
import { aggregatorOf, endProcesses, freePort, isRunning, root, workersOf } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { type LogLine, TestServer } from '../support/server.js';
import { until } from '../support/until.js';

const dummy = { MODEL: 'dummy' };
const slowModel = `export default () => ({
  infer: (payloads) => new Promise((resolve) => setTimeout(resolve, 300, payloads)),
});\n`;

describe('the server', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'mltcp-'));
  });
  afterEach(async () => {
    await endProcesses();
    rmSync(folder, { recursive: true });
  });

  const withModule = (source: string, more: object = {}): string => {
    writeFileSync(join(folder, 'model.mjs'), source);
    const file = join(folder, 'config.json');
    writeFileSync(
      file,
      JSON.stringify({
        models: [{ name: 'mine', backend: 'module', path: join(folder, 'model.mjs') }],
        server: { model: 'mine' },
        ...more,
      }),
    );
    return file;
  };

  it('kills and replaces a worker whose event loop stands still, and no other', async () => {
    const server = new TestServer({
      env: { MODEL: 'dummy', WORKERS: '2' },
      args: ['--set', 'cluster.hangTimeoutMs=1000'],
    });
    await server.event('ready');
    const [hung, other] = workersOf(server);
    process.kill(hung as number, 'SIGSTOP');
    expect(await server.event('worker hangs: killed')).to.include({ worker: hung });
    const how = 'its event loop stood still for 1000 ms (cluster.hangTimeoutMs)';
    expect(await server.event('worker died')).to.include({ worker: hung, how });
    await server.event('worker replaced');
    expect(workersOf(server)).to.include(other);
    expect(server.lines.filter((line) => line.includes('worker hangs')).length).to.be.below(3);
  });

  it('leaves no client connected to nobody when a worker is killed while clients come', async function () {
    this.timeout(40_000);
    const server = new TestServer({
      env: { MODEL: 'dummy', WORKERS: '2' },
      args: ['--set', 'server.maxConnections=10000'],
    });
    const port = await server.port();
    for (let round = 0; round < 3; round++) {
      const before = server.lines.filter((line) => line.includes('"worker replaced"')).length;
      const clients = await Promise.all(
        Array.from({ length: 100 }, async (_, i) => {
          const client = await RawClient.connect(port);
          if (i === 50) process.kill(workersOf(server)[0] as number, 'SIGKILL');
          client.send(Buffer.from('x'));
          return client;
        }),
      );
      await until('each client to be answered or told', () =>
        clients.every(({ replies, socket }) => replies.length > 0 || socket.closed || socket.readableEnded),
      );
      for (const client of clients) client.destroy();
      await until('the replacement', () => server.lines.filter((l) => l.includes('"worker replaced"')).length > before);
    }
  });

  it('answers those who ask whether it is ready while it loads a model for long', async () => {
    const gate = join(folder, 'gate');
    writeFileSync(gate, '');
    const waits = `import { existsSync } from 'node:fs';
      while (existsSync(${JSON.stringify(gate)})) await new Promise((resolve) => setTimeout(resolve, 10));
      export default () => ({ infer: (payloads) => payloads });`;
    const port = String(await freePort());
    const server = new TestServer({ args: ['--config', withModule(waits), '--http-port', port] });
    const statusOf = (path: string): Promise<number | null> =>
      fetch(`http://127.0.0.1:${port}${path}`).then(
        ({ status }) => status,
        () => null,
      );
    await until('an answer', async () => (await statusOf('/readyz')) === 503);
    expect(await statusOf('/healthz')).to.equal(200);
    expect(server.count('ready')).to.equal(0);
    rmSync(gate);
    await server.event('ready');
    await until('readiness', async () => (await statusOf('/readyz')) === 200);
  });

  it('says ready once, with addresses, model, workers and what to try next; every line has role, node and pid', async () => {
    const server = new TestServer({ env: { NODE_NAME: 'n1', WORKERS: '2' } });
    const ready = await server.event('ready');
    expect(ready).to.deep.include({ role: 'primary', node: 'n1', workers: 2, pid: server.pid });
    expect(ready)
      .to.have.property('tcp')
      .that.matches(/^127\.0\.0\.1:\d+ → digits$/);
    expect(ready)
      .to.have.nested.property('models.digits')
      .that.matches(/^onnx pixels float32\[64\] → probabilities float32\[10\], (inline|in 1 thread), /);
    expect(ready)
      .to.have.property('metrics')
      .that.matches(/^http:\/\/127\.0\.0\.1:\d+\/metrics$/);
    expect(ready).to.have.property('next').that.includes('simulate');
    server.signal('SIGTERM');
    await server.ended();
    expect(server.log.filter(({ msg }) => msg === 'ready')).to.have.lengthOf(1);
    for (const line of server.log) expect(line).to.include.all.keys('level', 'time', 'role', 'node', 'pid', 'msg');
  });

  it('tells what a model took of the memory: in the log, and to who watches', async () => {
    const large = `const weights = Buffer.alloc(64 << 20, 1);
      export default () => ({ infer: (payloads) => payloads.map(() => weights.subarray(0, 1)) });`;
    const server = new TestServer({ args: ['--config', withModule(large)], env: { WORKERS: '2' } });
    // Some of the 64 MB may lie in pages that the process had before.
    const { models } = (await server.event('ready')) as LogLine & { models: Readonly<Record<string, string>> };
    const [description = ''] = Object.values(models);
    expect(Number(/, (\d+) MB/.exec(description)?.[1])).to.be.within(60, 128);
    const metrics = await server.metricsWhen('both workers', ({ workers }) => workers.length === 2);
    expect((metrics.models[0]?.memory ?? 0) / 2 ** 20).to.be.within(120, 256);
    const told = /^mltcp_model_memory_bytes\{.*\} (\d+)$/m.exec(await server.prometheus());
    expect(Number(told?.[1])).to.equal(metrics.models[0]?.memory);
  });

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    it(`answers what is in flight after ${signal}, publishes the last totals and exits with 0`, async () => {
      const server = new TestServer({ args: ['--config', withModule(slowModel)] });
      const client = await RawClient.connect(await server.port());
      const pids = await server.workerPids();
      client.send(Buffer.from('one'), Buffer.from('two'));
      await server.metricsWhen('both requests in flight', ({ in_flight }) => in_flight === 2);
      server.signal(signal);
      expect((await client.replied(2)).map(String)).to.deep.equal(['one', 'two']);
      await client.serverEnded();
      client.end();
      expect(await server.ended()).to.deep.equal({ code: 0, signal: null });
      expect(pids.filter(isRunning)).to.deep.equal([]);
    });
  }

  it('is forced by a second signal', async () => {
    const server = new TestServer({ args: ['--config', withModule(slowModel.replace('300', '60_000'))] });
    const client = await RawClient.connect(await server.port());
    client.send(Buffer.from('never'));
    await server.metricsWhen('the request in flight', ({ in_flight }) => in_flight === 1);
    server.signal('SIGTERM');
    await server.line('the drain', (line) => line.includes('draining'));
    const forcing = setInterval(() => server.signal('SIGTERM'), 100);
    expect(await server.ended()).to.deep.equal({ code: 1, signal: null });
    clearInterval(forcing);
    await client.serverEnded();
  });

  it('cuts what cannot be drained in time', async () => {
    const file = withModule(slowModel.replace('300', '60_000'), {
      server: { model: 'mine', drainTimeoutSeconds: 0.3 },
    });
    const server = new TestServer({ args: ['--config', file] });
    const client = await RawClient.connect(await server.port());
    client.send(Buffer.from('never'));
    await server.metricsWhen('the request in flight', ({ in_flight }) => in_flight === 1);
    server.signal('SIGTERM');
    expect(await server.ended()).to.deep.equal({ code: 0, signal: null });
    await client.serverEnded();
  });

  it('replaces a worker that is killed, keeps what it counted, and costs only its own connections', async () => {
    const server = new TestServer({ env: { ...dummy, WORKERS: '2' } });
    const port = await server.port();
    const clients = await Promise.all(Array.from({ length: 8 }, () => RawClient.connect(port)));
    for (const client of clients) client.send(Buffer.from('x'), Buffer.from('y'));
    for (const client of clients) await client.replied(2);
    const before = await server.metricsWhen(
      'all requests',
      ({ total_requests, workers }) => total_requests === 16 && workers.every(({ connections }) => connections > 0),
    );
    const [victim, other] = before.workers;
    process.kill(victim?.pid as number, 'SIGKILL');
    await server.event('worker replaced');
    const after = await server.metricsWhen(
      'the replacement',
      ({ workers, nodes, connections }) =>
        workers.length === 2 && nodes[0]?.restarts === 1 && connections === other?.connections,
    );
    expect(after).to.include({ total_requests: 16, audit_imbalance: 0 });
    const alive = clients.filter(({ socket }) => !socket.readableEnded && !socket.destroyed);
    expect(alive).to.have.lengthOf(other?.connections as number);
    for (const client of [...alive, await RawClient.connect(port)]) client.send(Buffer.from('z'));
    await server.metricsWhen('the requests after it', ({ total_requests }) => total_requests === 16 + alive.length + 1);
  });

  for (const { word, what, said } of [
    { word: 'throw', what: 'throws where nobody catches it', said: /thrown by nobody.*/ },
    { word: 'reject', what: 'rejects a promise that nobody awaits', said: /rejected for nobody.*/ },
    { word: 'memory', what: 'takes all memory', said: /SIGABRT: Node or a native library gave up/ },
  ]) {
    it(`replaces a worker whose model ${what}, says what was running, and no other client notices`, async () => {
      const file = `${folder}/faulty.json`;
      const path = `${root}test/support/models/faulty.mjs`;
      const models = [{ name: 'faulty', backend: 'module', path, execution: 'inline' }];
      writeFileSync(file, JSON.stringify({ models, server: { model: 'faulty' }, cluster: { moveConnections: false } }));
      const env = { WORKERS: '2', NODE_OPTIONS: '--max-old-space-size=48' };
      const server = new TestServer({ args: ['--config', file], env });
      const port = await server.port();
      const clients = [await RawClient.connect(port), await RawClient.connect(port)] as const;
      for (const client of clients) client.send(Buffer.from('before'));
      await Promise.all(clients.map((client) => client.replied(1)));
      await server.metricsWhen('a client each', ({ workers }) => workers.every(({ connections }) => connections === 1));
      clients[0].send(Buffer.from(word));
      await clients[0].serverEnded();
      const death = await server.event('worker died');
      expect(death.connectionsLost).to.equal(1);
      const { faulty } = (death.lastSeen as Pick<WorkerGauges, 'models'>).models;
      const known = { version: 'unversioned', execution: 'inline', queued: 0, predictedWaitMs: 0, hungThreads: 0 };
      expect(faulty).to.include(known);
      expect(faulty?.memoryBytes).to.be.a('number');
      expect(server.output).to.match(said);
      if (word !== 'memory') {
        const { running } = server.log.find(({ level, role }) => level === 'fatal' && role === 'worker') as LogLine;
        expect(running).to.include({ connections: 1 }).and.have.property('models');
      }
      await server.event('worker replaced');
      clients[1].send(Buffer.from('after'));
      await clients[1].replied(2);
      expect(clients[1].replies.map(String)).to.deep.equal(['before', 'after']);
    });
  }

  it('replaces an aggregator that is killed; it knows all totals again', async () => {
    const server = new TestServer({ env: { ...dummy, HTTP_PORT: '0' } });
    const client = await RawClient.connect(await server.port());
    client.send(Buffer.from('x'));
    await server.metricsWhen('the request', ({ total_requests }) => total_requests === 1);
    process.kill(aggregatorOf(server), 'SIGKILL');
    const line = await server.line('the new aggregator', (text) => text.includes('"msg":"aggregator ready"'));
    const { metrics } = JSON.parse(line) as { metrics: string };
    const found = await until('the totals', async () => {
      const response = (await (await fetch(metrics)).json()) as { total_requests: number };
      return response.total_requests === 1 && response;
    });
    expect(found.total_requests).to.equal(1);
  });

  it('leaves no process behind when the primary is killed', async () => {
    const server = new TestServer({ env: dummy });
    await server.event('ready');
    const children = await childPids(server.pid);
    expect(children).to.have.length.above(1);
    const port = await server.port();
    const busy = await Promise.all(Array.from({ length: 8 }, () => RawClient.connect(port)));
    for (const client of busy) client.send(...Array.from({ length: 1000 }, () => Buffer.from('x')));
    server.signal('SIGKILL');
    await until('all children to end', () => children.every((pid) => !isRunning(pid)), { timeoutMs: 1000 });
    for (const client of busy) await client.serverEnded();
  });

  describe('refuses to start, with one plain message and no orphan,', () => {
    const refuses = async (server: TestServer, exitCode: number, message: RegExp): Promise<void> => {
      expect(await server.ended()).to.deep.equal({ code: exitCode, signal: null });
      expect(server.output).to.match(message);
      expect(server.output).not.to.match(/^\s+at /m);
      expect(
        server.lines.filter((line) => line.includes('"fatal"') || line.startsWith('ml-tcp-server:')),
      ).to.have.lengthOf(1);
    };

    it('when the TCP port is in use', async () => {
      const blocker = createServer();
      await new Promise<void>((resolve) => blocker.listen(0, '127.0.0.1', resolve));
      const { port } = blocker.address() as { port: number };
      const server = new TestServer({ args: ['--port', String(port)], env: dummy });
      await refuses(server, 3, new RegExp(`port ${port} on 127.0.0.1 is in use: .*server\\.port \\(PORT\\)`));
      blocker.close();
    });

    it('when the HTTP port is in use', async () => {
      const blocker = createServer();
      await new Promise<void>((resolve) => blocker.listen(0, '127.0.0.1', resolve));
      const { port } = blocker.address() as { port: number };
      const server = new TestServer({ args: ['--http-port', String(port)], env: dummy });
      await refuses(server, 3, new RegExp(`port ${port} on 127.0.0.1 is in use: .*http\\.port \\(HTTP_PORT\\)`));
      blocker.close();
    });

    it('when the address is not of this machine', async () => {
      await refuses(
        new TestServer({ env: { ...dummy, HOST: '203.0.113.1' } }),
        3,
        /203\.0\.113\.1 is not an address of this machine/,
      );
    });

    it('when settings are wrong', async () => {
      const server = new TestServer({ env: { WORKERS: 'many', LOG_LEVEL: 'loud' } });
      await refuses(server, 2, /2 mistakes:\\n.*(cluster\.workers: must be 'auto'|log\.level: must be one of)/s);
    });

    it('when the model file is missing', async () => {
      const file = join(folder, 'config.json');
      writeFileSync(file, JSON.stringify({ models: [{ name: 'digits', path: 'no/where' }] }));
      await refuses(
        new TestServer({ args: ['--config', file] }),
        4,
        /the model digits cannot be served: there is no model file at .*no\/where; see models\[0\]/,
      );
    });

    it('when the model file is broken', async () => {
      writeFileSync(join(folder, 'broken.onnx'), 'not a model');
      const file = join(folder, 'config.json');
      writeFileSync(file, JSON.stringify({ models: [{ name: 'digits', path: join(folder, 'broken.onnx') }] }));
      await refuses(
        new TestServer({ args: ['--config', file] }),
        4,
        /the model digits cannot be served: .*; see models\[0\]/,
      );
    });

    it('when a module breaks the contract, with what it should export', async () => {
      await refuses(
        new TestServer({ args: ['--config', withModule('export const x = 1;')] }),
        4,
        /has no default export that is a function: export default/,
      );
      await refuses(
        new TestServer({ args: ['--config', withModule('export default () => ({});')] }),
        4,
        /returned no object with a function infer/,
      );
    });

    it('when a worker does not get ready in time', async () => {
      const file = withModule('for (;;);');
      const limits = ['cluster.bootTimeoutSeconds=0.5', 'cluster.maxBootFailures=2'].flatMap((set) => ['--set', set]);
      const server = new TestServer({ args: ['--config', file, ...limits], env: { WORKERS: '1' } });
      await refuses(server, 5, /2 workers in a row .*: not ready after 0\.5 s \(cluster\.bootTimeoutSeconds\)/);
    });

    it('when workers keep dying before they are ready', async function () {
      this.timeout(30_000);
      const server = new TestServer({
        args: ['--config', withModule('process.exit(7);'), '--set', 'cluster.maxBootFailures=3'],
      });
      await refuses(
        server,
        5,
        /3 workers in a row ended before they were ready \(cluster\.maxBootFailures\); the last one: ended by exit code 7/,
      );
    });
  });
});

/** The direct children of a process, on Linux. */
async function childPids(pid: number): Promise<readonly number[]> {
  const { readFile } = await import('node:fs/promises');
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return text.trim().split(' ').filter(Boolean).map(Number);
}
