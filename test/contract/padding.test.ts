// Padding is proved before a model serves, so that it changes no answer.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { loadOnnxModel } from '#src/inference/backends/onnx.js';
import type { Model } from '#src/inference/model.js';
import { noOverrides, type PadSettings, type TensorOverrides } from '#src/inference/overrides.js';
import { temporaryFolder } from '../support/folder.js';
import { type GraphSpec, writeOnnx } from '../support/onnx-writer.js';
import { repliesOf, rowsOf } from '../support/rows.js';
import { session } from '../support/session.js';
import { node } from '../support/tensor-kinds.js';

const folder = temporaryFolder();
let files = 0;

async function load(
  graph: GraphSpec,
  pad: PadSettings | null,
  more: Partial<TensorOverrides> = {},
  maxBatchSize = 16,
): Promise<Model> {
  const file = join(folder, `${files++}.onnx`);
  writeFileSync(file, writeOnnx(graph));
  return loadOnnxModel(file, session, { maxBatchSize, tolerance: 1e-4, overrides: { ...noOverrides, ...more, pad } });
}

const number = (name: string, value: bigint) => ({ name, shape: [1], values: BigInt64Array.of(value) });

/** x float32[b, seq, 2] and mask [b, seq] → for each token, how far it is from the mean of those that are real. */
const graphOf = (dtype: 'float32' | 'int64' | 'bool'): GraphSpec => ({
  inputs: [
    { name: 'x', dtype: 'float32', shape: ['b', 'seq', 2] },
    { name: 'mask', dtype, shape: ['b', 'seq'] },
  ],
  outputs: [
    { name: 'y', dtype: 'float32', shape: ['b', 'seq', 2] },
    { name: 'mean', dtype: 'float32', shape: ['b', 2] },
  ],
  constants: [number('middle', 1n), number('last', 2n)],
  nodes: [
    node('Cast', 'mask', 'weights', { to: 1 }),
    node('Unsqueeze', 'weights last', 'weight'),
    node('Mul', 'x weight', 'real'),
    node('ReduceSum', 'real middle', 'sum', { keepdims: 1 }),
    node('ReduceSum', 'weight middle', 'count', { keepdims: 1 }),
    node('Div', 'sum count', 'centre'),
    node('Sub', 'x centre', 'y'),
    node('Squeeze', 'centre middle', 'mean'),
  ],
});

const pad: PadSettings = { axis: 1, inputs: ['x'], mask: 'mask', buckets: [4, 8], outputs: { y: 1 } };

/** A request of so many tokens. */
const request = (tokens: number, seed = 1): Buffer =>
  Buffer.from(Float32Array.from({ length: tokens * 2 }, (_, i) => Math.sin(i * seed + tokens)).buffer);

const numbersOf = (hex: string): Float32Array => new Float32Array(new Uint8Array(Buffer.from(hex, 'hex')).buffer);

describe('a model whose requests are padded', () => {
  for (const dtype of ['float32', 'int64', 'bool'] as const)
    it(`answers differing lengths in shared runs as each alone, with a mask of ${dtype}`, async () => {
      const model = await load(graphOf(dtype), pad);
      const exact = await load(graphOf(dtype), null, { constants: { mask: 1 } });
      expect(model.plan?.notes.join()).to.match(/padded along axis 1 of x up to 4, 8/);
      const lengths = fc.array(fc.integer({ min: 1, max: 10 }), { minLength: 1, maxLength: 12 });
      await fc.assert(
        fc.asyncProperty(lengths, async (lengths) => {
          const requests = lengths.map((tokens, i) => request(tokens, i + 1));
          let runs = 0;
          const replies = repliesOf(await model.run(rowsOf(requests), () => runs++), requests.length);
          for (const [i, reply] of replies.entries()) {
            const [alone] = repliesOf(await exact.run(rowsOf([requests[i] as Buffer])), 1);
            const wanted = numbersOf(alone as string);
            const got = numbersOf(reply);
            expect(got.length).to.equal(wanted.length);
            for (const [k, value] of wanted.entries()) expect(got[k]).to.be.closeTo(value, 1e-5);
          }
          const buckets = new Set(lengths.map((tokens) => (tokens <= 4 ? 4 : tokens <= 8 ? 8 : tokens)));
          expect(runs).to.equal(buckets.size);
        }),
        { numRuns: 40 },
      );
      await model.close();
      await exact.close();
    });

  it('has one length as it is, and lengths beyond the last bucket too', async () => {
    const shapes: GraphSpec = {
      inputs: [{ name: 'x', dtype: 'float32', shape: ['b', 'seq'] }],
      outputs: [{ name: 'y', dtype: 'float32', shape: ['b', 'seq'] }],
      nodes: [node('Relu', 'x', 'y')],
    };
    const model = await load(shapes, { axis: 1, inputs: ['x'], buckets: [4], outputs: { y: 1 } });
    const runs = async (...tokens: readonly number[]): Promise<number> => {
      let count = 0;
      await model.run(rowsOf(tokens.map((length) => Buffer.alloc(length * 4))), () => count++);
      return count;
    };
    expect(await runs(3, 3)).to.equal(1);
    expect(await runs(2, 3, 4)).to.equal(1);
    expect(await runs(4, 5, 6, 5)).to.equal(3);
    await model.close();
  });
});

