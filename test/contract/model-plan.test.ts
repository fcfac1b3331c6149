// What is found and proved of a model when it is loaded: where its batch is, which dimensions are dynamic, and what its
// payloads are.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { loadModel } from '#src/inference/backends/load.js';
import { loadOnnxModel } from '#src/inference/backends/onnx.js';
import ort from '#src/inference/backends/onnx-runtime.js';
import { type KnownModel, knownBy, type Model } from '#src/inference/model.js';
import { identityOf } from '#src/inference/model-files.js';
import { noOverrides, type TensorOverrides } from '#src/inference/overrides.js';
import type { ModelPlan, TensorPlan } from '#src/inference/plan.js';
import { temporaryFolder } from '../support/folder.js';
import { type GraphSpec, type NodeSpec, type TensorSpec, writeOnnx } from '../support/onnx-writer.js';
import { repliesOf, rowsOf } from '../support/rows.js';
import { session } from '../support/session.js';

const folder = temporaryFolder();
let files = 0;

function load(spec: GraphSpec, overrides: Partial<TensorOverrides> = {}): Promise<Model> {
  const file = join(folder, `${files++}.onnx`);
  writeFileSync(file, writeOnnx(spec));
  return loadOnnxModel(file, session, {
    maxBatchSize: 64,
    tolerance: 1e-4,
    overrides: { ...noOverrides, ...overrides },
  });
}

async function planOf(spec: GraphSpec, overrides?: Partial<TensorOverrides>): Promise<ModelPlan> {
  const model = await load(spec, overrides);
  await model.close();
  return model.plan as ModelPlan;
}

const refusal = (spec: GraphSpec, overrides?: Partial<TensorOverrides>): Promise<string> =>
  load(spec, overrides).then(
    () => 'loaded',
    (error: Error) => error.message,
  );

const node = (op: string, inputs: string, output: string, attributes: NodeSpec['attributes'] = {}): NodeSpec => ({
  op,
  inputs: inputs.split(' '),
  outputs: [output],
  attributes,
});
const float = (name: string, shape: TensorSpec['shape']): TensorSpec => ({ name, dtype: 'float32', shape });
const constant = (name: string, ...values: number[]) => ({
  name,
  shape: [values.length],
  values: BigInt64Array.from(values.map(BigInt)),
});
const shown = ({ name, batchAxis, dims, requestDims }: TensorPlan): string =>
  `${name} [${dims}] ${batchAxis} [${requestDims}]`;
const tensors = ({ inputs, outputs }: ModelPlan): readonly string[] => [...inputs, ...outputs].map(shown);

/** x → y, one node. */
const single = (op: string, shape: TensorSpec['shape'], attributes: NodeSpec['attributes'] = {}): GraphSpec => ({
  inputs: [float('x', shape)],
  outputs: [float('y', null)],
  nodes: [node(op, 'x', 'y', attributes)],
});

/** Like a voice detector: x [B, T], a state whose batch is axis 1, and a sample rate; no dimension has a name. */
const stateful: GraphSpec = {
  inputs: [float('x', ['', '']), float('state', [2, '', 3]), { name: 'sr', dtype: 'int64', shape: [] }],
  outputs: [float('y', null), float('stateN', null)],
  constants: [constant('front', 0)],
  nodes: [
    node('ReduceMean', 'x', 'mean', { axes: [1], keepdims: 1 }),
    node('Cast', 'sr', 'rate', { to: 1 }),
    node('Add', 'mean rate', 'y'),
    node('Unsqueeze', 'mean front', 'wide'),
    node('Add', 'wide state', 'stateN'),
  ],
};

/** Two inputs of texts as numbers, which are multiplied element by element. */
const masked = (shape: readonly string[]): GraphSpec => ({
  inputs: [float('ids', shape), float('mask', shape)],
  outputs: [float('y', null)],
  nodes: [node('Mul', 'ids mask', 'both'), node('ReduceMean', 'both', 'y', { axes: [1], keepdims: 1 })],
});

