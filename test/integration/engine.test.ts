// The engine inside a real server: many models on many ports, threads, crashes, reloads, overload.

import { cpSync, mkdirSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { Metrics, ModelMetrics } from '#src/aggregator/metrics.js';
import { temporaryFolder } from '../support/folder.js';
import { type GraphSpec, writeOnnx } from '../support/onnx-writer.js';
import { endProcesses, root } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { type LogLine, TestServer } from '../support/server.js';
import { until } from '../support/until.js';

const folder = temporaryFolder();

const module = (name: string): string => `${root}test/support/models/${name}.mjs`;
let files = 0;

/** A server whose listeners serve the given models in that order, each on its own port. */
class ModelsServer extends TestServer {
  constructor(models: readonly Record<string, unknown>[], workers = 1, more: Record<string, unknown> = {}) {
    const file = join(folder, `config-${files++}.json`);
    const listeners = models.map(({ name }) => ({ host: '127.0.0.1', port: 0, model: name }));
    writeFileSync(file, JSON.stringify({ models, listeners, ...more }));
    super({ args: ['--config', file], env: { WORKERS: String(workers) }, hasListeners: true });
  }

  /** A client of the listener that serves this model. */
  async client(model: string): Promise<RawClient> {
    const { tcp } = (await this.event('ready')) as LogLine & { tcp: readonly string[] };
    const line = tcp.find((text) => text.endsWith(`→ ${model}`));
    return RawClient.connect(Number(/:(\d+) /.exec(line ?? '')?.[1]));
  }

  /** The metrics of a model, as soon as `isThere` accepts them. */
  async modelWhen(name: string, what: string, isThere: (model: ModelMetrics) => boolean): Promise<ModelMetrics> {
    const find = (metrics: Metrics) => metrics.models.find((model) => model.name === name);
    const metrics = await this.metricsWhen(`${what} of ${name}`, (all) => {
      const model = find(all);
      return model !== undefined && isThere(model);
    });
    return find(metrics) as ModelMetrics;
  }
}

const texts = (client: RawClient): readonly string[] => client.replies.map(String);
const echo = (name: string, more: Record<string, unknown> = {}) => ({
  name,
  backend: 'module',
  path: module('echo'),
  ...more,
});

describe('the engine', () => {
  afterEach(endProcesses);

  it('serves many models on many ports, each with its own settings and counters', async () => {
    const server = new ModelsServer([
      echo('hello', { settings: { greeting: 'hello ' } }),
      echo('bye', { settings: { greeting: 'bye ' }, execution: 'thread' }),
      { name: 'digits', backend: 'onnx', path: `${root}config/models/digits` },
    ]);
    const clients = await Promise.all(['hello', 'bye', 'digits'].map((name) => server.client(name)));
    for (const client of clients) client.send(Buffer.from('you'), Buffer.alloc(256));
    await Promise.all(clients.map((client) => client.replied(2)));
    expect(clients.map((client) => client.replies[0]?.toString())).to.deep.equal(['hello you', 'bye you', '']);
    expect(clients[2]?.replies[1]).to.have.lengthOf(40);
    expect(await server.modelWhen('hello', '2 requests', ({ answered }) => answered === 2)).to.deep.include({
      execution: ['inline'],
      requests: 2,
      loads: 1,
    });
    expect(await server.modelWhen('bye', '2 requests', ({ answered }) => answered === 2)).to.deep.include({
      execution: ['thread'],
    });
    const digits = await server.modelWhen('digits', '2 requests', ({ requests }) => requests === 2);
    expect(digits).to.deep.include({ answered: 1, batches: 1, batch_rows: { 1: 1 } });
    expect(digits.refused.bad_input).to.equal(1);
    expect(digits.closed).to.deep.equal({ full: 0, turn: 1, delay: 0, drain: 0 });
  });

  it('answers the requests of one model while another holds its thread', async () => {
    const gate = join(folder, 'gate-1');
    const server = new ModelsServer([
      { name: 'slow', backend: 'module', path: module('gate'), execution: 'thread', settings: { gate } },
      echo('quick'),
    ]);
    const slow = await server.client('slow');
    const quick = await server.client('quick');
    writeFileSync(gate, '');
    slow.send(Buffer.from('held'));
    await server.modelWhen('slow', 'one request in flight', ({ requests }) => requests === 1);
    quick.send(...Array.from({ length: 1000 }, (_, i) => Buffer.from(String(i))));
    await quick.replied(1000);
    expect(slow.replies).to.have.lengthOf(0);
    rmSync(gate);
    await slow.replied(1);
  });

  it('fails the batch of a thread that crashes, replaces it, and counts it; the worker lives on', async () => {
    const server = new ModelsServer([echo('fragile', { execution: 'thread' }), echo('other')]);
    const [pid] = await server.workerPids();
    const client = await server.client('fragile');
    const other = await server.client('other');
    for (let i = 1; i <= 3; i++) {
      client.send(Buffer.from('crash'));
      await client.replied(2 * i - 1);
      other.send(Buffer.from('x'));
      client.send(Buffer.from('again'));
      await client.replied(2 * i);
    }
    await other.replied(3);
    expect(texts(client)).to.deep.equal(['', 'again', '', 'again', '', 'again']);
    const model = await server.modelWhen('fragile', 'all outcomes', ({ answered, failed }) => answered + failed === 6);
    expect(model).to.include({ failed: 3, answered: 3, thread_crashes: 3 });
    expect(await server.workerPids()).to.deep.equal([pid]);
    expect(await server.event('thread of a model died')).to.include({ model: 'fragile' });
  });

  it('runs a failed batch again row by row, so that a poisonous row fails alone; or not, as it is told', async () => {
    const server = new ModelsServer([
      echo('lenient', { maxBatchSize: 8 }),
      echo('strict', { maxBatchSize: 8, retryRows: false }),
    ]);
    for (const [name, expected] of [
      ['lenient', ['a', '', 'b']],
      ['strict', ['', '', '']],
    ] as const) {
      const client = await server.client(name);
      client.send(Buffer.from('a'), Buffer.from('poison'), Buffer.from('b'));
      await client.replied(3);
      expect(texts(client), name).to.deep.equal(expected);
    }
    expect(
      await server.modelWhen('lenient', '3 outcomes', ({ answered, failed }) => answered + failed === 3),
    ).to.include({
      failed: 1,
      retried_rows: 3,
    });
  });

  it('waits for more rows when it is told to, and says so in why batches were closed', async () => {
    const server = new ModelsServer([echo('patient', { maxBatchSize: 8, maxQueueDelayMs: 20 })]);
    const client = await server.client('patient');
    client.send(Buffer.from('a'));
    await client.replied(1);
    const model = await server.modelWhen('patient', '1 request', ({ answered }) => answered === 1);
    expect(model.closed).to.deep.equal({ full: 0, turn: 0, delay: 1, drain: 0 });
    expect(model.queue_ms.p50).to.be.above(15);
  });

  it('gives the place in the queue of a client that has gone to the next', async () => {
    const gate = join(folder, 'gate-2');
    const server = new ModelsServer([
      {
        name: 'slow',
        backend: 'module',
        path: module('gate'),
        execution: 'thread',
        settings: { gate },
        maxQueue: 4,
        deadlineMs: 0,
      },
    ]);
    const first = await server.client('slow');
    const second = await server.client('slow');
    writeFileSync(gate, '');
    first.send(Buffer.from('held'));
    await server.modelWhen('slow', 'a run', ({ requests, queued }) => requests === 1 && queued === 0);
    first.send(...['1', '2', '3', '4'].map((text) => Buffer.from(text)));
    await server.modelWhen('slow', 'a full queue', ({ queued }) => queued === 4);
    second.send(Buffer.from('no room'));
    await second.replied(1);
    expect(texts(second)).to.deep.equal(['']);
    first.reset();
    await server.modelWhen('slow', 'an empty queue', ({ queued }) => queued === 0);
    second.send(...['5', '6', '7', '8'].map((text) => Buffer.from(text)));
    await server.modelWhen('slow', 'a full queue', ({ queued }) => queued === 4);
    rmSync(gate);
    await second.replied(5);
    expect(texts(second).slice(1)).to.deep.equal(['5', '6', '7', '8']);
    const model = await server.modelWhen('slow', 'all outcomes', ({ answered }) => answered === 4);
    expect(model).to.include({ requests: 10, abandoned: 5 });
    expect(model.refused.queue_full).to.equal(1);
  });

  it('answers with an empty frame what is past its deadline, without running it', async () => {
    const gate = join(folder, 'gate-3');
    const server = new ModelsServer([
      {
        name: 'slow',
        backend: 'module',
        path: module('gate'),
        execution: 'thread',
        settings: { gate },
        deadlineMs: 200,
      },
    ]);
    const client = await server.client('slow');
    writeFileSync(gate, '');
    client.send(Buffer.from('held'));
    await server.modelWhen('slow', 'a run', ({ requests, queued }) => requests === 1 && queued === 0);
    const late = await server.client('slow');
    late.send(Buffer.from('late'), Buffer.from('too'));
    await late.replied(2);
    expect(texts(late)).to.deep.equal(['', '']);
    rmSync(gate);
    await client.replied(1);
    const model = await server.modelWhen(
      'slow',
      'all outcomes',
      ({ expired, answered }) => expired === 2 && answered === 1,
    );
    expect(model).to.include({ requests: 3, answered: 1, batches: 1 });
  });

  it('refuses to start when a pinned version is not there', async () => {
    const digits = `${root}config/models/digits`;
    const path = join(folder, 'pinned');
    mkdirSync(path);
    cpSync(digits, join(path, '1'), { recursive: true });
    const server = new ModelsServer([{ name: 'digits', backend: 'onnx', path, version: '7' }]);
    expect(await server.ended()).to.have.property('code', 4);
    expect(server.output).to.match(/there is no version 7 in .*: there are 1/);
  });
});

/** x float32[1] → x + n */
const adds = (n: number): GraphSpec => ({
  inputs: [{ name: 'x', dtype: 'float32', shape: ['n', 1] }],
  outputs: [{ name: 'y', dtype: 'float32', shape: ['n', 1] }],
  nodes: [{ op: 'Add', inputs: ['x', 'k'], outputs: ['y'] }],
  constants: [{ name: 'k', shape: [1], values: Float32Array.of(n) }],
});

describe('a reload of models', () => {
  afterEach(endProcesses);

  const publish = (path: string, version: number, bytes: Buffer): void => {
    // As an operator would: the folder appears with its file in it.
    const staged = join(folder, `staged-${version}`);
    mkdirSync(staged);
    writeFileSync(join(staged, 'model.onnx'), bytes);
    cpSync(staged, join(path, String(version)), { recursive: true });
    rmSync(staged, { recursive: true });
  };

  const inPlace = (server: TestServer) => server.operate('reload', '--models');
  const rolling = (server: TestServer) => server.signal('SIGHUP');
  const reloads = [
    { execution: 'inline', how: 'in place', reload: inPlace, loads: 6 },
    { execution: 'thread', how: 'in place', reload: inPlace, loads: 6 },
    { execution: 'inline', how: 'in new workers', reload: rolling, loads: 6 },
  ] as const;
  for (const { execution, how, reload, loads } of reloads) {
    it(`under load fails no request and switches for good (${execution}, ${how})`, async () => {
      const path = join(folder, `adds-${execution}-${how}`);
      mkdirSync(path);
      publish(path, 1, writeOnnx(adds(1)));
      const server = new ModelsServer([{ name: 'adds', backend: 'onnx', path, execution }], 2);
      const clients = await Promise.all(Array.from({ length: 6 }, () => server.client('adds')));
      const payload = Buffer.alloc(4);
      let isOver = false;
      const load = clients.map(async (client) => {
        while (!isOver) {
          const wanted = client.replies.length + 20;
          client.send(...Array.from({ length: 20 }, () => payload));
          await until('replies', () => client.replies.length >= wanted, { intervalMs: 1 });
        }
      });
      const latest = (value: number) => async (): Promise<boolean> =>
        clients.every(({ replies }) => replies.at(-1)?.readFloatLE() === value);
      await until('replies of version 1', latest(1));
      publish(path, 2, writeOnnx(adds(2)));
      await reload(server);
      await until('replies of version 2', latest(2));
      publish(path, 3, Buffer.from('this is no model'));
      await reload(server);
      // In place, every worker tries; a rolling reload stops at the first one that fails.
      const failures = reload === inPlace ? 2 : 1;
      const failed = await server.modelWhen('adds', 'failures', (model) => model.load_failures === failures);
      expect(failed.versions).to.deep.equal(['2']);
      if (reload === inPlace) {
        const line = await server.event('model could not be reloaded: the old version serves on');
        expect(line).to.include({ model: 'adds', version: '3' }).and.have.property('reason');
      } else {
        const line = await server.event('not reloaded: the old config serves on');
        expect(line.reason).to.include('the model adds cannot be served');
      }
      publish(path, 4, writeOnnx(adds(4)));
      await reload(server);
      await until('replies of version 4', latest(4));
      isOver = true;
      await Promise.all(load);
      let replies = 0;
      for (const client of clients) {
        const values = client.replies.map((reply) => reply.readFloatLE());
        expect(values, 'never back to an older one').to.deep.equal(values.toSorted((a, b) => a - b));
        expect(new Set(values)).to.deep.equal(new Set([1, 2, 4]));
        replies += values.length;
      }
      // The last of the old workers may take a moment to end.
      const isSettled = ({ answered, versions }: ModelMetrics): boolean =>
        answered === replies && versions.length === 1;
      const model = await server.modelWhen('adds', 'all replies', isSettled);
      expect(model).to.deep.include({ requests: replies, failed: 0, expired: 0, loads, versions: ['4'] });
    });
  }
});

describe('a reload of models by hand', function () {
  this.timeout(40_000);
  afterEach(endProcesses);

  const at = new Date('2020-01-01T00:00:00Z');
  /** Replaces a file as an archive, an image or a careful copy does: the new one has the old time and size. */
  const replace = (path: string, content: string | Buffer): void => {
    writeFileSync(`${path}.staged`, content);
    utimesSync(`${path}.staged`, at, at);
    renameSync(`${path}.staged`, path);
  };
  const addsFromFile = (externalFile: string): Buffer =>
    writeOnnx({
      inputs: [{ name: 'x', dtype: 'float32', shape: ['n', 1] }],
      outputs: [{ name: 'y', dtype: 'float32', shape: ['n', 1] }],
      nodes: [{ op: 'Add', inputs: ['x', 'k'], outputs: ['y'] }],
      constants: [{ name: 'k', shape: [1], values: new Float32Array(1), externalFile }],
    });
  const float = (value: number): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(value);
    return bytes;
  };
  const says = (text: string, more = ''): string =>
    `${more}export default () => ({ infer: (rows) => rows.map(() => Buffer.from('${text}')) });`;

  it('serves what lies there now, though the time and the size of a file are the same, and says which', async () => {
    const own = join(folder, 'by-hand');
    mkdirSync(own);
    const [onnx, external, weights, inline, threaded] = ['a.onnx', 'b.onnx', 'weights.bin', 'c.mjs', 'd.mjs'].map(
      (name) => join(own, name),
    ) as [string, string, string, string, string];
    const write = (value: number): void => {
      replace(onnx, writeOnnx(adds(value)));
      replace(weights, float(value));
      replace(inline, says(`say ${value}`));
      replace(threaded, says(`say ${value}`));
    };
    replace(external, addsFromFile('weights.bin'));
    write(1);
    const server = new ModelsServer([
      { name: 'onnx', path: onnx },
      { name: 'external', path: external },
      { name: 'inline', backend: 'module', path: inline, execution: 'inline' },
      { name: 'threaded', backend: 'module', path: threaded, execution: 'thread' },
    ]);
    const answers = async (): Promise<readonly (number | string)[]> =>
      Promise.all(
        ['onnx', 'external', 'inline', 'threaded'].map(async (name) => {
          const client = await server.client(name);
          client.send(float(0));
          const [reply = Buffer.alloc(0)] = await client.replied(1);
          client.destroy();
          return reply.length === 4 ? reply.readFloatLE() : String(reply);
        }),
      );
    expect(await answers()).to.deep.equal([1, 1, 'say 1', 'say 1']);
    expect((await server.operate('reload', '--models')).output).to.equal('no model has changed');
    write(2);
    expect((await server.operate('reload', '--models')).output).to.match(
      /^loaded: onnx .*external .*inline .*threaded/,
    );
    // The models are loaded when the command has ended, and nothing is loaded twice.
    expect(await answers()).to.deep.equal([2, 2, 'say 2', 'say 2']);
    expect((await server.operate('reload', '--models')).output).to.equal('no model has changed');
    replace(weights, float(3));
    expect((await server.operate('reload', '--models')).output).to.equal('loaded: external (unversioned)');
    expect(await answers()).to.deep.equal([2, 3, 'say 2', 'say 2']);
    const loads = await server.modelWhen('onnx', 'its loads', (model) => model.loads === 2);
    expect(loads.load_failures).to.equal(0);
  });

  it('never says done of what it could not load: a broken file, or an import that Node keeps', async () => {
    const own = join(folder, 'kept');
    mkdirSync(own);
    const [model, lib] = [join(own, 'model.mjs'), join(own, 'lib.mjs')];
    const main =
      "import { word } from './lib.mjs';\nexport default () => ({ infer: (rows) => rows.map(() => Buffer.from(word)) });";
    replace(lib, "export const word = 'one';");
    replace(model, main);
    const server = new ModelsServer([{ name: 'mine', backend: 'module', path: model, execution: 'inline' }]);
    const ask = async (): Promise<string> => {
      const client = await server.client('mine');
      client.send(Buffer.from('x'));
      const [reply] = await client.replied(1);
      client.destroy();
      return String(reply);
    };
    expect(await ask()).to.equal('one');
    replace(lib, "export const word = 'two';");
    const kept = await server.operate('reload', '--models');
    expect(kept.code).to.equal(7);
    expect(kept.output).to.include('lib.mjs').and.include('`ml-tcp-server reload` loads it in new workers');
    expect(await ask()).to.equal('one');
    expect(await server.operate('reload')).to.have.property('code', 0);
    expect(await ask()).to.equal('two');
    replace(model, 'no module');
    const broken = await server.operate('reload', '--models');
    expect(broken.code).to.equal(7);
    expect(broken.output).to.include('the model mine could not be reloaded').and.include('the old version serves on');
    expect(await ask()).to.equal('two');
  });
});

