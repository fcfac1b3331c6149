import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { loadModel, type ModelSource } from '#src/inference/backends/load.js';
import { Batch } from '#src/inference/batch.js';
import type { Model } from '#src/inference/model.js';
import { ThreadedModel } from '#src/inference/threads/host.js';
import { ampleCurve } from '../support/batchers.js';
import { temporaryFolder } from '../support/folder.js';
import { writeOnnx } from '../support/onnx-writer.js';
import { root } from '../support/processes.js';
import { repliesOf, rowsOf } from '../support/rows.js';
import { session } from '../support/session.js';

const folder = temporaryFolder();
const doubler = join(folder, 'doubler.onnx');
writeFileSync(
  doubler,
  writeOnnx({
    inputs: [{ name: 'x', dtype: 'uint8', shape: ['n', 4] }],
    outputs: [{ name: 'y', dtype: 'uint8', shape: ['n', 8] }],
    nodes: [{ op: 'Concat', inputs: ['x', 'x'], outputs: ['y'], attributes: { axis: 1 } }],
  }),
);

const passing = (op: string): string => {
  const path = join(folder, `${op}.onnx`);
  const tensor = { dtype: 'uint8', shape: ['n', 4] } as const;
  const x = { name: 'x', ...tensor };
  const isNothing = op === 'nothing';
  writeFileSync(
    path,
    writeOnnx({
      inputs: [x],
      outputs: isNothing ? [x] : [{ name: 'y', ...tensor }],
      nodes: isNothing ? [] : [{ op, inputs: ['x'], outputs: ['y'] }],
    }),
  );
  return path;
};

const common = { name: 'm', responseSize: 3, settings: {}, session, batchTolerance: 1e-4 };
interface Backend {
  readonly source: ModelSource;
  /** The answer that the model must give to a payload, in hexadecimal digits. */
  reply(payload: Buffer): string;
  /** A source of the same backend that cannot be loaded, and what its error must say. */
  readonly broken?: { readonly source: ModelSource; readonly says: RegExp };
}

const backends: Readonly<Record<string, Backend>> = {
  dummy: {
    source: { ...common, backend: 'dummy', path: '' },
    reply: () => Buffer.from('XXX').toString('hex'),
  },
  onnx: {
    source: { ...common, backend: 'onnx', path: doubler },
    reply: (payload) => Buffer.concat([payload, payload]).toString('hex'),
    broken: {
      source: { ...common, backend: 'onnx', path: join(folder, 'missing.onnx') },
      says: /there is no model file at .*missing\.onnx/,
    },
  },
  'onnx, its input passed on': {
    source: { ...common, backend: 'onnx', path: passing('Identity') },
    reply: (payload) => payload.toString('hex'),
  },
  'onnx, its input reshaped': {
    source: { ...common, backend: 'onnx', path: passing('Flatten') },
    reply: (payload) => payload.toString('hex'),
  },
  'onnx, its input as output': {
    source: { ...common, backend: 'onnx', path: passing('nothing') },
    reply: (payload) => payload.toString('hex'),
  },
  module: {
    source: { ...common, backend: 'module', path: `${root}test/support/models/echo.mjs` },
    reply: (payload) => payload.toString('hex'),
    broken: {
      source: { ...common, backend: 'module', path: join(folder, 'missing.mjs') },
      says: /there is no module at .*missing\.mjs/,
    },
  },
};

const openers: Readonly<Record<string, (source: ModelSource) => Promise<Model>>> = {
  inline: (source) => loadModel(source, 8),
  'in a thread': (source) =>
    ThreadedModel.open(source, {
      threads: 1,
      maxBatchSize: 8,
      curve: ampleCurve,
      hangTimeoutMs: 60_000,
      loadTimeoutMs: 60_000,
      maxHungThreads: 4,
      onCrash: () => {},
      onHang: () => {},
      onHangOver: () => {},
    }),
};

for (const [name, { source, reply, broken }] of Object.entries(backends)) {
  for (const [where, open] of Object.entries(openers)) {
    describe(`the backend ${name}, ${where}`, () => {
      let model: Model | undefined;
      afterEach(async () => {
        await model?.close();
        model = undefined;
      });

      it('answers every row of a batch, in order, at every batch size', async () => {
        model = await open(source);
        for (const size of [1, 2, 3, 7, 64, 1000]) {
          const payloads = Array.from({ length: size }, (_, i) => Buffer.from(i.toString(16).padStart(4, '0')));
          const replies = await model.run(rowsOf(payloads));
          expect(repliesOf(replies, size), `${size} rows`).to.deep.equal(payloads.map(reply));
        }
      });

      it('gives what it answered away: a later run does not change it', async () => {
        model = await open(source);
        const first = await model.run(rowsOf([Buffer.from('abcd')]));
        const seen = repliesOf(first, 1);
        await model.run(rowsOf([Buffer.from('efgh')]));
        expect(repliesOf(first, 1)).to.deep.equal(seen);
      });

      it('lets the memory of a batch be used again after its run, unless it says that replies may lie in it', async () => {
        model = await open(source);
        const payload = Buffer.from('abcd');
        const batch = new Batch(model.inputBytes, Buffer.alloc(64));
        batch.add(payload, 0, payload.length);
        batch.retain();
        const replies = await model.run(batch);
        if (!model.mayReplyWithInput) batch.memory.fill(0xdd);
        expect(repliesOf(replies, 1)).to.deep.equal([reply(payload)]);
      });

      it('says what it is and what it takes', async () => {
        model = await open(source);
        expect(model.description).to.match(new RegExp(`^${source.backend}\\b`));
        expect(model.inputBytes).to.equal(source.backend === 'onnx' ? 4 : null);
        expect(model.concurrency).to.equal(1);
      });

      if (broken !== undefined)
        it('says why it cannot be loaded', async () => {
          const opened = open(broken.source).then(
            () => 'loaded',
            (error: Error) => error.message,
          );
          expect(await opened).to.match(broken.says);
        });

      if (name === 'module')
        it('fails one row for an Error in its place, and a batch for a throw', async () => {
          model = await open(source);
          const replies = await model.run(rowsOf([Buffer.from('a'), Buffer.from('bad'), Buffer.from('b')]));
          expect(repliesOf(replies, 3)).to.deep.equal(['61', 'Error: bad row', '62']);
          const failure = await Promise.resolve()
            .then(() => model?.run(rowsOf([Buffer.from('a'), Buffer.from('poison')])))
            .catch((error: Error) => error);
          expect(failure).to.be.an('error').with.property('message', 'poisoned');
          expect(repliesOf(await model.run(rowsOf([Buffer.from('c')])), 1)).to.deep.equal(['63']);
        });
    });
  }
}
