// Small models of every kind that the server may meet, written by the tests themselves, with requests that fit them.

import { elementTypes, type GraphSpec, type NodeSpec, type TensorSpec } from '../onnx-writer.js';
import { integers, noise, type Tensor, type Tensors, tensor } from './tensors.js';

/** A model, and what is to be found out about it. */
export interface OwnModel {
  readonly graph: GraphSpec;
  /** Computes the same with tensors alone, where ONNX Runtime for Node cannot run `graph`. */
  readonly withoutMaps?: GraphSpec;
  /** The classes of the maps, in order. */
  readonly classes?: readonly (string | number)[];
  readonly config?: Readonly<Record<string, unknown>>;
  /** The outputs that a reply holds, if not all. */
  readonly returned?: readonly string[];
  /** The batch axis of every input and of the outputs that a reply holds. */
  readonly axes: Readonly<Record<string, number | 'shared' | 'none'>>;
  /** Request `i`: no two are alike. */
  request(i: number, random: () => number): Tensors;
}

const f32 = (name: string, ...shape: readonly (number | string)[]): TensorSpec => ({ name, dtype: 'float32', shape });
const i64 = (name: string, ...shape: readonly (number | string)[]): TensorSpec => ({ name, dtype: 'int64', shape });
const text = (name: string, ...shape: readonly (number | string)[]): TensorSpec => ({ name, dtype: 'string', shape });
/** A node of one output. */
const node = (op: string, inputs: string, output: string, attributes: NodeSpec['attributes'] = {}): NodeSpec => ({
  op,
  inputs: inputs.split(' '),
  outputs: [output],
  attributes,
});
const ml = (op: string, inputs: string, output: string, attributes: NodeSpec['attributes'] = {}): NodeSpec => ({
  ...node(op, inputs, output, attributes),
  domain: 'ai.onnx.ml',
});
const numbers = (name: string, ...shape: readonly number[]) => ({
  name,
  shape,
  values: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(7 * i + 1)),
});
const whole = (name: string, ...values: readonly number[]) => ({
  name,
  shape: [values.length],
  values: BigInt64Array.from(values, BigInt),
});

/** Sizes of a dynamic dimension, request by request: some are alike, and one is larger than a batch. */
const sizeFor = (i: number): number => [1, 3, 8, 3, 300, 1][i % 6] as number;
const words = ['', 'ja', 'né', '漢字', '🙂🙂', 'a longer text, of more than 23 bytes'];
const texts = (dims: readonly number[], random: () => number): Tensor =>
  tensor('string', dims, () => words[Math.floor(random() * words.length)] as string);
const scalar = (dtype: Tensor['dtype'], value: number): Tensor => tensor(dtype, [], () => value);

const classesOf = { int64: [7, -1, 300], string: ['né', 'ja', ''] } as const;

/** Three classes: x float32[n, 3] → the class of the largest, and the softmax as a map for each row, or as a tensor. */
function classifier(keys: 'int64' | 'string', hasMaps: boolean): GraphSpec {
  const labels = keys === 'int64' ? { classlabels_int64s: classesOf.int64 } : { classlabels_strings: classesOf.string };
  return {
    inputs: [f32('x', '', 3)],
    outputs: [{ name: 'label', dtype: keys, shape: ['n'] }, hasMaps ? { name: 'scores', keys } : f32('scores', 'n', 3)],
    nodes: [
      node('ArgMax', 'x', 'place', { axis: 1, keepdims: 0 }),
      node('Gather', 'classes place', 'label', { axis: 0 }),
      node('Softmax', 'x', hasMaps ? 'tensor' : 'scores', { axis: 1 }),
      ...(hasMaps ? [ml('ZipMap', 'tensor', 'scores', labels as NonNullable<NodeSpec['attributes']>)] : []),
    ],
    constants: [
      keys === 'int64'
        ? whole('classes', ...classesOf.int64)
        : { name: 'classes', shape: [3], values: classesOf.string },
    ],
  };
}

