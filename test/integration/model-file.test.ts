// What a server makes of a model file before ONNX Runtime loads it, and of what the runtime prints, in real processes.

import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { temporaryFolder } from '../support/folder.js';
import { type GraphSpec, writeOnnx } from '../support/onnx-writer.js';
import { endProcesses } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { type LogLine, TestServer } from '../support/server.js';

const folder = temporaryFolder();
let files = 0;

function write(graph: GraphSpec): string {
  const path = join(folder, `${files++}.onnx`);
  writeFileSync(path, writeOnnx(graph));
  return path;
}

class ModelServer extends TestServer {
  constructor(models: readonly Record<string, unknown>[]) {
    const config = join(folder, `config-${files++}.json`);
    const listeners = models.map(({ name }) => ({ host: '127.0.0.1', port: 0, model: name }));
    writeFileSync(
      config,
      JSON.stringify({ models: models.map((model) => ({ backend: 'onnx', ...model })), listeners }),
    );
    super({ args: ['--config', config], env: { WORKERS: '1' }, hasListeners: true });
  }

  async ask(model: string, ...payloads: readonly Buffer[]): Promise<readonly Buffer[]> {
    const { tcp } = (await this.event('ready')) as LogLine & { tcp: readonly string[] };
    const line = tcp.find((text) => text.endsWith(`→ ${model}`));
    const client = await RawClient.connect(Number(/:(\d+) /.exec(line ?? '')?.[1]));
    client.send(...payloads);
    const replies = await client.replied(payloads.length);
    client.end();
    await client.closed;
    return replies;
  }
}

/** x float32[n, 2] → a map for each row, from `b` and `a` to the numbers that `op` makes of x. */
const zipped = (op: 'Identity' | 'Neg'): GraphSpec => ({
  inputs: [{ name: 'x', dtype: 'float32', shape: ['n', 2] }],
  outputs: [{ name: 'scores', keys: 'string' }],
  nodes: [
    { op, inputs: ['x'], outputs: ['inner'] },
    {
      op: 'ZipMap',
      domain: 'ai.onnx.ml',
      inputs: ['inner'],
      outputs: ['scores'],
      attributes: { classlabels_strings: ['b', 'a'] },
    },
  ],
});

/** i int32[n, 2] → two of three numbers; it declares fewer rows than it returns, and has a weight that is not used. */
const warning: GraphSpec = {
  inputs: [{ name: 'i', dtype: 'int32', shape: ['n', 2] }],
  outputs: [{ name: 'y', dtype: 'float32', shape: [1, 2] }],
  constants: [
    { name: 'table', shape: [3], values: Float32Array.of(5, 6, 7) },
    { name: 'unused', shape: [1], values: Float32Array.of(1) },
  ],
  nodes: [{ op: 'Gather', inputs: ['table', 'i'], outputs: ['y'] }],
};

const floats = (...values: readonly number[]): Buffer => Buffer.from(Float32Array.from(values).buffer);
const places = (...values: readonly number[]): Buffer => Buffer.from(Int32Array.from(values).buffer);
const numbersIn = (reply: Buffer | undefined): readonly number[] => [
  ...new Float32Array(Uint8Array.from(reply ?? []).buffer),
];

describe('a server', () => {
  afterEach(endProcesses);

  for (const execution of ['inline', 'thread']) {
    it(`serves a classifier with ZipMap as a tensor, ${execution}, and its new version after a reload`, async () => {
      const path = write(zipped('Identity'));
      const server = new ModelServer([{ name: 'animals', path, execution }]);
      const replies = await server.ask('animals', floats(1, 2), floats(3, 4));
      expect(replies.map(numbersIn)).to.deep.equal([
        [1, 2],
        [3, 4],
      ]);
      renameSync(write(zipped('Neg')), path);
      expect((await server.operate('reload', '--models')).code).to.equal(0);
      expect((await server.ask('animals', floats(1, 2))).map(numbersIn)).to.deep.equal([[-1, -2]]);
    });

    it(`logs what ONNX Runtime says as lines of its own log alone, ${execution}`, async () => {
      const server = new ModelServer([
        { name: 'table', path: write(warning), execution, maxBatchSize: 8, retryRows: true },
      ]);
      const good = await server.ask('table', places(0, 1), places(2, 2), places(1, 0));
      expect(good.map(numbersIn)).to.deep.equal([
        [5, 6],
        [7, 7],
        [6, 5],
      ]);
      expect(await server.ask('table', places(0, 99))).to.deep.equal([Buffer.alloc(0)]);
      const { err } = (await server.event('inference failed')) as LogLine & { err: { message: string } };
      expect(err.message).to.match(/Gather.*idx=99 must be within the inclusive range/);
      server.signal('SIGTERM');
      expect((await server.ended()).code).to.equal(0);
      expect(server.lines.filter((line) => !line.startsWith('{'))).to.deep.equal([]);
    });
  }
});
