// Batching may not change an answer: what is proved when a model is loaded, and what happens to models that fail it.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { loadOnnxModel } from '#src/inference/backends/onnx.js';
import ort from '#src/inference/backends/onnx-runtime.js';
import type { Batch } from '#src/inference/batch.js';
import type { BatchTolerance, Model } from '#src/inference/model.js';
import { ServedModel } from '#src/inference/served-model.js';
import { findVersion } from '#src/inference/versions.js';
import { ampleRuns } from '../support/batchers.js';
import { temporaryFolder } from '../support/folder.js';
import { bounded, dynamicallyQuantised, type GraphSpec, type NodeSpec, writeOnnx } from '../support/onnx-writer.js';
import { rowsOf } from '../support/rows.js';
import { session } from '../support/session.js';

const folder = temporaryFolder();
let files = 0;
function write(graph: GraphSpec): string {
  const file = join(folder, `${files++}.onnx`);
  writeFileSync(file, writeOnnx(graph));
  return file;
}

/** A float32 model of rows of 4, from `x` to `y`. */
const graph = (nodes: readonly NodeSpec[], more: Partial<GraphSpec> = {}, n: number | string = 'n'): GraphSpec => ({
  inputs: [{ name: 'x', dtype: 'float32', shape: [n, 4] }],
  outputs: [{ name: 'y', dtype: 'float32', shape: null }],
  nodes,
  ...more,
});
const node = (op: string, inputs: string, output: string, attributes: NodeSpec['attributes'] = {}): NodeSpec => ({
  op,
  inputs: inputs.split(' '),
  outputs: [output],
  attributes,
});
const numbers = (name: string, shape: readonly number[], seed = 1) => ({
  name,
  shape,
  values: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(7 * i + seed)),
});

async function load(spec: GraphSpec, tolerance: BatchTolerance = 1e-4, maxBatchSize = 256): Promise<Model> {
  return loadOnnxModel(write(spec), session, { maxBatchSize, tolerance });
}

async function aloneBecause(spec: GraphSpec, tolerance?: BatchTolerance): Promise<string | null> {
  const model = await load(spec, tolerance);
  await model.close();
  return model.runsAloneBecause;
}

/** x + share × the mean of its batch: `share` is how much rows depend on each other. */
const leaning = (share: number): GraphSpec =>
  graph(
    [
      node('ReduceMean', 'x', 'mean', { axes: [0], keepdims: 1 }),
      node('Mul', 'mean share', 'part'),
      node('Add', 'x part', 'y'),
    ],
    { constants: [{ name: 'share', shape: [1], values: Float32Array.of(share) }] },
  );

/** The running sum over the batch of how far x is above the threshold: zeros for rows that are all below. */
const summedAbove = (threshold: number): GraphSpec =>
  graph([node('Sub', 'x threshold', 'over'), node('Relu', 'over', 'part'), node('CumSum', 'part zero', 'y')], {
    constants: [
      { name: 'threshold', shape: [1], values: Float32Array.of(threshold) },
      { name: 'zero', shape: [1], values: BigInt64Array.of(0n) },
    ],
  });

