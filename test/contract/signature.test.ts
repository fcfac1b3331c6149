// Requests of tensors to models of any shape: whatever rows, axes, dimensions and datatypes they have, and whatever shares
// a run with them, the answer is what ONNX Runtime gives to the same tensors.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { loadModel } from '#src/inference/backends/load.js';
import { loadOnnxModel } from '#src/inference/backends/onnx.js';
import type { Replies } from '#src/inference/batch.js';
import type { Model } from '#src/inference/model.js';
import { noOverrides, type TensorOverrides } from '#src/inference/overrides.js';
import type { InputPlan, ModelPlan } from '#src/inference/plan.js';
import { packReplies, unpackReplies } from '#src/inference/threads/packing.js';
import type { InferCall } from '#src/protocol/oip/infer.js';
import { elementsIn, joined, resized, split, type Tensor } from '#src/tensors/axis.js';
import type { Dtype } from '#src/tensors/dtypes.js';
import { tensorOf } from '#src/tensors/literal.js';
import { ModelSignature, type ReplyDims } from '#src/worker/oip/signature.js';
import { temporaryFolder } from '../support/folder.js';
import { answerOf, callOf, type NamedTensors, tensor, tensorsOf } from '../support/infer-calls.js';
import { type ElementType, type GraphSpec, type NodeSpec, type TensorSpec, writeOnnx } from '../support/onnx-writer.js';
import { inputPlan, outputPlan, planOf } from '../support/plans.js';
import { root } from '../support/processes.js';
import { rowsOf } from '../support/rows.js';
import { session } from '../support/session.js';
import { constant, type Kind, rows, sequences, shared, stateful, strings } from '../support/tensor-kinds.js';
import { openSession, type TensorSession } from '../support/tensor-session.js';

const folder = temporaryFolder();
const tolerance = 1e-4;
const maxBatchSize = 8;

/** Answers requests that are in one batch, and crosses to a thread and back if asked to. */
async function answers(model: Model, calls: readonly InferCall[], crosses = false): Promise<readonly NamedTensors[]> {
  const signature = new ModelSignature({
    plan: model.plan,
    inputBytes: model.inputBytes,
    mostRows: 100,
    mostRunRows: maxBatchSize,
  });
  const payloads = calls.map((call) => {
    const { source, bounds } = signature.payloadsOf(call);
    return bounds.slice(1).map((end, i) => source.subarray(bounds[i], end));
  });
  for (const payload of payloads.flat())
    expect(payload.length === model.inputBytes || (model.accepts?.(payload, 0, payload.length) ?? true)).to.equal(true);
  let replies = await model.run(rowsOf(payloads.flat()));
  if (crosses) {
    const { packed, transfer } = packReplies(replies);
    replies = unpackReplies(structuredClone(packed, { transfer }));
  }
  let row = 0;
  return calls.map((call, i) => {
    const rows = (payloads[i] as readonly Buffer[]).map(() => replyOf(replies, row++));
    const outputs = answerOf(
      signature,
      call,
      rows.map(({ bytes }) => bytes),
      rows.map(({ dims }) => dims),
    );
    return tensorsOf(outputs);
  });
}

function replyOf(replies: Replies, i: number): { readonly bytes: Uint8Array; readonly dims: ReplyDims | null } {
  if (replies.kind === 'uniform') {
    const { bytes, stride, rowBytes, dims = null } = replies;
    return { bytes: bytes.subarray(i * stride, i * stride + rowBytes), dims };
  }
  const bytes = replies.rows[i];
  if (!(bytes instanceof Uint8Array)) throw bytes;
  return { bytes, dims: replies.dims?.[i] ?? null };
}

type Dim = number | 'b' | 'n';
interface Shape {
  readonly dtype: ElementType;
  readonly dims: readonly Dim[];
  readonly op: keyof typeof ops;
}

/** A node from the tensor `x` to `y`, and the dtype of that; null: not of this dtype. */
type Op = (
  x: string,
  y: string,
  shape: Shape,
) => { readonly nodes: readonly NodeSpec[]; readonly dtype?: ElementType } | null;

const node = (
  op: string,
  inputs: readonly string[],
  output: string,
  attributes: NodeSpec['attributes'] = {},
): NodeSpec => ({
  op,
  inputs,
  outputs: [output],
  attributes,
});