describe('overload', () => {
  afterEach(endProcesses);

  it('of three times what a model can serve: each request has its answer, in time, and memory stays', async () => {
    // A run of 8 rows takes 4 ms: at most 2,000 requests a second.
    const server = new ModelsServer([
      {
        name: 'busy',
        backend: 'module',
        path: module('busy'),
        execution: 'thread',
        settings: { ms: 4 },
        maxBatchSize: 8,
        maxQueue: 100_000,
        deadlineMs: 300,
        retryRows: false,
      },
    ]);
    const clients = await Promise.all(Array.from({ length: 6 }, () => server.client('busy')));
    let sent = 0;
    const rss = async (): Promise<number> => (await server.metrics()).workers[0]?.memory ?? 0;
    const until3Seconds = performance.now() + 3000;
    let before = 0;
    // 10 requests each every 10 ms: 6,000 a second, whether they are answered or not.
    while (performance.now() < until3Seconds) {
      for (const client of clients) client.send(...Array.from({ length: 10 }, () => Buffer.from('x')));
      sent += 60;
      if (before === 0 && sent > 6000) before = await rss();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    const memory = await rss();
    await until('all replies', () => clients.reduce((sum, { replies }) => sum + replies.length, 0) === sent);
    const model = await server.modelWhen(
      'busy',
      'all outcomes',
      ({ answered, expired, refused }) => answered + expired + refused.queue_full + refused.overloaded === sent,
    );
    expect(model.refused.overloaded, 'refused at once').to.be.above(model.expired);
    expect(model.failed).to.equal(0);
    expect(model.latency_ms.p99).to.be.below(300);
    expect(memory - before).to.be.below(50e6);
  });
});