describe('a model whose rows depend on each other runs one request at a time, and says why', () => {
  const dependent: Readonly<Record<string, readonly [GraphSpec, RegExp]>> = {
    'a softmax over the batch': [
      graph([node('Softmax', 'x', 'y', { axis: 0 })]),
      /output y differs by \S+ .* in a batch of 2$/,
    ],
    'a running sum over the batch': [
      graph([node('CumSum', 'x zero', 'y')], {
        constants: [{ name: 'zero', shape: [1], values: BigInt64Array.of(0n) }],
      }),
      /output y differs by/,
    ],
    'a running sum of what is more than 20, as raw pixels are': [summedAbove(20), /output y differs by/],
    'a running sum of what is more than 5000': [summedAbove(5000), /output y differs by/],
    'a scale that is taken from the batch': [dynamicallyQuantised(), /output y differs by/],
    'an output that is one for the whole batch': [
      graph([node('ReduceMean', 'x', 'y', { axes: [0], keepdims: 1 })]),
      /output y has the shape \[1,4\], not \[2,4\], in a batch of 2/,
    ],
    'a second output that is no row of it': [
      {
        ...graph([node('Relu', 'x', 'y'), node('Identity', 'anchors', 'side')]),
        outputs: [
          { name: 'y', dtype: 'float32', shape: ['n', 4] },
          { name: 'side', dtype: 'float32', shape: [1, 3] },
        ],
        constants: [numbers('anchors', [1, 3])],
      },
      /output side has the shape \[1,3\], not \[2,3\]/,
    ],
    'an order of the batch': [
      graph(
        [
          node('Flatten', 'x', 'all', { axis: 0 }),
          node('Softmax', 'all', 'soft', { axis: 1 }),
          node('Reshape', 'soft rows', 'y'),
        ],
        {
          constants: [{ name: 'rows', shape: [2], values: BigInt64Array.of(-1n, 4n) }],
        },
      ),
      /output y differs by/,
    ],
    'a shape that is made for one row': [
      graph([node('Reshape', 'x one', 'y')], {
        constants: [{ name: 'one', shape: [2], values: BigInt64Array.of(1n, 4n) }],
      }),
      /a batch of 2 fails: /,
    ],
    'an infinity that a row has only by itself': [
      graph([
        node('ReduceMean', 'x', 'mean', { axes: [0], keepdims: 1 }),
        node('Sub', 'x mean', 'part'),
        node('Reciprocal', 'part', 'y'),
      ]),
      /output y differs by Infinity/,
    ],
    'a hundredth of what the others are': [leaning(0.01), /output y differs by/],
    'random numbers': [
      graph([node('RandomUniformLike', 'x', 'noise'), node('Add', 'x noise', 'y')]),
      /output y differs by \S+ from that of the row alone when the same row is run alone again/,
    ],
  };
  for (const [what, [spec, reason]] of Object.entries(dependent))
    it(`for ${what}`, async () => expect(await aloneBecause(spec)).to.match(reason));
});

describe('a model whose rows are independent shares its runs', () => {
  const sharing = async (spec: GraphSpec, tolerance?: BatchTolerance): Promise<void> => {
    expect(await aloneBecause(spec, tolerance)).to.equal(null);
  };

  it('with a softmax over each row', () => sharing(graph([node('Softmax', 'x', 'y', { axis: 1 })])));
  it('with layers of any width', () =>
    sharing(
      graph([node('MatMul', 'x w', 'a'), node('Relu', 'a', 'b'), node('MatMul', 'b v', 'y')], {
        constants: [numbers('w', [4, 33]), numbers('v', [33, 3])],
      }),
    ));
  it('with places in a small table: numbers that are none are not tried', () =>
    sharing({
      inputs: [
        { name: 'word', dtype: 'int64', shape: ['n', 8] },
        { name: 'kind', dtype: 'int32', shape: ['n', 8] },
        { name: 'mask', dtype: 'bool', shape: ['n', 8] },
      ],
      outputs: [{ name: 'y', dtype: 'float32', shape: ['n', 8, 5] }],
      constants: [
        numbers('words', [12, 5]),
        numbers('kinds', [2, 5]),
        { name: 'last', shape: [1], values: BigInt64Array.of(-1n) },
      ],
      nodes: [
        node('Gather', 'words word', 'a'),
        node('Gather', 'kinds kind', 'b'),
        node('Add', 'a b', 'sum'),
        node('Cast', 'mask', 'm', { to: 1 }),
        node('Unsqueeze', 'm last', 'wide'),
        node('Mul', 'sum wide', 'y'),
      ],
    }));

  it('when they differ by no more than is tolerated; bit for bit when that is asked for', async () => {
    expect(await aloneBecause(leaning(1e-6))).to.equal(null);
    expect(await aloneBecause(leaning(1e-6), 'exact')).to.match(/output y differs by some bits/);
    expect(await aloneBecause(leaning(1e-3), 1e-2)).to.equal(null);
    await sharing(graph([node('Relu', 'x', 'y')]), 'exact');
  });
});

describe('a model with a batch of a fixed size', () => {
  it('is served when its rows are independent, whatever is beside them', async () => {
    const model = await load(graph([node('Softmax', 'x', 'y', { axis: 1 })], {}, 4));
    expect([model.fixedRows, model.runsAloneBecause]).to.deep.equal([4, null]);
    await model.close();
  });

  it('is refused when they are not: it cannot run one alone', async () => {
    const failure = await load(graph([node('Softmax', 'x', 'y', { axis: 0 })], {}, 4)).catch(
      (error: Error) => error.message,
    );
    expect(failure).to.match(
      /its batch has a fixed size of 4, and its rows are not independent: the output y differs by/,
    );
    expect(failure).to.match(/export it with a dynamic batch dimension, or with one of 1$/);
  });

  it('of 1 is nothing to prove', async () => {
    const model = await load(graph([node('Softmax', 'x', 'y', { axis: 0 })], {}, 1));
    expect([model.fixedRows, model.runsAloneBecause]).to.deep.equal([1, null]);
    await model.close();
  });
});

