// Random graphs of small operators over tensors of random shapes: whatever is found of them, a request is answered as
// ONNX Runtime answers it by itself, or the model is refused.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { loadOnnxModel } from '#src/inference/backends/onnx.js';
import ort from '#src/inference/backends/onnx-runtime.js';
import type { Replies } from '#src/inference/batch.js';
import type { Model } from '#src/inference/model.js';
import { noOverrides } from '#src/inference/overrides.js';
import type { ModelPlan } from '#src/inference/plan.js';
import { temporaryFolder } from '../support/folder.js';
import { type GraphSpec, type NodeSpec, writeOnnx } from '../support/onnx-writer.js';
import { rowsOf } from '../support/rows.js';
import { session } from '../support/session.js';

const folder = temporaryFolder();

const node = (op: string, inputs: string, output: string, attributes: NodeSpec['attributes'] = {}): NodeSpec => ({
  op,
  inputs: inputs.split(' '),
  outputs: [output],
  attributes,
});

/** Nodes from the tensor `x` to the tensor `y`; `id` makes the names between them unique. */
type Step = (x: string, y: string, id: string) => readonly NodeSpec[];
const along =
  (op: string, axis: number): Step =>
  (x, y) => [node(op, x, y, { axis })];
const minus =
  (op: string, axis: number): Step =>
  (x, y, id) => [node(op, x, `${id}m`, { axes: [axis], keepdims: 1 }), node('Sub', `${x} ${id}m`, y)];
const reduced =
  (op: string, axis: number, keepdims: number): Step =>
  (x, y) => [node(op, x, y, { axes: [axis], keepdims })];

const steps: Readonly<Record<string, Step>> = {
  relu: (x, y) => [node('Relu', x, y)],
  tanh: (x, y) => [node('Tanh', x, y)],
  matmul: (x, y) => [node('MatMul', `${x} w`, y)],
  softmax0: along('Softmax', 0),
  softmax1: along('Softmax', 1),
  softmaxLast: along('Softmax', -1),
  cumsum0: (x, y) => [node('CumSum', `${x} zero`, y)],
  cumsum1: (x, y) => [node('CumSum', `${x} one`, y)],
  lessMean0: minus('ReduceMean', 0),
  lessMean1: minus('ReduceMean', 1),
  lessMost0: minus('ReduceMax', 0),
  mean0: reduced('ReduceMean', 0, 0),
  mean1: reduced('ReduceMean', 1, 0),
  most1: reduced('ReduceMax', 1, 1),
  sumLast: reduced('ReduceMax', -1, 1),
  squeeze: (x, y) => [node('Squeeze', x, y)],
  front: (x, y) => [node('Unsqueeze', `${x} zero`, y)],
  turned: (x, y) => [node('Transpose', x, y)],
  flat: (x, y) => [node('Reshape', `${x} all`, y)],
  fours: (x, y) => [node('Reshape', `${x} fours`, y)],
  rows: (x, y) => [node('Reshape', `${x} rows`, y)],
  twice0: (x, y) => [node('Concat', `${x} ${x}`, y, { axis: 0 })],
  twice1: (x, y) => [node('Concat', `${x} ${x}`, y, { axis: 1 })],
  first0: (x, y, id) => [node('Gather', `${x} zero`, `${id}f`, { axis: 0 }), node('Add', `${x} ${id}f`, y)],
  first1: (x, y) => [node('Gather', `${x} zero`, y, { axis: 1 })],
  backwards: (x, y) => [node('Slice', `${x} last before zero back`, y)],
  cut: (x, y) => [node('Slice', `${x} zero two one`, y)],
  places: (x, y, id) => [
    node('Relu', x, `${id}r`),
    node('NonZero', `${id}r`, `${id}z`),
    node('Cast', `${id}z`, y, { to: 1 }),
  ],
  sorted: (x, y, id) => [
    node('Shape', x, `${id}s`),
    node('Gather', `${id}s zero`, `${id}n`, { axis: 0 }),
    { op: 'TopK', inputs: [x, `${id}n`], outputs: [y, `${id}i`], attributes: { axis: 0 } },
  ],
  boxes: (x, y, id) => [
    node('Reshape', `${x} boxes`, `${id}b`),
    node('ReduceMax', `${id}b`, `${id}s`, { axes: [2], keepdims: 1 }),
    node('Transpose', `${id}s`, `${id}t`, { perm: [0, 2, 1] }),
    node('NonMaxSuppression', `${id}b ${id}t three`, `${id}n`),
    node('Cast', `${id}n`, y, { to: 1 }),
  ],
  quantised: (x, y, id) => [
    { op: 'DynamicQuantizeLinear', inputs: [x], outputs: [`${id}q`, `${id}s`, `${id}z`] },
    { op: 'DequantizeLinear', inputs: [`${id}q`, `${id}s`, `${id}z`], outputs: [y] },
  ],
  /** Rows depend on each other when there are more than five along axis 1. */
  long: (x, y, id) => [
    node('Shape', x, `${id}s`),
    node('Gather', `${id}s one`, `${id}n`, { axis: 0 }),
    node('Greater', `${id}n five`, `${id}l`),
    node('Cast', `${id}l`, `${id}f`, { to: 1 }),
    node('ReduceMean', x, `${id}m`, { axes: [0], keepdims: 1 }),
    node('Mul', `${id}m ${id}f`, `${id}p`),
    node('Add', `${x} ${id}p`, y),
  ],
};

