// A classifier with a ZipMap answers what it answers without: the same bits, in the order of the classes.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { loadOnnxModel } from '#src/inference/backends/onnx.js';
import { FileBytes } from '#src/inference/backends/onnx-file/bytes.js';
import { field, header, message } from '#src/inference/backends/onnx-file/protobuf.js';
import { readModel } from '#src/inference/backends/onnx-file/read.js';
import { temporaryFolder } from '../support/folder.js';
import { type GraphSpec, type NodeSpec, type TensorSpec, writeOnnx } from '../support/onnx-writer.js';
import { repliesOf, rowsOf } from '../support/rows.js';
import { session } from '../support/session.js';

const folder = temporaryFolder();
const proving = { maxBatchSize: 64, tolerance: 'exact' as const };
let files = 0;
const write = (bytes: Uint8Array): string => {
  const path = join(folder, `${files++}.onnx`);
  writeFileSync(path, bytes);
  return path;
};
const load = (bytes: Uint8Array) => loadOnnxModel(write(bytes), session, proving);

const maps = (name: string, keys: 'int64' | 'string' = 'string') => ({ name, keys });
const floats = (name: string): TensorSpec => ({ name, dtype: 'float32', shape: ['n', 3] });
const node = (op: string, input: string, output: string, attributes: NodeSpec['attributes'] = {}): NodeSpec => ({
  op,
  inputs: [input],
  outputs: [output],
  attributes,
});
const zipMap = (input: string, output: string, ...classes: readonly (string | number)[]): NodeSpec => ({
  ...node('ZipMap', input, output, {
    [typeof classes[0] === 'number' ? 'classlabels_int64s' : 'classlabels_strings']: classes as readonly string[],
  }),
  domain: 'ai.onnx.ml',
});
const label: TensorSpec = { name: 'label', dtype: 'int64', shape: ['n'] };
const inner: readonly NodeSpec[] = [
  node('ArgMax', 'x', 'label', { axis: 1, keepdims: 0 }),
  node('Softmax', 'x', 'inner', { axis: 1 }),
];

/** Each with ZipMap, and what the outputs are without. */
const models: Readonly<
  Record<string, { graph: GraphSpec; tensors: readonly TensorSpec[]; plain: readonly NodeSpec[] }>
> = {
  'with texts as classes': {
    graph: {
      inputs: [floats('x')],
      outputs: [label, maps('p')],
      nodes: [...inner, zipMap('inner', 'p', 'z', 'a', 'm')],
    },
    tensors: [label, floats('p')],
    plain: [...inner, node('Identity', 'inner', 'p')],
  },
  'with numbers as classes': {
    graph: {
      inputs: [floats('x')],
      outputs: [label, maps('p', 'int64')],
      nodes: [...inner, zipMap('inner', 'p', 7, -1, 0)],
    },
    tensors: [label, floats('p')],
    plain: [...inner, node('Identity', 'inner', 'p')],
  },
  'behind Identity nodes, and before them': {
    graph: {
      inputs: [floats('x')],
      outputs: [maps('q'), label],
      nodes: [
        ...inner,
        node('Identity', 'inner', 'same'),
        zipMap('same', 'm', 'z', 'a', 'm'),
        node('Identity', 'm', 'q'),
      ],
    },
    tensors: [floats('q'), label],
    plain: [...inner, node('Identity', 'inner', 'q')],
  },
  'twice, over different tensors': {
    graph: {
      inputs: [floats('x')],
      outputs: [maps('p'), maps('q', 'int64')],
      nodes: [...inner, node('Neg', 'x', 'minus'), zipMap('inner', 'p', 'z', 'a', 'm'), zipMap('minus', 'q', 3, 2, 1)],
    },
    tensors: [floats('p'), floats('q')],
    plain: [...inner, node('Identity', 'inner', 'p'), node('Neg', 'x', 'q')],
  },
  'whose tensor and maps are both outputs': {
    graph: {
      inputs: [floats('x')],
      outputs: [floats('inner'), maps('p'), maps('q')],
      nodes: [...inner, zipMap('inner', 'p', 'z', 'a', 'm'), node('Identity', 'p', 'q')],
    },
    tensors: [floats('inner'), floats('p'), floats('q')],
    plain: [...inner, node('Identity', 'inner', 'p'), node('Identity', 'inner', 'q')],
  },
};

const rows = Array.from({ length: 33 }, (_, i) =>
  Buffer.from(Float32Array.from({ length: 3 }, (_, k) => Math.sin(7 * i + 3 * k) * 4).buffer),
);

describe('a model with ZipMap answers as it would without, bit for bit', () => {
  for (const [name, { graph, tensors, plain }] of Object.entries(models)) {
    it(name, async () => {
      const model = await load(writeOnnx(graph));
      const reference = await load(writeOnnx({ ...graph, outputs: tensors, nodes: plain }));
      for (const size of [1, 2, 33]) {
        const some = rows.slice(0, size);
        const expected = repliesOf(await reference.run(rowsOf(some)), size);
        expect(repliesOf(await model.run(rowsOf(some)), size), `${size} rows`).to.deep.equal(expected);
        expect(new Set(expected)).to.have.length(size);
      }
      expect(model.plan?.outputs.map((output) => output.name)).to.deep.equal(tensors.map((output) => output.name));
      await model.close();
      await reference.close();
    });
  }

  it('and its plan names the classes, in the order of the columns', async () => {
    const { graph } = models['twice, over different tensors'] as { graph: GraphSpec };
    const model = await load(writeOnnx(graph));
    expect(model.plan?.outputs.map(({ labels }) => labels)).to.deep.equal([
      ['z', 'a', 'm'],
      [3, 2, 1],
    ]);
    expect(model.plan?.notes).to.have.length(2);
    await model.close();
  });

  it('though it states the types of the maps between its nodes', async () => {
    const { graph } = models['behind Identity nodes, and before them'] as { graph: GraphSpec };
    const bytes = writeOnnx(graph);
    const source = new FileBytes(write(bytes));
    const [graphField] = readModel(source).graphs;
    source.close();
    if (graphField === undefined) throw new Error('the file has a graph');
    const { start, from, to } = graphField;
    const map = field(5, message(field(1, 8), field(2, field(1, field(1, 1)))));
    const stated = field(13, message(field(1, 'm'), field(2, field(4, field(1, map)))));
    const more = [bytes.subarray(0, start), header(7, to - from + stated.length), bytes.subarray(from, to), stated];
    const model = await load(Buffer.concat([...more, bytes.subarray(to)]));
    expect(repliesOf(await model.run(rowsOf(rows)), rows.length)).to.have.length(rows.length);
    await model.close();
  });
});