const ops = {
  identity: (x, y) => ({ nodes: [node('Identity', [x], y)] }),
  turned: (x, y) => ({ nodes: [node('Transpose', [x], y)] }),
  /** Twice the open dimension: its size is told by no input. */
  twice: (x, y, { dims }) => {
    const axis = dims.lastIndexOf('n') >= 0 ? dims.lastIndexOf('n') : dims.length - 1;
    return axis < 0 || dims[axis] === 'b' ? null : { nodes: [node('Concat', [x, x], y, { axis })] };
  },
  wrapped: (x, y) => ({ nodes: [node('Unsqueeze', [x, 'first'], y)] }),
  /** As many as there are: the size depends on the data. */
  places: (x, y, { dtype }) =>
    dtype === 'float32' || dtype === 'int64' || dtype === 'bool'
      ? { nodes: [node('NonZero', [x], y)], dtype: 'int64' }
      : null,
} as const satisfies Readonly<Record<string, Op>>;

const dtypesTried: readonly ElementType[] = [
  'float32',
  'float64',
  'float16',
  'int64',
  'int8',
  'uint32',
  'bool',
  'string',
];

/** Most have a batch, along any axis. */
const dims = fc
  .tuple(fc.array(fc.constantFrom<Dim>('n', 1, 2, 3), { maxLength: 2 }), fc.nat({ max: 2 }), fc.nat({ max: 7 }))
  .map(([others, axis, none]) => (none === 0 ? others : others.toSpliced(axis, 0, 'b')));

const shapeOf: fc.Arbitrary<Shape> = fc.record({
  dtype: fc.constantFrom(...dtypesTried),
  dims,
  op: fc.oneof(
    { weight: 15, arbitrary: fc.constantFrom<keyof typeof ops>('identity', 'turned', 'twice', 'wrapped') },
    { weight: 1, arbitrary: fc.constant('places' as const) },
  ),
});

/** A model, and what config says of it. */
interface Drawn {
  readonly graph: GraphSpec;
  readonly overrides: TensorOverrides;
}

/** How the batch of a model is: dynamic, of a fixed size in front of all tensors, or several rows of one payload. */
type Batch = 'dynamic' | 'fixed' | 'rows';

const drawn = (batch: Batch): fc.Arbitrary<Drawn | null> =>
  fc
    .record({ shapes: fc.array(shapeOf, { minLength: 1, maxLength: 3 }), constant: fc.boolean() })
    .map(({ shapes, constant }) => {
      const drawnShapes = batch === 'fixed' ? shapes.map(withFixedBatch) : shapes;
      const inputs = drawnShapes.map(({ dtype, dims }, i): TensorSpec => ({ name: `x${i}`, dtype, shape: dims }));
      const made = drawnShapes.map((shape, i) => (ops[shape.op] as Op)(`x${i}`, `y${i}`, shape));
      if (made.includes(null)) return null;
      const outputs = inputs.map(
        ({ dtype }, i): TensorSpec => ({ name: `y${i}`, dtype: made[i]?.dtype ?? dtype, shape: null }),
      );
      const first = { name: 'first', shape: [1], values: BigInt64Array.of(0n) };
      const rows = inputs.map(({ name, shape }) => [
        name,
        { shape: (shape ?? []).map((dim) => (dim === 'b' ? null : dim)) },
      ]);
      const last = inputs.at(-1) as TensorSpec;
      const isConstant = constant && inputs.length > 1 && last.dtype !== 'string' && !last.shape?.includes('b');
      return {
        graph: { inputs, outputs, nodes: made.flatMap((one) => one?.nodes ?? []), constants: [first] },
        overrides: {
          ...noOverrides,
          inputs: batch === 'rows' ? Object.fromEntries(rows) : {},
          constants: isConstant ? { [last.name]: 1 } : {},
        },
      };
    });

function withFixedBatch({ dtype, dims, op }: Shape): Shape {
  const others = dims.filter((dim) => dim !== 'b').map((dim) => (dim === 'n' ? 2 : dim));
  return { dtype: dtype === 'string' ? 'int8' : dtype, dims: [4, ...others], op };
}

async function loaded({ graph, overrides }: Drawn): Promise<Model | null> {
  const file = join(folder, 'drawn.onnx');
  writeFileSync(file, writeOnnx(graph));
  return loadOnnxModel(file, session, { maxBatchSize, tolerance, overrides }).catch(() => null);
}

const text = fc.string({ unit: 'binary', maxLength: 4 }).map((string) => string.replaceAll('\0', '0'));