const constants = [
  { name: 'w', shape: [4, 4], values: Float32Array.from({ length: 16 }, (_, i) => Math.sin(7 * i + 1)) },
  ...Object.entries({
    zero: [0],
    one: [1],
    two: [2],
    three: [3],
    five: [5],
    last: [-1],
    back: [-1],
    before: [-1000],
    all: [-1],
    fours: [-1, 4],
    rows: [0, -1],
    boxes: [1, -1, 4],
  }).map(([name, values]) => ({ name, shape: [values.length], values: BigInt64Array.from(values.map(BigInt)) })),
];

type Dims = readonly (number | string)[];
/** What an input `x` may look like, and a second one beside it. */
const shapes: readonly Dims[] = [
  ['n', 4],
  [4, 'n'],
  ['', 4],
  ['', ''],
  ['batch', 'seq'],
  ['n', 'n'],
  ['', '', 4],
  ['t', 'batch', 4],
  [1, 't'],
  [1, 't', 4],
  [2, 4],
  ['n'],
];
const seconds: readonly (Dims | null)[] = [null, null, null, [], [4], ['n', 4], ['', ''], [2, '', 4]];

function graphOf(chain: readonly string[], x: Dims, k: Dims | null): GraphSpec {
  const nodes = chain.flatMap((name, i) =>
    (steps[name] as Step)(i === 0 ? 'x' : `t${i - 1}`, i === chain.length - 1 && k === null ? 'y' : `t${i}`, `s${i}`),
  );
  const all = k === null ? nodes : [...nodes, node('Add', `t${chain.length - 1} k`, 'y')];
  const used = new Set(all.flatMap(({ inputs }) => inputs));
  return {
    inputs: [
      { name: 'x', dtype: 'float32', shape: x },
      ...(k === null ? [] : [{ name: 'k', dtype: 'float32' as const, shape: k }]),
    ],
    outputs: [{ name: 'y', dtype: 'float32', shape: null }],
    nodes: all,
    constants: constants.filter(({ name }) => used.has(name)),
  };
}

/** A request with this size of the dimension that a payload leaves open, and the tensors that it stands for. */
function requestOf(plan: ModelPlan, size: number, random: () => number) {
  const feeds: Record<string, ort.Tensor> = {};
  const payload: Buffer[] = [];
  const padding = plan.fixedBatch ?? 1;
  for (const { name, requestDims } of plan.inputs) {
    const dims = requestDims.map((dim) => (typeof dim === 'number' ? dim : size));
    const data = Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, random);
    const whole = new Float32Array(data.length * padding);
    whole.set(data);
    feeds[name] = new ort.Tensor('float32', whole, padding === 1 ? dims : [padding, ...dims.slice(1)]);
    payload.push(Buffer.from(data.buffer));
  }
  return { payload: Buffer.concat(payload), feeds };
}