describe('padding is refused', () => {
  const refused = async (
    graph: GraphSpec,
    settings: Partial<PadSettings>,
    message: RegExp,
    more: Partial<TensorOverrides> = {},
    maxBatchSize = 16,
  ): Promise<void> => {
    const error = await load(graph, { ...pad, ...settings }, more, maxBatchSize).then(
      () => null,
      (reason: Error) => reason,
    );
    expect(error?.message).to.match(message);
  };
  const unmasked = (op: string, attributes: Record<string, number | readonly number[]>): GraphSpec => ({
    inputs: [{ name: 'x', dtype: 'float32', shape: ['b', 'seq', 2] }],
    outputs: [{ name: 'y', dtype: 'float32', shape: ['b', 'out', 2] }],
    nodes: [node(op, 'x', 'y', attributes)],
  });
  const { mask: _, ...plain } = pad;
  const withoutMask = (graph: GraphSpec, settings: Partial<PadSettings>, message: RegExp): Promise<void> =>
    load(graph, { ...plain, ...settings }).then(
      () => expect.fail('it was loaded'),
      (error: Error) => void expect(error.message).to.match(message),
    );

  it('when it changes answers', async () => {
    await withoutMask(
      unmasked('ReduceMean', { axes: [1], keepdims: 1 }),
      { outputs: {} },
      /^pad is refused, since answers would be wrong: the output y differs by \S+ when a request with seq \d+ is padded to [48]; name the input that is its mask/,
    );
    await withoutMask(unmasked('Softmax', { axis: 1 }), {}, /answers would be wrong: the output y differs by/);
    // The mask is multiplied into what the model answers: padding shows in a maximum of negative numbers.
    await refused(
      {
        ...graphOf('float32'),
        nodes: [...graphOf('float32').nodes, node('ReduceMax', 'x', 'most', { axes: [1], keepdims: 0 })],
        outputs: [...graphOf('float32').outputs, { name: 'most', dtype: 'float32', shape: ['b', 2] }],
      },
      { value: 1000 },
      /the output most differs by .*leave pad out/,
    );
  });

  it('when the model does not run at a bucket', async () => {
    const graph: GraphSpec = {
      inputs: [{ name: 'x', dtype: 'float32', shape: ['b', 'seq'] }],
      outputs: [{ name: 'y', dtype: 'float32', shape: ['b', 'seq'] }],
      constants: [
        { name: 'places', shape: [6], values: new Float32Array(6) },
        number('zero', 0n),
        number('one', 1n),
        number('two', 2n),
      ],
      nodes: [
        node('Shape', 'x', 'shape'),
        node('Slice', 'shape one two', 'length'),
        node('Slice', 'places zero length', 'used'),
        node('Add', 'x used', 'y'),
      ],
    };
    await withoutMask(graph, { buckets: [4, 16] }, /^pad.buckets: the model does not run at 16: /);
  });

  it('when config does not fit the model', async () => {
    const graph = graphOf('float32');
    await refused(graph, { inputs: ['y'] }, /^pad.inputs: the model has no input "y": it has x, mask$/);
    await refused(graph, { mask: 'm' }, /^pad.mask: the model has no input "m"/);
    await refused(graph, { outputs: { z: 1 } }, /^pad.outputs: the model has no output "z"/);
    await refused(graph, { axis: 2 }, /^pad.axis: axis 2 is not the one dynamic dimension of x: x is \[1,seq,2\]$/);
    await refused(graph, { outputs: {} }, /y is \[1,seq,2\], and padding changes its dimension seq: give the axis/);
    await refused(graph, { outputs: { y: 0 } }, /^pad.outputs.y: 0 is no axis that can be cut back/);
    await refused(graph, {}, /^pad.mask: mask has a value in constants too/, { constants: { mask: 1 } });
    await withoutMask(graph, {}, /^pad.inputs: mask is \[1,seq\], so it has to be padded too: add mask$/);
    await refused(graph, {}, /^pad: requests cannot share a run/, { inputs: { x: { batchAxis: 'none' } } });
    await refused(graph, {}, /^pad: no dimension of a request is dynamic/, { inputs: { x: { shape: [5, 2] } } });
  });
});
