// The model that is measured: 64 inputs, 64 hidden units with ReLU, 10 outputs, float32. What it computes does not
// matter here, so a formula gives its weights.

import { writeOnnx } from '../../build/test/support/onnx-writer.js';

const weights = (rows, columns) => Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(i) / rows);
const dense = (name, input, output, rows, columns) => ({
  nodes: [
    { op: 'MatMul', inputs: [input, `${name}_w`], outputs: [`${name}_p`] },
    { op: 'Add', inputs: [`${name}_p`, `${name}_b`], outputs: [output] },
  ],
  constants: [
    { name: `${name}_w`, shape: [rows, columns], values: weights(rows, columns) },
    { name: `${name}_b`, shape: [columns], values: weights(1, columns) },
  ],
});

export function writeMlp() {
  const hidden = dense('hidden', 'x', 'h', 64, 64);
  const output = dense('output', 'a', 'y', 64, 10);
  return writeOnnx({
    inputs: [{ name: 'x', dtype: 'float32', shape: ['n', 64] }],
    outputs: [{ name: 'y', dtype: 'float32', shape: ['n', 10] }],
    nodes: [...hidden.nodes, { op: 'Relu', inputs: ['h'], outputs: ['a'] }, ...output.nodes],
    constants: [...hidden.constants, ...output.constants],
  });
}