/** Tensors of a request with so many rows, and a size of the open dimension. */
function requestTo({ inputs, outputs, fixedBatch }: ModelPlan): fc.Arbitrary<NamedTensors> {
  const sent = inputs.filter(({ isConstant }) => !isConstant);
  // Rows whose outputs have shapes of their own cannot be one answer.
  const isOne =
    fixedBatch === 1 && outputs.some(({ requestDims }) => requestDims.some((dim) => typeof dim === 'string'));
  return fc
    .tuple(fc.integer({ min: 1, max: isOne ? 1 : 5 }), fc.constantFrom(1, 2, 3))
    .chain(([rows, size]) =>
      fc
        .tuple(...sent.map((input) => tensorOfShape(input.dtype, dimsOf(input, rows, size))))
        .map((tensors) => Object.fromEntries(sent.map(({ name }, i) => [name, tensors[i] as Tensor]))),
    );
}

const dimsOf = ({ requestDims, batchAxis }: InputPlan, rows: number, size: number): readonly number[] =>
  requestDims.map((dim, axis) => (axis === batchAxis ? rows : typeof dim === 'number' ? dim : size));

function tensorOfShape(dtype: Dtype | 'string', dims: readonly number[]): fc.Arbitrary<Tensor> {
  const length = elementsIn(dims);
  const value: fc.Arbitrary<number | string> =
    dtype === 'string' ? text : dtype === 'bool' ? fc.nat({ max: 1 }) : fc.integer({ min: 0, max: 100 });
  return fc.array(value, { minLength: length, maxLength: length }).map((values) => tensor(dtype, dims, values));
}

/** What ONNX Runtime gives to the same tensors. */
async function direct(
  { run }: TensorSession,
  plan: ModelPlan,
  { overrides }: Drawn,
  tensors: NamedTensors,
): Promise<NamedTensors> {
  const feeds: Record<string, Tensor> = { ...tensors };
  const sizes = sizesOf(plan, tensors);
  for (const { name, dtype, requestDims, batchAxis, isConstant } of plan.inputs)
    if (isConstant) {
      const own = requestDims.map((dim, axis) =>
        axis === batchAxis ? (sizes.get('rows') as number) : typeof dim === 'number' ? dim : (sizes.get(dim) ?? 1),
      );
      feeds[name] = tensorOf(overrides.constants[name] ?? 0, dtype, own);
    }
  const { fixedBatch } = plan;
  const outputs = fixedBatch === null ? await run(feeds) : await inLots(run, feeds, fixedBatch);
  return Object.fromEntries(
    outputs.map(({ name, dtype, dims, data }) => [name, copied({ dtype, dims, data } as Tensor)]),
  );
}

/** Sizes of the dimensions of a request, by name. */
function sizesOf({ inputs }: ModelPlan, tensors: NamedTensors): ReadonlyMap<number | string, number> {
  const sizes = new Map<number | string, number>();
  for (const { name, requestDims, batchAxis } of inputs)
    for (const [axis, size] of (tensors[name]?.dims ?? []).entries())
      sizes.set(axis === batchAxis ? 'rows' : (requestDims[axis] as number | string), size);
  return sizes;
}

function copied({ dtype, dims, data }: Tensor): Tensor {
  return {
    dtype,
    dims: [...dims],
    data: dtype === 'string' ? [...data] : new Uint8Array(data as Uint8Array),
  } as Tensor;
}

/** A fixed batch: so many rows at a time, filled up with zeros. */
async function inLots(run: TensorSession['run'], tensors: NamedTensors, lot: number) {
  const rows = Object.values(tensors)[0]?.dims[0] as number;
  const lots = Math.ceil(rows / lot);
  const filled = Object.entries(tensors).map(([name, one]) => {
    const missing = lots * lot - rows;
    const zeros = tensorOf(0, one.dtype, resized(one.dims, 0, missing));
    return [name, split(joined([one, zeros], 0), 0, new Array<number>(lots).fill(lot))] as const;
  });
  const parts: (readonly (Tensor & { readonly name: string })[])[] = [];
  for (let i = 0; i < lots; i++)
    parts.push(await run(Object.fromEntries(filled.map(([name, all]) => [name, all[i] as Tensor]))));
  return (parts[0] ?? []).map(({ name }, k) => {
    const whole = joined(
      parts.map((outputs) => outputs[k] as Tensor),
      0,
    );
    return { name, ...(split(whole, 0, [rows, lots * lot - rows])[0] as Tensor) };
  });
}