describe('the plan of a model', () => {
  it('has the batch along any axis, and what requests share, though no dimension has a name', async () => {
    const plan = await planOf(stateful);
    expect(tensors(plan)).to.deep.equal([
      'x [batch,x_1] 0 [1,x_1]',
      'state [2,batch,3] 1 [2,1,3]',
      'sr [] shared []',
      'y [batch,1] 0 [1,1]',
      'stateN [2,batch,3] 1 [2,1,3]',
    ]);
    expect(plan.runsAloneBecause).to.equal(null);
  });

  it('has one dimension for a name that several inputs have', async () =>
    expect(tensors(await planOf(masked(['batch', 'seq'])))).to.deep.equal([
      'ids [batch,seq] 0 [1,seq]',
      'mask [batch,seq] 0 [1,seq]',
      'y [batch,1] 0 [1,1]',
    ]));

  it('ties dimensions without a name that the model runs with only when they are equal', async () =>
    expect(tensors(await planOf(masked(['', ''])))).to.deep.equal([
      'ids [batch,ids_1] 0 [1,ids_1]',
      'mask [batch,ids_1] 0 [1,ids_1]',
      'y [batch,1] 0 [1,1]',
    ]));

  it('does not tie those that may differ', async () => {
    const spec: GraphSpec = {
      inputs: [float('a', ['n', '']), float('b', ['n', ''])],
      outputs: [float('y', null)],
      nodes: [
        node('ReduceMean', 'a', 'ma', { axes: [1], keepdims: 1 }),
        node('ReduceMean', 'b', 'mb', { axes: [1], keepdims: 1 }),
        node('Add', 'ma mb', 'y'),
      ],
    };
    expect(await refusal(spec))
      .to.match(/a_1/)
      .and.to.match(/b_1/)
      .and.to.match(/"inputs": \{/);
    const inputs = { b: { shape: [1, 6] } };
    expect(tensors(await planOf(spec, { inputs })).slice(0, 2)).to.deep.equal([
      'a [n,a_1] 0 [1,a_1]',
      'b [n,6] 0 [1,6]',
    ]);
  });

  it('is not misled by a name that is given twice', async () =>
    expect(tensors(await planOf(single('Relu', ['N', 'N'])))).to.deep.equal([
      'x [batch,N] 0 [1,N]',
      'y [batch,N] 0 [1,N]',
    ]));

  it('does without a name that is given to dimensions that must differ', async () => {
    const spec: GraphSpec = {
      inputs: [float('x', [5, 'd']), float('k', ['d', 3])],
      outputs: [float('y', null)],
      constants: [constant('pairs', 0, -1, 2)],
      nodes: [
        node('Reshape', 'x pairs', 'all'),
        node('ReduceMean', 'all', 'mean', { axes: [2], keepdims: 0 }),
        node('MatMul', 'mean k', 'y'),
      ],
    };
    expect(await refusal(spec)).to.match(/there are 2 \(d of x; d_2 of k\)/);
    const plan = await planOf(spec, { inputs: { x: { shape: [5, 8] }, k: { shape: [4, 3] } } });
    expect(plan.notes).to.deep.equal([]);
  });

  it('finds the batch behind the time where its name or config says so, and takes no other dimension for it', async () => {
    const overTime = (dims: readonly string[]): GraphSpec => ({
      inputs: [float('x', [...dims, 4])],
      outputs: [float('y', null)],
      constants: [constant('first', 0)],
      nodes: [node('CumSum', 'x first', 'y')],
    });
    const joined = ['x [time,batch,4] 1 [time,1,4]', 'y [time,batch,4] 1 [time,1,4]'];
    expect(tensors(await planOf(overTime(['time', 'batch'])))).to.deep.equal(joined);
    const told = await planOf(overTime(['time', 'm']), { inputs: { x: { batchAxis: 1 } } });
    expect(told.inputs[0]).to.deep.include({ batchAxis: 1, requestDims: ['time', 1, 4] });
    const alone = await planOf(overTime(['', '']));
    expect(alone.inputs[0]).to.deep.include({ batchAxis: 'none', requestDims: [1, 'x_1', 4] });
  });

  it('does not take a width for the batch where the batch is a fixed 1', async () => {
    const spec: GraphSpec = {
      inputs: [float('x', [1, 2, 'width'])],
      outputs: [float('y', null)],
      nodes: [node('ReduceMean', 'x', 'y', { axes: [1], keepdims: 0 })],
    };
    expect((await planOf(spec)).inputs[0]).to.deep.include({ batchAxis: 'none', requestDims: [1, 2, 'width'] });
  });

  it('has an output whose batch is not in front', async () =>
    expect(tensors(await planOf(single('Transpose', ['n', 4])))).to.deep.equal(['x [n,4] 0 [1,4]', 'y [4,n] 1 [4,1]']));

  it('has texts', async () => {
    const spec: GraphSpec = {
      inputs: [{ name: 'x', dtype: 'string', shape: ['n', 2] }],
      outputs: [{ name: 'y', dtype: 'string', shape: ['n', 2] }],
      nodes: [node('Identity', 'x', 'y')],
    };
    expect(tensors(await planOf(spec))).to.deep.equal(['x [n,2] 0 [1,2]', 'y [n,2] 0 [1,2]']);
  });

  it('lets requests share a small input of a fixed size; with a large one they run alone', async () => {
    const spec = (size: number): GraphSpec => ({
      inputs: [float('x', ['n', 2]), float('k', [size, 2])],
      outputs: [float('y', null)],
      nodes: [node('ReduceMean', 'k', 'mean', { axes: [0], keepdims: 1 }), node('Add', 'x mean', 'y')],
    });
    expect((await planOf(spec(4))).inputs.map(shown)).to.deep.equal(['x [n,2] 0 [1,2]', 'k [4,2] shared [4,2]']);
    const { runsAloneBecause } = await planOf(spec(9));
    expect(runsAloneBecause).to.match(/input k has the fixed shape \[9,2\]/);
  });

  it('is that of requests which run alone where there is no batch', async () => {
    const spec: GraphSpec = {
      inputs: [float('x', [2, 3]), float('k', [])],
      outputs: [float('y', null)],
      nodes: [node('Mul', 'x k', 'y')],
    };
    const model = await load(spec);
    expect(tensors(model.plan as ModelPlan)).to.deep.equal([
      'x [2,3] none [2,3]',
      'k [] none []',
      'y [2,3] none [2,3]',
    ]);
    expect(model.runsAloneBecause).to.match(/no input has a dynamic dimension/);
    const payload = Buffer.from(Float32Array.of(1, 2, 3, 4, 5, 6, 10).buffer);
    const reply = Buffer.from(Float32Array.of(10, 20, 30, 40, 50, 60).buffer).toString('hex');
    expect(repliesOf(await model.run(rowsOf([payload])), 1)).to.deep.equal([reply]);
    await model.close();
  });

  it('leaves a dimension dynamic that is proved to be no batch: the length of a payload tells its size', async () => {
    const model = await load(single('Softmax', ['n', 2], { axis: 0 }));
    expect(tensors(model.plan as ModelPlan)).to.deep.equal(['x [n,2] none [n,2]', 'y [n,2] none [n,2]']);
    const replies = repliesOf(await model.run(rowsOf([Buffer.alloc(8), Buffer.alloc(32)])), 2);
    expect(replies).to.deep.equal(
      [1, 4].map((n) => Buffer.from(new Float32Array(2 * n).fill(1 / n).buffer).toString('hex')),
    );
    await model.close();
  });

  it('takes one row a request where its rows may not be joined and another dimension is dynamic', async () => {
    const spec: GraphSpec = {
      inputs: [float('x', ['batch', 'seq'])],
      outputs: [float('y', null)],
      nodes: [node('ReduceMax', 'x', 'most', { axes: [0, 1], keepdims: 1 }), node('Div', 'x most', 'y')],
    };
    const plan = await planOf(spec);
    expect(plan.inputs.map(shown)).to.deep.equal(['x [batch,seq] none [1,seq]']);
    expect(plan.runsAloneBecause).to.match(/output y differs by/);
    expect(plan.notes.join()).to.match(/requests have one row/);
  });

  it('is proved at two sizes of each dynamic dimension', async () => {
    const spec: GraphSpec = {
      inputs: [float('x', ['n', 'seq'])],
      outputs: [float('y', null)],
      constants: [constant('seqAxis', 1), constant('four', 4)],
      nodes: [
        node('Shape', 'x', 'shape'),
        node('Gather', 'shape seqAxis', 'length'),
        node('Greater', 'length four', 'isLong'),
        node('Cast', 'isLong', 'share', { to: 1 }),
        node('ReduceMean', 'x', 'mean', { axes: [0], keepdims: 1 }),
        node('Mul', 'mean share', 'part'),
        node('Add', 'x part', 'y'),
      ],
    };
    expect((await planOf(spec)).runsAloneBecause).to.match(/output y differs by .* with seq \d+$/);
  });

  it('is proved with several values of what requests share', async () => {
    const spec: GraphSpec = {
      inputs: [float('x', ['n', 2]), { name: 'mode', dtype: 'int64', shape: [] }],
      outputs: [float('y', null)],
      constants: [{ name: 'rate', shape: [], values: BigInt64Array.of(16_000n) }],
      nodes: [
        node('Equal', 'mode rate', 'is'),
        node('Cast', 'is', 'share', { to: 1 }),
        node('ReduceMean', 'x', 'mean', { axes: [0], keepdims: 1 }),
        node('Mul', 'mean share', 'part'),
        node('Add', 'x part', 'y'),
      ],
    };
    expect((await planOf(spec)).runsAloneBecause).to.match(/output y differs by/);
  });

  it('does not trust classes of a model that takes one scale for a whole batch', async () => {
    // The second class always wins, whatever the scale.
    const classes = (nodes: readonly NodeSpec[]): GraphSpec => ({
      inputs: [float('x', ['n', 4])],
      outputs: [{ name: 'y', dtype: 'int64', shape: null }],
      constants: [{ name: 'lead', shape: [4], values: Float32Array.of(0, 1e9, 0, 0) }],
      nodes: [...nodes, node('Add', 'v lead', 'led'), node('ArgMax', 'led', 'y', { axis: 1, keepdims: 0 })],
    });
    const quantised: readonly NodeSpec[] = [
      { op: 'DynamicQuantizeLinear', inputs: ['x'], outputs: ['q', 's', 'z'] },
      { op: 'DequantizeLinear', inputs: ['q', 's', 'z'], outputs: ['v'] },
    ];
    expect((await planOf(classes([node('Relu', 'x', 'v')]))).runsAloneBecause).to.equal(null);
    expect((await planOf(classes(quantised))).runsAloneBecause).to.match(/one scale .*DynamicQuantizeLinear/);
  });

  it('is not proved with requests that are all alike', async () => {
    const spec: GraphSpec = {
      inputs: [{ name: 'x', dtype: 'int64', shape: ['n', 2] }],
      outputs: [float('y', null)],
      constants: [{ name: 'table', shape: [1, 3], values: Float32Array.of(1, 2, 3) }],
      nodes: [node('Gather', 'table x', 'y', { axis: 0 })],
    };
    expect((await planOf(spec)).runsAloneBecause).to.match(/zeros or ones alone/);
  });

  it('is proved with small numbers too: beside large ones, a difference would seem to be rounding', async () => {
    const spec: GraphSpec = {
      inputs: [float('x', ['n', 4]), float('k', ['n', 4])],
      outputs: [float('y', null)],
      nodes: [
        node('Tanh', 'x', 't'),
        { op: 'DynamicQuantizeLinear', inputs: ['t'], outputs: ['q', 's', 'z'] },
        { op: 'DequantizeLinear', inputs: ['q', 's', 'z'], outputs: ['v'] },
        node('Add', 'v k', 'y'),
      ],
    };
    const file = join(folder, `${files++}.onnx`);
    writeFileSync(file, writeOnnx(spec));
    const model = await loadOnnxModel(file, session, { maxBatchSize: 64, tolerance: 1e-3 });
    await model.close();
    expect(model.runsAloneBecause).to.match(/output y differs by/);
  });

  it('tries sizes until one runs', async () => {
    const spec: GraphSpec = {
      inputs: [float('x', ['n', 'samples'])],
      outputs: [float('y', null)],
      constants: [constant('cells', 0, -1, 160)],
      nodes: [node('Reshape', 'x cells', 'y')],
    };
    const plan = await planOf(spec);
    expect(plan.runsAloneBecause).to.equal(null);
    expect(tensors(plan)).to.deep.equal(['x [n,samples] 0 [1,samples]', 'y [n,y_1,160] 0 [1,y_1,160]']);
  });

  it('says what ONNX Runtime said when no request is found that runs; what runs is served all the same', async () => {
    const spec: GraphSpec = {
      inputs: [float('x', ['length'])],
      outputs: [float('y', null)],
      constants: [constant('cells', -1, 13)],
      nodes: [node('Reshape', 'x cells', 'y')],
    };
    const model = await load(spec);
    expect(model.plan?.notes.join()).to.match(/no request was found .*Reshape.* inputs\.x\.shape/);
    const replies = repliesOf(await model.run(rowsOf([Buffer.alloc(4 * 26, 1), Buffer.alloc(4)])), 2);
    expect(replies[0]).to.equal(Buffer.alloc(4 * 26, 1).toString('hex'));
    expect(replies[1]).to.match(/^Error: /);
    await model.close();
  });

  it('finds what depends on the data alone: such requests run alone', async () => {
    const spec = { ...single('NonZero', ['n', 3]), outputs: [{ name: 'y', dtype: 'int64', shape: null }] } as const;
    const plan = await planOf({ ...spec, nodes: [node('Relu', 'x', 'r'), node('NonZero', 'r', 'y')] });
    expect(plan.runsAloneBecause).to.match(/output y has other dimensions for other rows/);
    expect(plan.outputs.map(shown)).to.deep.equal(['y [2,y_1] none [2,y_1]']);
  });
});

describe('what config says of the tensors of a model', () => {
  it('fixes dimensions, with the batch axis or without it', async () => {
    for (const shape of [[1, 12], [12], [null, 12]])
      expect(tensors(await planOf(stateful, { inputs: { x: { shape } } }))[0]).to.equal(
        `x [batch,12] 0 [${shape[0] === null ? 'batch' : 1},12]`,
      );
  });

  it('gives inputs a constant value, which is not in a payload', async () => {
    const plan = await planOf(stateful, { constants: { sr: 16_000 }, inputs: { x: { shape: [8] } } });
    expect(plan.inputs.map(({ isConstant, batchAxis }) => [isConstant, batchAxis])).to.deep.equal([
      [false, 0],
      [false, 1],
      [true, 'shared'],
    ]);
    expect(await refusal(stateful, { constants: { sr: 1.5 } })).to.match(/constants\.sr: 1\.5 is no int64/);
    expect(await refusal(stateful, { constants: { sr: [1, 2] } })).to.match(/constants\.sr: .* \[2\]/);
  });

  it('is refused where the proof contradicts it, with the difference', async () => {
    const softmax = single('Softmax', ['n', 2], { axis: 0 });
    expect(await refusal(softmax, { inputs: { x: { batchAxis: 0 } } })).to.match(
      /inputs\.x\.batchAxis is refused, since answers would be wrong: the output y differs by/,
    );
    expect(await refusal(single('Transpose', ['n', 4]), { outputs: { y: { batchAxis: 0 } } })).to.match(
      /outputs\.y\.batchAxis is 0, but its batch lies along axis 1/,
    );
    expect(await refusal(softmax, { inputs: { x: { batchAxis: 1 } } })).to.match(/axis 1 has a fixed size of 2/);
    expect(await refusal(softmax, { inputs: { x: { shape: [1, 3] } } })).to.match(/x is \[n,2\]/);
  });

  it('gives the shape of a row also where rows may not be joined', async () => {
    const dependent: GraphSpec = {
      ...single('Relu', ['n', 'd']),
      nodes: [node('ReduceMax', 'x', 'most', { axes: [0, 1], keepdims: 1 }), node('Sub', 'x most', 'y')],
    };
    const plan = await planOf(dependent, { inputs: { x: { shape: [6] } } });
    expect(plan.inputs.map(shown)).to.deep.equal(['x [n,6] none [1,6]']);
    expect(plan.runsAloneBecause).to.match(/output y differs/);
  });

  it('may always have requests run alone', async () => {
    const plan = await planOf(single('Relu', ['n', 2]), { inputs: { x: { batchAxis: 'none' } } });
    expect(plan.runsAloneBecause).to.match(/inputs\.x\.batchAxis is "none" in config/);
    expect(plan.inputs.map(shown)).to.deep.equal(['x [n,2] none [n,2]']);
  });

  it('may leave out the output that keeps requests from sharing a run', async () => {
    const spec: GraphSpec = {
      ...single('Relu', ['n', 2]),
      outputs: [float('y', null), float('most', null)],
      nodes: [node('Relu', 'x', 'y'), node('ReduceMax', 'x', 'most', { axes: [0], keepdims: 0 })],
    };
    expect((await planOf(spec)).runsAloneBecause).to.match(/output most/);
    const plan = await planOf(spec, { outputs: ['y'] });
    expect([plan.runsAloneBecause, plan.outputs.map(({ isReturned }) => isReturned)]).to.deep.equal([
      null,
      [true, false],
    ]);
  });

  it('names only what the model has', async () =>
    expect(await refusal(stateful, { inputs: { y: {} } })).to.match(/the model has no input "y": it has x, state, sr/));
});

describe('a model that was proved before', () => {
  const open = (path: string, identity: string, known: KnownModel | null): Promise<Model> =>
    loadModel(
      { name: 'm', backend: 'onnx', path, identity, responseSize: 1, settings: {}, session, batchTolerance: 1e-4 },
      64,
      known,
    );
  /** How often ONNX Runtime ran while a model was loaded. */
  async function runsOf(load: () => Promise<Model>): Promise<{ readonly model: Model; readonly runs: number }> {
    const { prototype } = ort.InferenceSession as unknown as { prototype: { run(...args: unknown[]): unknown } };
    const { run } = prototype;
    let runs = 0;
    prototype.run = function (...args) {
      runs++;
      return run.apply(this, args);
    };
    try {
      return { model: await load(), runs };
    } finally {
      prototype.run = run;
    }
  }
  const rows = [Float32Array.of(1, -2), Float32Array.of(3, 4)].map(({ buffer }) => Buffer.from(buffer));

  for (const [what, spec] of Object.entries({
    'shares runs': single('Relu', ['n', 2]),
    'has its batch elsewhere': single('Transpose', ['n', 2]),
    'runs alone': single('Softmax', ['n', 2], { axis: 0 }),
  }))
    it(`is not run again before it serves, and answers the same: one that ${what}`, async () => {
      const file = join(folder, `${files++}.onnx`);
      writeFileSync(file, writeOnnx(spec));
      const first = await runsOf(() => open(file, identityOf(file), null));
      const again = await runsOf(() => open(file, identityOf(file), knownBy(first.model)));
      expect(first.runs).to.be.above(5);
      expect(again.runs).to.equal(0);
      const { plan, sample, description, runsAloneBecause, inputBytes, outputBytes } = first.model;
      expect(again.model).to.deep.include({ plan, sample, description, runsAloneBecause, inputBytes, outputBytes });
      const replies = repliesOf(await first.model.run(rowsOf(rows)), 2);
      expect(repliesOf(await again.model.run(rowsOf(rows)), 2)).to.deep.equal(replies);
      await Promise.all([first.model.close(), again.model.close()]);
    });

  it('is proved anew when its file has changed since', async () => {
    const file = join(folder, `${files++}.onnx`);
    writeFileSync(file, writeOnnx(single('Relu', ['n', 2])));
    const identity = identityOf(file);
    const first = await open(file, identity, null);
    writeFileSync(file, writeOnnx(single('Softmax', ['n', 2], { axis: 0 })));
    const again = await open(file, identity, knownBy(first));
    expect(again.runsAloneBecause).to.match(/output y differs/);
    await Promise.all([first.close(), again.close()]);
  });
});
