// The models that clients of others ask: those that Triton's own examples expect (`simple` and the like), one for each
// datatype that gives back what it gets, and some whose answers take their time or are refused.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { datatypes } from '#src/protocol/oip/datatypes.js';
import { type ElementType, elementTypes, type GraphSpec, type TensorSpec, writeOnnx } from '../onnx-writer.js';
import { node, sequences } from '../tensor-kinds.js';

const identity = (dtype: ElementType, columns: number | string = 4): GraphSpec => ({
  inputs: [{ name: 'INPUT0', dtype, shape: ['n', columns] }],
  outputs: [{ name: 'OUTPUT0', dtype, shape: ['n', columns] }],
  nodes: [node('Identity', 'INPUT0', 'OUTPUT0')],
});

/** Several inputs that come back. */
const identities = (count: number): GraphSpec => {
  const numbers = Array.from({ length: count }, (_, i) => i);
  const tensors = (name: string): readonly TensorSpec[] =>
    numbers.map((i) => ({ name: `${name}${i}`, dtype: 'float32', shape: ['n', 'columns'] }));
  return {
    inputs: tensors('INPUT'),
    outputs: tensors('OUTPUT'),
    nodes: numbers.map((i) => node('Identity', `INPUT${i}`, `OUTPUT${i}`)),
  };
};

/** The sum and the difference of two rows of 16, as Triton's `simple`. */
const sums = (dtype: 'int32' | 'int8'): GraphSpec => ({
  inputs: [
    { name: 'INPUT0', dtype, shape: ['n', 16] },
    { name: 'INPUT1', dtype, shape: ['n', 16] },
  ],
  outputs: [
    { name: 'OUTPUT0', dtype, shape: ['n', 16] },
    { name: 'OUTPUT1', dtype, shape: ['n', 16] },
  ],
  nodes: [node('Add', 'INPUT0 INPUT1', 'OUTPUT0'), node('Sub', 'INPUT0 INPUT1', 'OUTPUT1')],
});

/** The same of numbers in texts, as Triton's `simple_string`. */
const sumsOfTexts: GraphSpec = {
  inputs: [
    { name: 'INPUT0', dtype: 'string', shape: ['n', 16] },
    { name: 'INPUT1', dtype: 'string', shape: ['n', 16] },
  ],
  outputs: [
    { name: 'OUTPUT0', dtype: 'string', shape: ['n', 16] },
    { name: 'OUTPUT1', dtype: 'string', shape: ['n', 16] },
  ],
  nodes: [
    node('Cast', 'INPUT0', 'a', { to: elementTypes.int32 }),
    node('Cast', 'INPUT1', 'b', { to: elementTypes.int32 }),
    node('Add', 'a b', 'sum'),
    node('Sub', 'a b', 'difference'),
    node('Cast', 'sum', 'OUTPUT0', { to: elementTypes.string }),
    node('Cast', 'difference', 'OUTPUT1', { to: elementTypes.string }),
  ],
};

/** Rows of 64 to 10 numbers through a layer of 64: the network of the bench, for figures. */
const network: GraphSpec = {
  inputs: [{ name: 'x', dtype: 'float32', shape: ['n', 64] }],
  outputs: [{ name: 'y', dtype: 'float32', shape: ['n', 10] }],
  constants: [
    { name: 'first', shape: [64, 64], values: Float32Array.from({ length: 64 * 64 }, (_, i) => Math.sin(i) / 8) },
    { name: 'second', shape: [64, 10], values: Float32Array.from({ length: 64 * 10 }, (_, i) => Math.cos(i) / 8) },
  ],
  nodes: [node('MatMul', 'x first', 'a'), node('Relu', 'a', 'b'), node('MatMul', 'b second', 'y')],
};

interface Peer {
  readonly graph: GraphSpec;
  readonly config?: Readonly<Record<string, unknown>>;
}

/** How long a request to `delayed` and to `narrow` waits for others to share its run. */
export const delayMs = 600;

/** As long as Triton's tests of timeouts and of cancelled calls want it to take. */
const longMs = 4000;

const peers: Readonly<Record<string, Peer>> = {
  simple: { graph: sums('int32') },
  simple_int8: { graph: sums('int8') },
  simple_string: { graph: sumsOfTexts },
  custom_identity_int32: {
    graph: identity('int32', 1),
    config: { maxQueueDelayMs: longMs, deadlineMs: 20_000 },
  },
  onnx_zero_1_float32: { graph: identity('float32', 'columns') },
  onnx_zero_1_float32_queue: {
    graph: identity('float32', 'columns'),
    config: { maxQueueDelayMs: longMs / 4, maxQueue: 1 },
  },
  onnx_zero_3_float32: { graph: identities(3) },
  onnx_zero_1_object: { graph: identity('string', 'columns') },
  simple_identity_int64: { graph: identity('int64', 1) },
  simple_identity: { graph: identity('string', 'columns') },
  network: { graph: network },
  sequences: { graph: sequences.graph },
  delayed: { graph: identity('float32'), config: { maxQueueDelayMs: delayMs } },
  narrow: {
    graph: identity('float32'),
    config: { maxQueueDelayMs: delayMs, maxQueue: 8 },
  },
  ...Object.fromEntries(
    Object.entries(datatypes).flatMap(([name, { dtype }]): [string, Peer][] =>
      dtype === null ? [] : [[`identity_${name.toLowerCase()}`, { graph: identity(dtype) }]],
    ),
  ),
};

/** Writes them, and gives what config says of them. */
export function writePeers(folder: string): readonly Readonly<Record<string, unknown>>[] {
  return Object.entries(peers).map(([name, { graph, config }]) => {
    mkdirSync(join(folder, name), { recursive: true });
    const path = join(folder, name, 'model.onnx');
    writeFileSync(path, writeOnnx(graph));
    // What would be measured before the port opens is said: each model takes a quarter of a second otherwise.
    return { name, backend: 'onnx', path, execution: 'inline', maxBatchSize: 64, ...config };
  });
}