/** Its only output is twice as long as its input: no dimension of a request has that size. */
const doubled: Kind = {
  graph: {
    inputs: [{ name: 'x', dtype: 'float32', shape: ['b', 'n'] }],
    outputs: [{ name: 'y', dtype: 'float32', shape: ['b', 'm'] }],
    nodes: [node('Concat', ['x', 'x'], 'y', { axis: 1 })],
  },
  plan: planOf([inputPlan('x', 'float32', ['b', 'n'])], [outputPlan('y', 'float32', ['b', 'm'])]),
};
/** Its constant is one value in a shape that the request tells in part. */
const weighed: Kind = {
  graph: {
    inputs: [
      { name: 'x', dtype: 'float32', shape: ['b', 'n'] },
      { name: 'weights', dtype: 'float32', shape: ['n', 3] },
    ],
    outputs: [{ name: 'y', dtype: 'float32', shape: ['b', 3] }],
    nodes: [node('MatMul', ['x', 'weights'], 'y')],
  },
  plan: planOf(
    [
      inputPlan('x', 'float32', ['b', 'n']),
      { ...inputPlan('weights', 'float32', ['n', 3], 'shared'), isConstant: true },
    ],
    [outputPlan('y', 'float32', ['b', 3])],
  ),
  constants: { weights: 2 },
};
const joinedKinds: Readonly<Record<string, Kind>> = {
  weighed,
  doubled,
  sequences,
  stateful,
  strings,
  shared,
  constant,
  rows,
};

