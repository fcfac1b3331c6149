// Models whose requests are more than rows of a fixed size, one of each kind, with the plan of each.

import type { TensorOverrides } from '#src/inference/overrides.js';
import type { InputPlan, ModelPlan } from '#src/inference/plan.js';
import type { Tensor } from '#src/tensors/axis.js';
import { type Literal, tensorOf } from '#src/tensors/literal.js';
import { encodeStrings } from '#src/tensors/strings.js';
import type { GraphSpec, NodeSpec } from './onnx-writer.js';
import { inputPlan, outputPlan, planOf } from './plans.js';
import type { TensorSession } from './tensor-session.js';

export const node = (
  op: string,
  inputs: string,
  outputs: string,
  attributes: NodeSpec['attributes'] = {},
): NodeSpec => ({
  op,
  inputs: inputs.split(' '),
  outputs: outputs.split(' '),
  attributes,
});

export interface Kind {
  readonly graph: GraphSpec;
  readonly plan: ModelPlan;
  readonly constants?: Readonly<Record<string, Literal>>;
  /** What config says of its inputs. */
  readonly inputs?: TensorOverrides['inputs'];
  /** Sizes that the open dimension has in requests. */
  readonly sizes?: readonly number[];
}

/** x float32[b, seq, 2] → centred over seq, and the largest of each column. */
export const sequences: Kind = {
  graph: {
    inputs: [{ name: 'x', dtype: 'float32', shape: ['b', 'seq', 2] }],
    outputs: [
      { name: 'centred', dtype: 'float32', shape: ['b', 'seq', 2] },
      { name: 'most', dtype: 'float32', shape: ['b', 2] },
    ],
    nodes: [
      node('ReduceMean', 'x', 'mean', { axes: [1], keepdims: 1 }),
      node('Sub', 'x mean', 'centred'),
      node('ReduceMax', 'x', 'most', { axes: [1], keepdims: 0 }),
    ],
  },
  plan: planOf(
    [inputPlan('x', 'float32', ['b', 'seq', 2])],
    [outputPlan('centred', 'float32', ['b', 'seq', 2]), outputPlan('most', 'float32', ['b', 2])],
  ),
  sizes: [1, 2, 3, 7],
};

/** x float32[b, 3] + state float32[2, b, 3] → y = x + state[0], next = state + x. */
export const stateful: Kind = {
  graph: {
    inputs: [
      { name: 'x', dtype: 'float32', shape: ['b', 3] },
      { name: 'state', dtype: 'float32', shape: [2, 'b', 3] },
    ],
    outputs: [
      { name: 'y', dtype: 'float32', shape: ['b', 3] },
      { name: 'next', dtype: 'float32', shape: [2, 'b', 3] },
    ],
    nodes: [node('Add', 'state x', 'next'), node('ReduceSum', 'next front', 'y', { keepdims: 0 })],
    constants: [{ name: 'front', shape: [1], values: BigInt64Array.of(0n) }],
  },
  plan: planOf(
    [inputPlan('x', 'float32', ['b', 3]), inputPlan('state', 'float32', [2, 'b', 3])],
    [outputPlan('y', 'float32', ['b', 3]), outputPlan('next', 'float32', [2, 'b', 3])],
  ),
};

/** Strings of any number, and numbers behind them: both back, the numbers first. */
export const strings: Kind = {
  graph: {
    inputs: [
      { name: 's', dtype: 'string', shape: ['b', 'n'] },
      { name: 'k', dtype: 'int64', shape: ['b', 'n'] },
    ],
    outputs: [
      { name: 'negative', dtype: 'int64', shape: ['b', 'n'] },
      { name: 'twice', dtype: 'string', shape: ['b', 'm'] },
    ],
    nodes: [node('Neg', 'k', 'negative'), node('Concat', 's s', 'twice', { axis: 1 })],
  },
  plan: planOf(
    [inputPlan('s', 'string', ['b', 'n']), inputPlan('k', 'int64', ['b', 'n'])],
    [outputPlan('negative', 'int64', ['b', 'n']), outputPlan('twice', 'string', ['b', 'twice_1'])],
  ),
  sizes: [1, 2, 5],
};

/** Requests with the same factor share a run. */
export const shared: Kind = {
  graph: {
    inputs: [
      { name: 'x', dtype: 'float32', shape: ['b', 2] },
      { name: 'factor', dtype: 'float32', shape: [] },
    ],
    outputs: [{ name: 'y', dtype: 'float32', shape: ['b', 2] }],
    nodes: [node('Mul', 'x factor', 'y')],
  },
  plan: planOf(
    [inputPlan('x', 'float32', ['b', 2]), inputPlan('factor', 'float32', [], 'shared')],
    [outputPlan('y', 'float32', ['b', 2])],
  ),
};