const rowOf = (values: readonly number[]): Buffer => Buffer.from(Float32Array.from(values).buffer);

/** Sends all rows in one turn; resolves to the answer of each. */
async function answers(served: ServedModel, rows: readonly Buffer[]): Promise<readonly (Float32Array | null)[]> {
  const replies = rows.map(
    (row) =>
      new Promise<Float32Array | null>((resolve) => {
        const batch = served.batcher.openBatch(served);
        if (batch === null) throw new Error('the queue is full');
        const entry = {
          arrivedAt: performance.now(),
          requests: 1,
          rows: 1,
          first: batch.rows,
          split: () => expect.fail('it has one row'),
          moved: () => {},
          settled: () => resolve(replyIn(batch, entry.first)),
          expired: () => resolve(null),
        };
        batch.enter(entry);
        batch.add(row, 0, row.length);
        batch.retain();
      }),
  );
  return Promise.all(replies);
}

function replyIn({ outcome }: Batch, row: number): Float32Array | null {
  if (outcome === null || outcome.kind === 'failed') return null;
  const bytes =
    outcome.kind === 'uniform'
      ? outcome.bytes.subarray(row * outcome.stride, row * outcome.stride + outcome.rowBytes)
      : outcome.rows[row];
  return bytes instanceof Uint8Array ? new Float32Array(new Uint8Array(bytes).buffer) : null;
}

const serving = {
  maxBatchSize: 16,
  maxQueue: 1000,
  maxQueueDelayMs: 0,
  deadlineMs: 0,
  retryRows: true,
  ...ampleRuns,
  execution: 'inline',
  threads: 1,
  inlineLimitMs: 1000,
  hangTimeoutMs: 60_000,
  loadTimeoutMs: 60_000,
  maxHungThreads: 1,
  admit: () => {},
  source: { name: 'm', backend: 'onnx', responseSize: 1, settings: {}, session, batchTolerance: 1e-4 },
} as const;

async function served(spec: GraphSpec, use: (model: ServedModel, alone: ort.InferenceSession) => Promise<void>) {
  const file = write(spec);
  const quiet = { onBatch: () => {}, onThreadCrash: () => {}, onThreadHang: () => {}, onThreadHangOver: () => {} };
  const model = await ServedModel.open(serving, findVersion(file, 'latest'), quiet);
  const alone = await ort.InferenceSession.create(file);
  try {
    await use(model, alone);
  } finally {
    await model.close();
    await alone.release();
  }
}

/** ONNX Runtime's own answer to a single row; null when it fails. */
async function referenceOf(alone: ort.InferenceSession, row: Buffer): Promise<Float32Array | null> {
  const data = new Float32Array(new Uint8Array(row).buffer);
  const { y } = await alone
    .run({ x: new ort.Tensor('float32', data, [1, data.length]) })
    .catch(() => ({ y: undefined }));
  return y === undefined ? null : (y.data as Float32Array);
}

function areClose(a: Float32Array | null, b: Float32Array | null): boolean {
  if (a === null || b === null) return a === b;
  const scale = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return (
    a.length === b.length &&
    a.every((value, i) => Object.is(value, b[i]) || Math.abs(value - (b[i] as number)) <= 1e-3 * scale)
  );
}

describe('what comes out of a run is checked', () => {
  it('rows that a batch loses fail it, and are run again by themselves: no reply is the one of another row', () =>
    served(bounded, async (model, alone) => {
      expect(model.runsAloneBecause).to.equal(null);
      const rows = [1, 2, 2000, 3, 4].map((value) => rowOf([value, 0, 0, 0]));
      const replies = await answers(model, rows);
      expect(replies[2]).to.equal(null);
      for (const i of [0, 1, 3, 4])
        expect(replies[i], `row ${i}`).to.deep.equal(await referenceOf(alone, rows[i] as Buffer));
    }));

  it('and the failure names the output, its shape, and what it should be', async () => {
    const model = await load(bounded);
    const row = rowOf([2000, 0, 0, 0]);
    const failure = await Promise.resolve(model.run(rowsOf([row, row]))).catch((error: Error) => error.message);
    expect(failure).to.match(/^the output y has the shape \[0,4\] for a batch of 2, not \[2,4\]/);
    await model.close();
  });
});