describe('requests of tensors', function () {
  this.timeout(60_000);

  /** Answers requests to models of a kind as ONNX Runtime does, and counts the plans that were found. */
  async function tried(models: fc.Arbitrary<Drawn | null>, numRuns: number): Promise<readonly ModelPlan[]> {
    const plans: ModelPlan[] = [];
    await fc.assert(
      fc.asyncProperty(models, fc.boolean(), fc.nat(), async (one, crosses, seed) => {
        const model = one === null ? null : await loaded(one);
        if (one === null || model === null) return;
        const reference = await openSession(one.graph);
        try {
          const plan = model.plan as ModelPlan;
          const requests = fc.sample(requestTo(plan), { numRuns: plan.runsAloneBecause === null ? 4 : 2, seed });
          const expected: NamedTensors[] = [];
          for (const request of requests) expected.push(await direct(reference, plan, one, request));
          const calls = requests.map((request) => callOf(request));
          expect(await answers(model, calls, crosses)).to.deep.equal(expected);
          plans.push(plan);
        } finally {
          await model.close();
          await reference.close();
        }
      }),
      { numRuns },
    );
    return plans;
  }

  it('are answered with what ONNX Runtime gives to the same tensors, whatever the model and their shapes', async () => {
    const plans = await tried(drawn('dynamic'), 120);
    const inputs = plans.flatMap((plan) => plan.inputs);
    const told = (plan: ModelPlan) => new Set(plan.inputs.flatMap(({ requestDims }) => requestDims));
    const untold = (plan: ModelPlan) =>
      plan.outputs.some(({ requestDims }) =>
        requestDims.some((dim) => typeof dim === 'string' && !told(plan).has(dim)),
      );
    const seen = {
      alone: plans.filter(({ runsAloneBecause }) => runsAloneBecause !== null),
      joined: plans.filter(({ runsAloneBecause }) => runsAloneBecause === null),
      'along another axis': inputs.filter(({ batchAxis }) => typeof batchAxis === 'number' && batchAxis > 0),
      texts: inputs.filter(({ dtype }) => dtype === 'string'),
      'outputs that requests do not tell': plans.filter(untold),
    };
    for (const [what, some] of Object.entries(seen)) expect(some.length, what).to.be.greaterThan(0);
  });

  for (const [name, { graph, inputs = {}, constants = {}, plan }] of Object.entries(joinedKinds))
    it(`are answered like that by a model that joins requests: ${name}`, async () => {
      const model = { graph, overrides: { ...noOverrides, inputs, constants } };
      const [found] = await tried(fc.constant(model), 8);
      expect(found?.inputs.map(({ batchAxis }) => batchAxis)).to.deep.equal(
        plan.inputs.map(({ batchAxis }) => batchAxis),
      );
    });

  it('are filled up to a batch of a fixed size', async () => {
    const plans = await tried(drawn('fixed'), 30);
    expect(plans.filter(({ fixedBatch }) => fixedBatch === 4)).to.not.be.empty;
  });

  it('are one payload where payloads have several rows', async () => {
    const plans = await tried(drawn('rows'), 50);
    const hasRows = ({ inputs }: ModelPlan) =>
      inputs.some(({ batchAxis, requestDims }) => typeof requestDims[batchAxis as number] === 'string');
    expect(plans.filter(hasRows)).to.not.be.empty;
  });

  it('have the dimensions that each row got, where the model leaves them open', async () => {
    const ask = async (graph: GraphSpec, dims: readonly number[], ...rows: readonly (readonly number[])[]) => {
      const model = (await loaded({ graph, overrides: noOverrides })) as Model;
      const all = await answers(
        model,
        rows.map((row) => callOf({ x: tensor('float32', dims, row) })),
        true,
      );
      await model.close();
      return all.map(({ y }) => y);
    };
    /** Columns with a large number are left out: no proof can know of those. */
    const small = (shape: readonly (string | number)[], axes: readonly number[]): GraphSpec => ({
      inputs: [{ name: 'x', dtype: 'float32', shape }],
      outputs: [{ name: 'y', dtype: 'float32', shape: null }],
      constants: [{ name: 'limit', shape: [1], values: Float32Array.of(1000) }],
      nodes: [
        node('ReduceMax', ['x'], 'most', { axes, keepdims: 0 }),
        node('Less', ['most', 'limit'], 'isSmall'),
        node('Compress', ['x', 'isSmall'], 'y', { axis: axes.length }),
      ],
    });
    const rows = small(['b', 4], [0]);
    expect(await ask(rows, [1, 4], [1, 2, 3, 4], [5, 6, 7, 8])).to.deep.equal([
      tensor('float32', [1, 4], [1, 2, 3, 4]),
      tensor('float32', [1, 4], [5, 6, 7, 8]),
    ]);
    expect(await ask(rows, [1, 4], [1, 2000, 3, 4000])).to.deep.equal([tensor('float32', [1, 2], [1, 3])]);
    const lengths = small(['b', 'n', 2], [0, 1]);
    expect(await ask(lengths, [1, 2, 2], [1, 2, 3, 4])).to.deep.equal([tensor('float32', [1, 2, 2], [1, 2, 3, 4])]);
    expect(await ask(lengths, [1, 2, 2], [1, 2, 3, 4000])).to.deep.equal([tensor('float32', [1, 2, 1], [1, 3])]);
    const positive: GraphSpec = {
      inputs: [{ name: 'x', dtype: 'float32', shape: [1, 4] }],
      outputs: [{ name: 'y', dtype: 'float32', shape: [1, ''] }],
      constants: [
        { name: 'zero', shape: [], values: Float32Array.of(0) },
        { name: 'front', shape: [1], values: BigInt64Array.of(0n) },
      ],
      nodes: [
        node('Greater', ['x', 'zero'], 'isMore'),
        node('Squeeze', ['isMore', 'front'], 'chosen'),
        node('Compress', ['x', 'chosen'], 'y', { axis: 1 }),
      ],
    };
    expect(await ask(positive, [1, 4], [1, -2, 3, -4], [5, -6, -7, -8], [-1, -1, -1, -1])).to.deep.equal([
      tensor('float32', [1, 2], [1, 3]),
      tensor('float32', [1, 1], [5]),
      tensor('float32', [1, 0], []),
    ]);
  });

  it('to a module and to the dummy have each element answered by itself', async () => {
    const common = { name: 'm', responseSize: 3, settings: {}, session, batchTolerance: 1e-4, path: '' };
    const payloads = { payload: tensor('string', [3], ['abc', '', 'é']) };
    const dummy = await loadModel({ ...common, backend: 'dummy' }, maxBatchSize);
    expect(await answers(dummy, [callOf(payloads)])).to.deep.equal([
      { reply: tensor('string', [3], ['XXX', 'XXX', 'XXX']) },
    ]);
    const path = `${root}test/support/models/echo.mjs`;
    const echo = await loadModel({ ...common, backend: 'module', path }, maxBatchSize);
    const one = { payload: tensor('string', [1], ['z']) };
    expect(await answers(echo, [callOf(payloads), callOf(one, ['reply'])])).to.deep.equal([
      { reply: payloads.payload },
      { reply: one.payload },
    ]);
  });
});