/** factor is a constant; ones, which fills the shape that x has, as well. */
export const constant: Kind = {
  graph: {
    inputs: [
      { name: 'factor', dtype: 'float32', shape: [] },
      { name: 'x', dtype: 'float32', shape: ['b', 'n'] },
      { name: 'ones', dtype: 'float32', shape: ['b', 'n'] },
    ],
    outputs: [{ name: 'y', dtype: 'float32', shape: ['b', 'n'] }],
    nodes: [node('Mul', 'x factor', 'product'), node('Add', 'product ones', 'y')],
  },
  plan: planOf(
    [
      { ...inputPlan('factor', 'float32', [], 'shared'), isConstant: true },
      inputPlan('x', 'float32', ['b', 'n']),
      { ...inputPlan('ones', 'float32', ['b', 'n']), isConstant: true },
    ],
    [outputPlan('y', 'float32', ['b', 'n'])],
  ),
  constants: { factor: 3, ones: 1 },
  sizes: [1, 4],
};

/** No batch at all: one request a run, with an output whose size depends on the data. */
export const alone: Kind = {
  graph: {
    inputs: [
      { name: 'x', dtype: 'float32', shape: ['n'] },
      { name: 'least', dtype: 'float32', shape: [] },
    ],
    outputs: [{ name: 'places', dtype: 'int64', shape: [1, 'found'] }],
    nodes: [node('Greater', 'x least', 'isMore'), node('NonZero', 'isMore', 'places')],
  },
  plan: planOf(
    [inputPlan('x', 'float32', ['n']), inputPlan('least', 'float32', [])],
    [outputPlan('places', 'int64', [1, 'found'])],
    { runsAloneBecause: 'it has no batch' },
  ),
  sizes: [1, 3],
};

/** A fixed batch of 4, whose rows the server fills up, along the second axis. */
export const fixedBatch: Kind = {
  graph: {
    inputs: [{ name: 'x', dtype: 'int32', shape: [2, 4] }],
    outputs: [{ name: 'y', dtype: 'int32', shape: [2, 4] }],
    nodes: [node('Neg', 'x', 'y')],
  },
  plan: planOf(
    [{ ...inputPlan('x', 'int32', [2, 4], 1), requestDims: [2, 1] }],
    [{ ...outputPlan('y', 'int32', [2, 4], 1), requestDims: [2, 1] }],
    { fixedBatch: 4 },
  ),
};

/** Requests of several rows. */
export const rows: Kind = {
  graph: sequences.graph,
  plan: planOf(
    [{ ...inputPlan('x', 'float32', ['b', 'seq', 2]), requestDims: ['rows', 3, 2] }],
    [
      { ...outputPlan('centred', 'float32', ['b', 'seq', 2]), requestDims: ['rows', 3, 2] },
      { ...outputPlan('most', 'float32', ['b', 2]), requestDims: ['rows', 2] },
    ],
  ),
  inputs: { x: { shape: [null, 3, 2] } },
  sizes: [1, 2, 5],
};

export const kinds: Readonly<Record<string, Kind>> = {
  sequences,
  stateful,
  strings,
  shared,
  constant,
  alone,
  fixedBatch,
  rows,
};

export const payloadOf = (tensors: readonly Tensor[]): Buffer =>
  Buffer.concat(
    tensors.map(({ dtype, data }) => (dtype === 'string' ? encodeStrings(data as string[]) : data) as Buffer),
  );

export const inputsOf = ({ plan }: Kind): readonly InputPlan[] => plan.inputs.filter(({ isConstant }) => !isConstant);

/** What ONNX Runtime itself answers to a request alone. */
export async function reference(kind: Kind, session: TensorSession, request: readonly Tensor[]): Promise<Buffer> {
  const feeds: Record<string, Tensor> = {};
  for (const [i, { name }] of inputsOf(kind).entries()) feeds[name] = request[i] as Tensor;
  if (kind === fixedBatch) return filledUp(session, feeds.x as Tensor);
  // A constant of any shape has that of x.
  for (const { name, dtype, dims } of kind.plan.inputs)
    if (kind.constants?.[name] !== undefined)
      feeds[name] = tensorOf(kind.constants[name], dtype, dims.length === 0 ? [] : (feeds.x as Tensor).dims);
  return payloadOf(await session.run(feeds));
}

/** A request [2, 1] alone in its batch of 4. */
async function filledUp(session: TensorSession, { data }: Tensor): Promise<Buffer> {
  const [first = 0, second = 0] = new Int32Array(new Uint8Array(data as Uint8Array).buffer);
  const wide = Int32Array.of(first, 0, 0, 0, second, 0, 0, 0);
  const [answer] = await session.run({ x: { dtype: 'int32', dims: [2, 4], data: new Uint8Array(wide.buffer) } });
  const values = new Int32Array(new Uint8Array(answer?.data as Uint8Array).buffer);
  return Buffer.from(Int32Array.of(values[0] as number, values[4] as number).buffer);
}

/** The dimensions of an input in a request with this size of the open dimension. */
export const dimsOf = ({ requestDims }: InputPlan, size: number): readonly number[] =>
  requestDims.map((dim) => (typeof dim === 'number' ? dim : size));