/** x float32[4] → the places where it exceeds the limit, int64[k, 2]: the data decides how many. */
const found = (limit: number, n: number | string): GraphSpec => ({
  inputs: [{ name: 'x', dtype: 'float32', shape: [n, 4] }],
  outputs: [{ name: 'y', dtype: 'int64', shape: [1, 'k', 2] }],
  constants: [
    { name: 'limit', shape: [1], values: Float32Array.of(limit) },
    { name: 'front', shape: [1], values: BigInt64Array.of(0n) },
  ],
  nodes: [
    node('Greater', 'x limit', 'is'),
    node('NonZero', 'is', 'at'),
    node('Transpose', 'at', 'places'),
    node('Unsqueeze', 'places front', 'y'),
  ],
});

/** x float32[4] → x, cut to the columns in which no row of the batch exceeds the limit: [n, k]. */
const cut = (limit: number): GraphSpec => ({
  inputs: [{ name: 'x', dtype: 'float32', shape: ['n', 4] }],
  outputs: [{ name: 'y', dtype: 'float32', shape: ['n', 'k'] }],
  constants: [{ name: 'limit', shape: [1], values: Float32Array.of(limit) }],
  nodes: [
    node('ReduceMax', 'x', 'most', { axes: [0], keepdims: 0 }),
    node('Less', 'most limit', 'isSmall'),
    { op: 'Compress', inputs: ['x', 'isSmall'], outputs: ['y'], attributes: { axis: 1 } },
  ],
});

describe('a model whose answers are as long as the data says', () => {
  const some = [
    rowOf([9e6, 9e6, 9e6, -1]),
    rowOf([-1, 9e6, -1, -1]),
    rowOf([9e6, -1, -1, 9e6]),
    rowOf([-1, -1, -1, -1]),
  ];
  const lengths = [48, 16, 32, 0];
  for (const [what, spec] of Object.entries({
    'a fixed batch of 1, and rows that show it': found(0, 1),
    'a fixed batch of 1, and rows that do not show it': found(1e6, 1),
    'a dynamic batch, and rows that show it': found(0, 'n'),
    'a dynamic batch, and rows that do not show it': found(1e6, 'n'),
  }))
    it(`gives each client its own bytes: ${what}`, () =>
      served(spec, async (model, alone) => {
        const replies = await answers(model, some);
        expect(replies.map((reply) => reply?.byteLength)).to.deep.equal(lengths);
        for (const [i, row] of some.entries()) {
          const x = new ort.Tensor('float32', new Float32Array(new Uint8Array(row).buffer), [1, 4]);
          const { data } = (await alone.run({ x })).y as ort.Tensor;
          const { buffer, byteOffset, byteLength } = data as BigInt64Array<ArrayBuffer>;
          const expected = Buffer.from(buffer, byteOffset, byteLength);
          expect(Buffer.from(new Uint8Array(replies[i]?.buffer ?? new ArrayBuffer(1))), `row ${i}`).to.deep.equal(
            expected,
          );
        }
      }));

  it('gives a row that changes the length of its batch to each its own, by a run of its own', () =>
    served(cut(1e6), async (model, alone) => {
      expect(model.runsAloneBecause).to.equal(null);
      const rows = [rowOf([1, 2, 3, 4]), rowOf([5, 9e6, 9e6, 6]), rowOf([7, 8, 9, 10])];
      const replies = await answers(model, rows);
      expect(replies.map((reply) => reply?.length)).to.deep.equal([4, 2, 4]);
      for (const [i, row] of rows.entries()) expect(replies[i]).to.deep.equal(await referenceOf(alone, row));
    }));
});

/** One step of a random graph: nodes from the tensor `from` to the tensor `to`, both float32 [rows, columns]. */
type Step = (from: string, to: string, columns: number, id: string) => readonly NodeSpec[];
const wrap =
  (inner: (from: string, to: string, id: string) => NodeSpec[]): Step =>
  (from, to, _columns, id) =>
    inner(from, to, id);
const overBatch = (op: string, back: string): Step =>
  wrap((from, to, id) => [node(op, from, `${id}m`, { axes: [0], keepdims: 1 }), node(back, `${from} ${id}m`, to)]);