/** Runs a batch; where it fails as a whole, each request is run again by itself, as the server does. */
async function answers(model: Model, payloads: readonly Buffer[]): Promise<readonly (Buffer | null)[]> {
  const replies: (Buffer | null)[] = [];
  const all = await Promise.resolve(model.run(rowsOf(payloads))).then(repliesIn(payloads.length), () => null);
  for (const [i, payload] of payloads.entries()) {
    const reply = all?.[i];
    if (reply !== undefined && !(reply instanceof Error)) replies.push(Buffer.from(reply));
    else {
      const [again] = await Promise.resolve(model.run(rowsOf([payload]))).then(repliesIn(1), (error: Error) => [error]);
      replies.push(again === undefined || again instanceof Error ? null : Buffer.from(again));
    }
  }
  return replies;
}

const repliesIn =
  (rows: number) =>
  (replies: Replies): readonly (Uint8Array | Error)[] => {
    if (replies.kind === 'rows') return replies.rows;
    const { bytes, rowBytes, stride } = replies;
    return Array.from({ length: rows }, (_, i) => bytes.subarray(i * stride, i * stride + rowBytes));
  };

function areClose(a: Buffer | null, b: Float32Array | null): boolean {
  if (a === null || b === null) return a === b;
  const values = new Float32Array(new Uint8Array(a).buffer);
  const scale = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return (
    values.length === b.length &&
    values.every((value, i) => Object.is(value, b[i]) || Math.abs(value - (b[i] as number)) <= 1e-3 * scale)
  );
}

function numbers(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x297a2d39;
    return ((state >>> 0) / 2 ** 32 - 0.5) * 16;
  };
}

describe('any graph of small operators over tensors of any shape', () => {
  it('answers each request as ONNX Runtime answers it alone, or is refused with a reason', async function () {
    this.timeout(120_000);
    const outcomes = { shares: 0, otherAxis: 0, alone: 0, refused: 0 };
    let files = 0;
    const chains = fc.array(fc.constantFrom(...Object.keys(steps)), { minLength: 1, maxLength: 3 });
    const sizes = fc.array(fc.integer({ min: 1, max: 8 }), { minLength: 2, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(
        chains,
        fc.constantFrom(...shapes),
        fc.constantFrom(...seconds),
        sizes,
        fc.integer(),
        async (chain, x, k, requestSizes, seed) => {
          const file = join(folder, `${files++}.onnx`);
          writeFileSync(file, writeOnnx(graphOf(chain, x, k)));
          const settings = { maxBatchSize: 16, tolerance: 1e-4, overrides: noOverrides };
          const model = await loadOnnxModel(file, session, settings).catch((error: Error) => error);
          if (model instanceof Error) {
            outcomes.refused++;
            expect(model.message).to.have.length.above(10);
            return;
          }
          const alone = await ort.InferenceSession.create(file, { logSeverityLevel: 4 });
          try {
            const plan = model.plan as ModelPlan;
            const [{ batchAxis }] = plan.inputs as [ModelPlan['inputs'][number]];
            if (plan.runsAloneBecause !== null) outcomes.alone++;
            else
              outcomes[plan.outputs.some((one) => one.batchAxis !== 0) || batchAxis !== 0 ? 'otherAxis' : 'shares']++;
            const random = numbers(seed);
            const requests = requestSizes.map((size) => requestOf(plan, size, random));
            const replies = await answers(
              model,
              requests.map(({ payload }) => payload),
            );
            for (const [i, { feeds }] of requests.entries()) {
              const result = await alone.run(feeds, { logSeverityLevel: 4 }).catch(() => null);
              const data = result === null ? null : ((result.y as ort.Tensor).data as Float32Array);
              const reference = data?.subarray(0, data.length / (plan.fixedBatch ?? 1)) ?? null;
              if (!areClose(replies[i] ?? null, reference))
                throw new Error(
                  `request ${i} of ${requests.length}: ${replies[i]?.toString('hex')}, alone ${reference}; ${model.description}, ${plan.runsAloneBecause}`,
                );
            }
          } finally {
            await model.close();
            await alone.release();
          }
        },
      ),
      { numRuns: Number(process.env.GRAPHS ?? 100) },
    );
    if (process.env.GRAPHS !== undefined) console.log(outcomes);
    expect(outcomes.shares, 'graphs that share runs').to.be.above(2);
    expect(outcomes.otherAxis, 'graphs that share runs along another axis').to.be.above(0);
    expect(outcomes.alone, 'graphs that run alone').to.be.above(2);
  });
});