/** x of any dtype, n times a length that differs → x twice, side by side. */
const twice = (dtype: TensorSpec['dtype']): OwnModel => ({
  graph: {
    inputs: [{ name: 'x', dtype, shape: ['n', 'length'] }],
    outputs: [{ name: 'y', dtype, shape: ['n', 'twice'] }],
    nodes: [node('Concat', 'x x', 'y', { axis: 1 })],
  },
  axes: { x: 0, y: 0 },
  request: (i, random) => ({ x: integers(dtype, [1, sizeFor(i)], random, dtype === 'bool' ? 2 : 100) }),
});

export const ownModels: Readonly<Record<string, OwnModel>> = {
  'rows of one size': {
    graph: {
      inputs: [f32('x', 'n', 4)],
      outputs: [f32('y', 'n', 3)],
      nodes: [node('MatMul', 'x w', 'y')],
      constants: [numbers('w', 4, 3)],
    },
    axes: { x: 0, y: 0 },
    request: (_, random) => ({ x: noise([1, 4], random) }),
  },
  'a dynamic dimension with a name': {
    graph: {
      inputs: [f32('x', 'n', 'length')],
      outputs: [f32('y', 'n', 'length')],
      nodes: [node('Softmax', 'x', 'y', { axis: 1 })],
    },
    axes: { x: 0, y: 0 },
    request: (i, random) => ({ x: noise([1, sizeFor(i)], random) }),
  },
  'dynamic dimensions without names': {
    graph: {
      inputs: [f32('x', '', '')],
      outputs: [f32('y', '', '')],
      nodes: [node('Softmax', 'x', 'y', { axis: 1 })],
    },
    axes: { x: 0, y: 0 },
    request: (i, random) => ({ x: noise([1, sizeFor(i)], random) }),
  },
  'two inputs of one dynamic length': {
    graph: {
      inputs: [i64('ids', 'n', 'length'), i64('mask', 'n', 'length')],
      outputs: [f32('y', 'n', 4)],
      nodes: [
        node('Gather', 'table ids', 'vectors', { axis: 0 }),
        node('Cast', 'mask', 'share', { to: elementTypes.float32 }),
        node('Unsqueeze', 'share last', 'column'),
        node('Mul', 'vectors column', 'kept'),
        node('ReduceSum', 'kept one', 'y', { keepdims: 0 }),
      ],
      constants: [numbers('table', 10, 4), whole('last', -1), whole('one', 1)],
    },
    axes: { ids: 0, mask: 0, y: 0 },
    request: (i, random) => ({
      ids: integers('int64', [1, sizeFor(i)], random, 10),
      mask: integers('int64', [1, sizeFor(i)], random, 2),
    }),
  },
  'two inputs of one length that has no name': {
    graph: {
      inputs: [f32('a', '', ''), f32('b', '', '')],
      outputs: [f32('y', '', 2, '')],
      nodes: [
        node('Unsqueeze', 'a one', 'upper'),
        node('Unsqueeze', 'b one', 'lower'),
        node('Concat', 'upper lower', 'pair', { axis: 1 }),
        node('Softmax', 'pair', 'y', { axis: 2 }),
      ],
      constants: [whole('one', 1)],
    },
    axes: { a: 0, b: 0, y: 0 },
    request: (i, random) => ({ a: noise([1, sizeFor(i)], random), b: noise([1, sizeFor(i)], random) }),
  },
  'a state whose batch is its second dimension': {
    graph: {
      inputs: [f32('x', 'n', 8), f32('state', 2, 'n', 8)],
      outputs: [f32('y', 'n', 8), f32('next', 2, 'n', 8)],
      nodes: [
        node('Add', 'state x', 'sum'),
        node('Tanh', 'sum', 'next'),
        node('ReduceSum', 'next first', 'y', { keepdims: 0 }),
      ],
      constants: [whole('first', 0)],
    },
    axes: { x: 0, state: 1, y: 0, next: 1 },
    request: (_, random) => ({ x: noise([1, 8], random), state: noise([2, 1, 8], random) }),
  },
  'time before the batch': {
    graph: {
      inputs: [f32('x', 5, 'n', 4)],
      outputs: [f32('y', 5, 'n', 4)],
      nodes: [node('Softmax', 'x', 'y', { axis: 0 })],
    },
    axes: { x: 1, y: 1 },
    request: (_, random) => ({ x: noise([5, 1, 4], random) }),
  },
  'no batch': {
    graph: {
      inputs: [f32('x', 3, 4)],
      outputs: [f32('y', 4)],
      nodes: [node('ReduceMean', 'x', 'y', { axes: [0], keepdims: 0 })],
    },
    axes: { x: 'none', y: 'none' },
    request: (_, random) => ({ x: noise([3, 4], random) }),
  },
  'a scalar': {
    graph: { inputs: [f32('x')], outputs: [f32('y')], nodes: [node('Exp', 'x', 'y')] },
    axes: { x: 'none', y: 'none' },
    request: (_, random) => ({ x: noise([], random) }),
  },
  'a scalar beside rows, which requests may share': {
    graph: {
      inputs: [f32('x', 'n', 4), i64('rate')],
      outputs: [f32('y', 'n', 4)],
      nodes: [node('Cast', 'rate', 'k', { to: elementTypes.float32 }), node('Mul', 'x k', 'y')],
    },
    axes: { x: 0, rate: 'shared', y: 0 },
    request: (i, random) => ({ x: noise([1, 4], random), rate: scalar('int64', [8000, 16_000][i % 2] as number) }),
  },
  'a matrix of 512 bytes beside rows': {
    graph: {
      inputs: [f32('x', 'n', 4), f32('w', 4, 32)],
      outputs: [f32('y', 'n', 32)],
      nodes: [node('MatMul', 'x w', 'y')],
    },
    axes: { x: 'none', w: 'none', y: 'none' },
    request: (_, random) => ({ x: noise([1, 4], random), w: noise([4, 32], random) }),
  },
  'inputs that disagree: 4 beside a batch': {
    graph: {
      inputs: [f32('x', 4, 2), f32('k', 'n', 1)],
      outputs: [f32('y', 4, 2)],
      nodes: [node('Add', 'x k', 'y')],
    },
    config: { inputs: { k: { shape: [1, 1], batchAxis: 'none' } } },
    axes: { x: 'none', k: 'none', y: 'none' },
    request: (_, random) => ({ x: noise([4, 2], random), k: noise([1, 1], random) }),
  },
  'a fixed batch of 1 beside a dynamic one': {
    graph: {
      inputs: [f32('x', 1, 4), f32('k', 'n', 4)],
      outputs: [f32('y', 'n', 4)],
      nodes: [node('Mul', 'x k', 'y')],
    },
    axes: { x: 'shared', k: 0, y: 0 },
    request: (i, random) => ({ x: noise([1, 4], i % 3 === 0 ? () => 0.25 : random), k: noise([1, 4], random) }),
  },
  'a fixed batch of 1 and a dynamic length': {
    graph: {
      inputs: [f32('x', 1, 2, 'width')],
      outputs: [f32('y', 1, 'width')],
      nodes: [node('ReduceSum', 'x one', 'y', { keepdims: 0 })],
      constants: [whole('one', 1)],
    },
    axes: { x: 'none', y: 'none' },
    request: (i, random) => ({ x: noise([1, 2, sizeFor(i)], random) }),
  },
  'all shapes fixed, a state among them': {
    graph: {
      inputs: [f32('x', 1, 4), f32('state', 2, 1, 4)],
      outputs: [f32('y', 1, 4), f32('next', 2, 1, 4)],
      nodes: [node('Add', 'state x', 'next'), node('ReduceSum', 'next first', 'y', { keepdims: 0 })],
      constants: [whole('first', 0)],
    },
    axes: { x: 'none', state: 'none', y: 'none', next: 'none' },
    request: (_, random) => ({ x: noise([1, 4], random), state: noise([2, 1, 4], random) }),
  },
  'a mean over the batch': {
    graph: {
      inputs: [f32('x', 'n', 4)],
      outputs: [f32('y', 'n', 4)],
      nodes: [node('ReduceMean', 'x', 'mean', { axes: [0], keepdims: 1 }), node('Div', 'x mean', 'y')],
    },
    axes: { x: 'none', y: 'none' },
    request: (_, random) => ({ x: noise([1, 4], random) }),
  },
  'a mean over the batch, of any length': {
    graph: {
      inputs: [f32('x', 'n', 'length')],
      outputs: [f32('y', 'n', 'length')],
      nodes: [node('ReduceMean', 'x', 'mean', { axes: [0], keepdims: 1 }), node('Div', 'x mean', 'y')],
    },
    config: { inputs: { x: { shape: [1, 'length'] } } },
    axes: { x: 'none', y: 'none' },
    request: (i, random) => ({ x: noise([1, sizeFor(i)], random) }),
  },
  'a length that the model doubles': {
    graph: {
      inputs: [f32('x', 'n', 'length', 2)],
      outputs: [f32('y', 'n', 'twice', 2), f32('sum', 'n', 2)],
      nodes: [node('Concat', 'x x', 'y', { axis: 1 }), node('ReduceSum', 'x one', 'sum', { keepdims: 0 })],
      constants: [whole('one', 1)],
    },
    axes: { x: 0, y: 0, sum: 0 },
    request: (i, random) => ({ x: noise([1, sizeFor(i), 2], random) }),
  },
  'an output that is the same for all': {
    graph: {
      inputs: [f32('x', 'n', 'length')],
      outputs: [f32('y', 'n', 'length'), f32('anchors', 1, 3)],
      nodes: [node('Relu', 'x', 'y'), node('Identity', 'table', 'anchors')],
      constants: [numbers('table', 1, 3)],
    },
    // An output without a batch could not be told from one that depends on the batch: its requests run alone.
    axes: { x: 'none', y: 'none', anchors: 'none' },
    request: (i, random) => ({ x: noise([1, sizeFor(i)], random) }),
  },
  'places that depend on the data': {
    graph: {
      inputs: [f32('x', 'n', 6)],
      outputs: [i64('y', 2, 'found')],
      nodes: [node('Relu', 'x', 'positive'), node('NonZero', 'positive', 'y')],
    },
    axes: { x: 'none', y: 'none' },
    request: (_, random) => ({ x: tensor('float32', [1, 6], (k) => (k === 0 ? 1 : 2 * random() - 1)) }),
  },
  'boxes that do not overlap': {
    graph: {
      inputs: [f32('boxes', 'n', 6, 4), f32('scores', 'n', 1, 6)],
      outputs: [i64('chosen', 'found', 3)],
      nodes: [
        {
          op: 'NonMaxSuppression',
          inputs: ['boxes', 'scores', 'most', 'overlap'],
          outputs: ['chosen'],
        },
      ],
      constants: [whole('most', 6), { name: 'overlap', shape: [1], values: Float32Array.of(0.5) }],
    },
    axes: { boxes: 'none', scores: 'none', chosen: 'none' },
    request: (_, random) => ({
      boxes: tensor('float32', [1, 6, 4], (k) => (k % 4 < 2 ? Math.floor(random() * 3) : 3 + Math.floor(random() * 3))),
      scores: tensor('float32', [1, 1, 6], () => random()),
    }),
  },
  'a length that is a value of the request': {
    graph: {
      inputs: [f32('x', 'n', 1), i64('times', 1)],
      outputs: [f32('y', 'n', 'times')],
      nodes: [node('Concat', 'one times', 'shape', { axis: 0 }), node('Expand', 'x shape', 'y')],
      constants: [whole('one', 1)],
    },
    axes: { x: 0, times: 'shared', y: 0 },
    request: (i, random) => ({ x: noise([1, 1], random), times: tensor('int64', [1], () => sizeFor(i)) }),
  },
  'texts in and out': {
    graph: {
      inputs: [text('x', 'n', 2)],
      outputs: [text('y', 'n', 4)],
      nodes: [node('Concat', 'x x', 'y', { axis: 1 })],
    },
    axes: { x: 0, y: 0 },
    request: (_, random) => ({ x: texts([1, 2], random) }),
  },
  'as many texts as the client likes': {
    graph: {
      inputs: [text('x', 'n', 'length')],
      outputs: [i64('y', 'n', 'length')],
      nodes: [
        ml('LabelEncoder', 'x', 'y', {
          keys_strings: words,
          values_int64s: words.map((_, i) => 10 * i),
        }),
      ],
    },
    axes: { x: 0, y: 0 },
    request: (i, random) => ({ x: texts([1, sizeFor(i)], random) }),
  },
  'texts beside numbers': {
    graph: {
      inputs: [text('word', 'n', 1), f32('x', 'n', 2)],
      outputs: [f32('y', 'n', 2)],
      nodes: [
        ml('LabelEncoder', 'word', 'k', {
          keys_strings: words,
          values_floats: Float32Array.from(words, (_, i) => i + 0.5),
        }),
        node('Mul', 'x k', 'y'),
      ],
    },
    axes: { word: 0, x: 0, y: 0 },
    request: (_, random) => ({ word: texts([1, 1], random), x: noise([1, 2], random) }),
  },
  'a classifier with a map of numbers': {
    graph: classifier('int64', true),
    withoutMaps: classifier('int64', false),
    classes: classesOf.int64,
    axes: { x: 0, label: 0, scores: 0 },
    request: (_, random) => ({ x: noise([1, 3], random) }),
  },
  'a classifier with a map of texts': {
    graph: classifier('string', true),
    withoutMaps: classifier('string', false),
    classes: classesOf.string,
    axes: { x: 0, label: 0, scores: 0 },
    request: (_, random) => ({ x: noise([1, 3], random) }),
  },
  'a classifier that answers its label alone': {
    graph: classifier('string', true),
    withoutMaps: classifier('string', false),
    classes: classesOf.string,
    config: { outputs: ['label'] },
    returned: ['label'],
    axes: { x: 0, label: 0 },
    request: (_, random) => ({ x: noise([1, 3], random) }),
  },
  'a constant that config gives': {
    graph: {
      inputs: [f32('x', 'n', 'length'), i64('rate')],
      outputs: [f32('y', 'n', 'length')],
      nodes: [node('Cast', 'rate', 'k', { to: elementTypes.float32 }), node('Mul', 'x k', 'y')],
    },
    config: { constants: { rate: 3 } },
    axes: { x: 0, rate: 'shared', y: 0 },
    request: (i, random) => ({ x: noise([1, sizeFor(i)], random), rate: scalar('int64', 3) }),
  },
  'two dynamic dimensions, one of them fixed by config': {
    graph: {
      inputs: [f32('x', 'n', 'height', 'width')],
      outputs: [f32('y', 'n', 'height')],
      nodes: [node('ReduceSum', 'x last', 'y', { keepdims: 0 })],
      constants: [whole('last', 2)],
    },
    config: { inputs: { x: { shape: ['height', 4] } } },
    axes: { x: 0, y: 0 },
    request: (i, random) => ({ x: noise([1, sizeFor(i), 4], random) }),
  },
  'several rows in a request': {
    graph: {
      inputs: [f32('x', 'n', 4)],
      outputs: [f32('y', 'n', 3), f32('sum', 'n')],
      nodes: [node('MatMul', 'x w', 'y'), node('ReduceSum', 'x one', 'sum', { keepdims: 0 })],
      constants: [numbers('w', 4, 3), whole('one', 1)],
    },
    config: { inputs: { x: { shape: ['rows', 4] } } },
    axes: { x: 0, y: 0, sum: 0 },
    // No more than a batch may have.
    request: (i, random) => ({ x: noise([Math.min(sizeFor(i), 256), 4], random) }),
  },
  'rows that config keeps apart': {
    graph: {
      inputs: [f32('x', 'n', 4)],
      outputs: [f32('y', 'n', 3)],
      nodes: [node('MatMul', 'x w', 'y')],
      constants: [numbers('w', 4, 3)],
    },
    config: { inputs: { x: { batchAxis: 'none' } } },
    axes: { x: 'none', y: 'none' },
    request: (_, random) => ({ x: noise([1, 4], random) }),
  },
  ...Object.fromEntries(
    (
      ['float16', 'float64', 'int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64', 'bool'] as const
    ).map((dtype) => [`a dynamic length of ${dtype}`, twice(dtype)]),
  ),
};