const steps: Readonly<Record<string, Step>> = {
  relu: wrap((from, to) => [node('Relu', from, to)]),
  tanh: wrap((from, to) => [node('Tanh', from, to)]),
  matmul: wrap((from, to) => [node('MatMul', `${from} w`, to)]),
  add: wrap((from, to) => [node('Add', `${from} b`, to)]),
  softmax1: wrap((from, to) => [node('Softmax', from, to, { axis: 1 })]),
  softmax0: wrap((from, to) => [node('Softmax', from, to, { axis: 0 })]),
  cumsum1: wrap((from, to) => [node('CumSum', `${from} one`, to)]),
  cumsum0: wrap((from, to) => [node('CumSum', `${from} zero`, to)]),
  meanOfRow: wrap((from, to, id) => [
    node('ReduceMean', from, `${id}m`, { axes: [1], keepdims: 1 }),
    node('Sub', `${from} ${id}m`, to),
  ]),
  meanOfBatch: overBatch('ReduceMean', 'Sub'),
  largestOfBatch: overBatch('ReduceMax', 'Sub'),
  normOfBatch: overBatch('ReduceL2', 'Div'),
  onlyMean: wrap((from, to) => [node('ReduceMean', from, to, { axes: [0], keepdims: 1 })]),
  flipped: wrap((from, to, id) => [
    node('Transpose', from, `${id}t`),
    node('Softmax', `${id}t`, `${id}s`, { axis: 0 }),
    node('Transpose', `${id}s`, to),
  ]),
  turned: wrap((from, to) => [node('Transpose', from, to)]),
  twice: wrap((from, to) => [node('Concat', `${from} ${from}`, to, { axis: 0 })]),
  backwards: wrap((from, to) => [node('Slice', `${from} last before zero back`, to)]),
  firstOnly: wrap((from, to, id) => [
    node('Gather', `${from} zero`, `${id}f`, { axis: 0 }),
    node('Add', `${from} ${id}f`, to),
  ]),
  sorted: wrap((from, to, id) => [
    node('Shape', from, `${id}s`),
    node('Gather', `${id}s zero`, `${id}n`, { axis: 0 }),
    { op: 'TopK', inputs: [from, `${id}n`], outputs: [to, `${id}i`], attributes: { axis: 0 } },
  ]),
  quantised: wrap((from, to, id) => [
    { op: 'DynamicQuantizeLinear', inputs: [from], outputs: [`${id}q`, `${id}s`, `${id}z`] },
    { op: 'DequantizeLinear', inputs: [`${id}q`, `${id}s`, `${id}z`], outputs: [to] },
  ]),
  places: wrap((from, to, id) => [
    node('NonZero', from, `${id}z`),
    node('Transpose', `${id}z`, `${id}t`),
    node('Cast', `${id}t`, to, { to: 1 }),
  ]),
};
const constants = [
  numbers('w', [4, 4]),
  numbers('b', [4], 3),
  ...Object.entries({ zero: 0n, one: 1n, last: -1n, before: -1000n, back: -1n }).map(([name, value]) => ({
    name,
    shape: [1],
    values: BigInt64Array.of(value),
  })),
];

describe('any small graph', () => {
  it('answers pipelined requests as it answers each alone, or is refused with a reason', async function () {
    this.timeout(60_000);
    const outcomes = { shares: 0, alone: 0, refused: 0 };
    const chains = fc.array(fc.constantFrom(...Object.keys(steps)), { minLength: 1, maxLength: 4 });
    const values = fc.array(fc.float({ noNaN: true, min: -8, max: 8 }), { minLength: 4, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(chains, fc.array(values, { minLength: 2, maxLength: 16 }), async (chain, rows) => {
        const nodes = chain.flatMap((name, i) =>
          (steps[name] as Step)(i === 0 ? 'x' : `t${i - 1}`, i === chain.length - 1 ? 'y' : `t${i}`, 4, `s${i}`),
        );
        const payloads = rows.map(rowOf);
        let isServed = false;
        const used = new Set(nodes.flatMap(({ inputs }) => inputs));
        const spec = graph(nodes, { constants: constants.filter(({ name }) => used.has(name)) });
        const failure = await served(spec, async (model, alone) => {
          isServed = true;
          outcomes[model.runsAloneBecause === null ? 'shares' : 'alone']++;
          const replies = await answers(model, payloads);
          for (const [i, payload] of payloads.entries()) {
            const reference = await referenceOf(alone, payload);
            if (!areClose(replies[i] ?? null, reference))
              throw new Error(`row ${i} of ${rows.length}: ${replies[i]}, alone ${reference}; ${model.description}`);
          }
        }).then(
          () => null,
          (error: Error) => error,
        );
        if (failure === null) return;
        if (isServed) throw failure;
        outcomes.refused++;
        expect(failure.message).to.have.length.above(10);
      }),
      { numRuns: 150 },
    );
    expect(outcomes.shares, 'graphs that share runs').to.be.above(3);
    expect(outcomes.alone, 'graphs that run alone').to.be.above(3);
  });
});
