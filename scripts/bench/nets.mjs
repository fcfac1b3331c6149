// The heavier models that are measured: convolutional nets in the manner of ResNet, whose requests are images of
// hundreds of kilobytes, and a small transformer, whose requests are a few hundred bytes. What they compute does not
// matter here, so a formula gives their weights.

import { writeOnnx } from '../../build/test/support/onnx-writer.js';

/** Collects the nodes and weights of a graph; each method adds a layer and returns the name of what it gives. */
class Layers {
  nodes = [];
  constants = [];
  #seed = 1;

  op(op, inputs, attributes = {}) {
    const output = `t${this.nodes.length}`;
    this.nodes.push({ op, inputs, outputs: [output], attributes });
    return output;
  }

  /** Uniform in ±sqrt(3 / fanIn): what goes through keeps its size from layer to layer. */
  weights(shape, fanIn) {
    const most = Math.sqrt(3 / fanIn);
    const size = shape.reduce((product, length) => product * length, 1);
    const values = Float32Array.from({ length: size }, () => most * (2 * this.#random() - 1));
    return this.constant(shape, values);
  }

  constant(shape, values) {
    const name = `c${this.constants.length}`;
    this.constants.push({ name, shape, values });
    return name;
  }

  conv(x, { from, to, size = 3, stride = 1 }) {
    const pad = (size - 1) / 2;
    const weights = this.weights([to, from, size, size], from * size * size);
    const inputs = [x, weights, this.weights([to], to)];
    const attributes = { kernel_shape: [size, size], strides: [stride, stride], pads: [pad, pad, pad, pad] };
    return this.op('Conv', inputs, attributes);
  }

  /** Two convolutions beside a shortcut. */
  block(x, from, to) {
    const stride = from === to ? 1 : 2;
    const first = this.op('Relu', [this.conv(x, { from, to, stride })]);
    const second = this.conv(first, { from: to, to });
    const shortcut = from === to ? x : this.conv(x, { from, to, size: 1, stride });
    return this.op('Relu', [this.op('Add', [second, shortcut])]);
  }

  dense(x, from, to) {
    const product = this.op('MatMul', [x, this.weights([from, to], from)]);
    return this.op('Add', [product, this.weights([to], to)]);
  }

  norm(x, width) {
    const scale = this.constant([width], new Float32Array(width).fill(1));
    return this.op('LayerNormalization', [x, scale, this.weights([width], width)], { axis: -1 });
  }

  /** mulberry32, so that each run of the bench measures the same model. */
  #random() {
    this.#seed = (this.#seed + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#seed ^ (this.#seed >>> 15), 1 | this.#seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }
}

/**
 * An image [3, side, side] of float32 → 100 classes.
 * @param widths channels of each stage; each stage halves the sides of the one before
 * @param blocks of each stage
 */
function residual({ side, widths, blocks }) {
  const layers = new Layers();
  let width = widths[0];
  let x = layers.op('Relu', [layers.conv('image', { from: 3, to: width, size: 7, stride: 2 })]);
  x = layers.op('MaxPool', [x], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] });
  for (const next of widths) {
    for (let i = 0; i < blocks; i++) {
      x = layers.block(x, width, next);
      width = next;
    }
  }
  x = layers.op('Flatten', [layers.op('GlobalAveragePool', [x])]);
  x = layers.dense(x, width, 100);
  return graphOf(layers, { name: 'image', dtype: 'float32', shape: ['n', 3, side, side] }, x, 100);
}

/** 64 tokens (int64) → 8 classes: an embedding, layers of attention and of two dense layers, and the mean. */
function transformer({ width, heads, depth }) {
  const tokens = 64;
  const layers = new Layers();
  const ints = (...values) => layers.constant([values.length], BigInt64Array.from(values, BigInt));
  const split = ints(0, tokens, heads, width / heads);
  const join = ints(0, tokens, width);
  const scale = layers.constant([1], Float32Array.of(1 / Math.sqrt(width / heads)));
  const headsOf = (x, perm) =>
    layers.op('Transpose', [layers.op('Reshape', [layers.dense(x, width, width), split])], { perm });
  let x = layers.op('Gather', [layers.weights([1000, width], 1), 'tokens']);
  x = layers.op('Add', [x, layers.weights([tokens, width], 1)]);
  for (let i = 0; i < depth; i++) {
    const before = layers.norm(x, width);
    const scores = layers.op('MatMul', [headsOf(before, [0, 2, 1, 3]), headsOf(before, [0, 2, 3, 1])]);
    const attention = layers.op('Softmax', [layers.op('Mul', [scores, scale])], { axis: -1 });
    const seen = layers.op('MatMul', [attention, headsOf(before, [0, 2, 1, 3])]);
    const joined = layers.op('Reshape', [layers.op('Transpose', [seen], { perm: [0, 2, 1, 3] }), join]);
    x = layers.op('Add', [x, layers.dense(joined, width, width)]);
    const hidden = layers.op('Relu', [layers.dense(layers.norm(x, width), width, 4 * width)]);
    x = layers.op('Add', [x, layers.dense(hidden, 4 * width, width)]);
  }
  x = layers.op('ReduceMean', [x], { axes: [1], keepdims: 0 });
  x = layers.dense(x, width, 8);
  return graphOf(layers, { name: 'tokens', dtype: 'int64', shape: ['n', tokens] }, x, 8);
}

function graphOf({ nodes, constants }, input, last, classes) {
  nodes.push({ op: 'Identity', inputs: [last], outputs: ['classes'], attributes: {} });
  const outputs = [{ name: 'classes', dtype: 'float32', shape: ['n', classes] }];
  return { inputs: [input], outputs, nodes, constants };
}

const bytesOfElement = { float32: 4, int64: 8 };

/** Models of about 2 and 6 ms a run on a core of 2024, with what a client and a bare session must know of them. */
export const nets = [
  { name: 'net of 2 ms', graph: residual({ side: 96, widths: [32, 64, 128, 256], blocks: 2 }) },
  { name: 'net of 6 ms', graph: residual({ side: 192, widths: [32, 64, 128, 256], blocks: 2 }) },
  { name: 'small transformer', graph: transformer({ width: 128, heads: 4, depth: 3 }) },
].map(({ name, graph }) => {
  const [{ dtype, shape }] = graph.inputs;
  const elements = shape.slice(1).reduce((product, length) => product * length, 1);
  return {
    name,
    dtype,
    rowShape: shape.slice(1),
    inputBytes: elements * bytesOfElement[dtype],
    replyBytes: 4 * graph.outputs[0].shape[1],
    write: () => writeOnnx(graph),
  };
});
