import { appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { loadOnnxModel } from '#src/inference/backends/onnx.js';
import { field, message } from '#src/inference/backends/onnx-file/protobuf.js';
import ort from '#src/inference/backends/onnx-runtime.js';
import type { Model } from '#src/inference/model.js';
import { type Dtype, dtypes, typedView } from '#src/tensors/dtypes.js';
import { temporaryFolder } from '../support/folder.js';
import { type GraphSpec, writeOnnx } from '../support/onnx-writer.js';
import { root } from '../support/processes.js';
import { repliesOf, rowsOf } from '../support/rows.js';
import { session as settings } from '../support/session.js';

interface InputRow {
  readonly name: string;
  readonly dtype: Dtype;
  readonly dims: readonly number[];
}

const rowBytes = ({ dtype, dims }: InputRow): number => dims.reduce((a, b) => a * b, dtypes[dtype].bytes);

/** Any bytes that are values of the dtype: for a bool only 0 and 1 are. */
function randomRow(inputs: readonly InputRow[], seed: number): Buffer {
  let state = seed * 2654435761 + 1;
  const byte = (): number => {
    state = Math.imul(state ^ (state >>> 15), 2246822519) + 3266489917;
    return state & 255;
  };
  return Buffer.concat(
    inputs.map((input) =>
      Buffer.from(Array.from({ length: rowBytes(input) }, () => (input.dtype === 'bool' ? byte() & 1 : byte()))),
    ),
  );
}

/** The session's own answers to these rows, as one batch of `size` with zeros after them. */
async function reference(
  session: ort.InferenceSession,
  inputs: readonly InputRow[],
  rows: readonly Buffer[],
  size = rows.length,
): Promise<readonly string[]> {
  const feeds: Record<string, ort.Tensor> = {};
  let from = 0;
  for (const input of inputs) {
    const bytes = rowBytes(input);
    const all = Buffer.alloc(size * bytes);
    rows.forEach((row, i) => void row.copy(all, i * bytes, from, from + bytes));
    const buffer = all.buffer.slice(all.byteOffset, all.byteOffset + all.length);
    const data = typedView(input.dtype, buffer, all.length / dtypes[input.dtype].bytes);
    feeds[input.name] = new ort.Tensor(input.dtype, data as never, [size, ...input.dims]);
    from += bytes;
  }
  const results = await session.run(feeds);
  return rows.map((_, i) =>
    session.outputNames
      .map((name) => {
        const { data } = results[name] as ort.Tensor;
        const { buffer, byteOffset, byteLength } = data as Uint8Array;
        const bytes = byteLength / size;
        return Buffer.from(buffer, byteOffset + i * bytes, bytes).toString('hex');
      })
      .join(''),
  );
}

const folder = temporaryFolder();
const proving = { maxBatchSize: 128, tolerance: 1e-4 };

let files = 0;
function write(graph: GraphSpec): string {
  const file = join(folder, `${files++}.onnx`);
  writeFileSync(file, writeOnnx(graph));
  return file;
}

async function withModel(file: string, use: (model: Model, session: ort.InferenceSession) => Promise<void>) {
  const model = await loadOnnxModel(file, settings, proving);
  const session = await ort.InferenceSession.create(file, settings);
  try {
    await use(model, session);
  } finally {
    await model.close();
    await session.release();
  }
}

async function agreesAtEverySize(file: string, inputs: readonly InputRow[], sizes: readonly number[]): Promise<void> {
  await withModel(file, async (model, session) => {
    expect(model.inputBytes).to.equal(inputs.reduce((sum, input) => sum + rowBytes(input), 0));
    for (const size of sizes) {
      const rows = Array.from({ length: size }, (_, i) => randomRow(inputs, size * 1000 + i));
      const replies = repliesOf(await model.run(rowsOf(rows)), size);
      expect(replies, `${size} rows`).to.deep.equal(await reference(session, inputs, rows));
    }
  });
}

const everySize = Array.from({ length: 128 }, (_, i) => i + 1);
const someSizes = [1, 2, 3, 5, 8, 64, 127, 128];

/** x of any dtype → x twice side by side, and x as float32. */
const twice = (dtype: Dtype): GraphSpec => ({
  inputs: [{ name: 'x', dtype, shape: ['n', 3] }],
  outputs: [
    { name: 'y', dtype, shape: ['n', 6] },
    { name: 'z', dtype: 'float32', shape: ['n', 3] },
  ],
  nodes: [
    { op: 'Concat', inputs: ['x', 'x'], outputs: ['y'], attributes: { axis: 1 } },
    { op: 'Cast', inputs: ['x'], outputs: ['z'], attributes: { to: 1 } },
  ],
});

/** x [n, 2] float32 + k int64 → x + k, k; `n` is the batch dimension. */
const sum = (n: number | string): GraphSpec => ({
  inputs: [
    { name: 'x', dtype: 'float32', shape: [n, 2] },
    { name: 'k', dtype: 'int64', shape: [n, 1] },
  ],
  outputs: [
    { name: 'total', dtype: 'float32', shape: [n, 2] },
    { name: 'same', dtype: 'int64', shape: [n, 1] },
  ],
  nodes: [
    { op: 'Cast', inputs: ['k'], outputs: ['kf'], attributes: { to: 1 } },
    { op: 'Add', inputs: ['x', 'kf'], outputs: ['total'] },
    { op: 'Identity', inputs: ['k'], outputs: ['same'] },
  ],
});
const sumInputs: readonly InputRow[] = [
  { name: 'x', dtype: 'float32', dims: [2] },
  { name: 'k', dtype: 'int64', dims: [1] },
];

describe('ONNX replies equal a direct run of the same rows, bit for bit', () => {
  it('of the shipped model, at every batch size', () =>
    agreesAtEverySize(
      `${root}config/models/digits/model.onnx`,
      [{ name: 'pixels', dtype: 'float32', dims: [64] }],
      everySize,
    ));

  for (const dtype of Object.keys(dtypes) as Dtype[]) {
    it(`of ${dtype}`, () => agreesAtEverySize(write(twice(dtype)), [{ name: 'x', dtype, dims: [3] }], someSizes));
  }

  it('with several inputs and outputs, each in the order of the model', () =>
    agreesAtEverySize(write(sum('n')), sumInputs, someSizes));

  it('with one scalar a row', () =>
    agreesAtEverySize(
      write({
        inputs: [{ name: 'x', dtype: 'float32', shape: ['n'] }],
        outputs: [{ name: 'y', dtype: 'float32', shape: ['n'] }],
        nodes: [{ op: 'Neg', inputs: ['x'], outputs: ['y'] }],
      }),
      [{ name: 'x', dtype: 'float32', dims: [] }],
      someSizes,
    ));

  it('with a batch dimension of 1: row by row', () =>
    withModel(write(sum(1)), async (model, session) => {
      const rows = Array.from({ length: 9 }, (_, i) => randomRow(sumInputs, i));
      const expected = await Promise.all(rows.map((row) => reference(session, sumInputs, [row])));
      expect(repliesOf(await model.run(rowsOf(rows)), 9)).to.deep.equal(expected.flat());
    }));

  it('with a batch dimension of 4: the last call is padded', () =>
    withModel(write(sum(4)), async (model, session) => {
      for (const size of [1, 3, 4, 5, 8, 11]) {
        const rows = Array.from({ length: size }, (_, i) => randomRow(sumInputs, size * 100 + i));
        const expected: string[] = [];
        for (let i = 0; i < size; i += 4)
          expected.push(...(await reference(session, sumInputs, rows.slice(i, i + 4), 4)));
        expect(repliesOf(await model.run(rowsOf(rows)), size), `${size} rows`).to.deep.equal(expected);
      }
    }));
});

describe('an ONNX model that cannot be served is refused when it is loaded', () => {
  const refuses = async (graph: GraphSpec, says: RegExp): Promise<void> => {
    const loaded = await loadOnnxModel(write(graph), settings, proving).then(
      () => 'loaded',
      (error: Error) => error.message,
    );
    expect(loaded).to.match(says);
  };
  /** A model with another field behind the others, which counts in place of one before it, or beside it. */
  const refusesWith = async (extra: Buffer, says: RegExp): Promise<void> => {
    const path = write(sum('n'));
    appendFileSync(path, extra);
    const loaded = await loadOnnxModel(path, settings, proving).then(
      () => 'loaded',
      (error: Error) => error.message,
    );
    expect(loaded).to.match(says);
  };

  it('for an IR version or an opset that ONNX Runtime does not know yet, with those that it knows', async () => {
    await refusesWith(
      field(1, 99),
      /has the ONNX IR version 99, and ONNX Runtime here knows those up to \d+: save it with an older one .*m\.ir_version = \d+/,
    );
    const later = (domain: string) => field(8, message(field(1, domain), field(2, 99)));
    await refusesWith(
      later(''),
      /is for opset 99 of ai\.onnx, and ONNX Runtime here knows those up to \d+: export it .*`opset_version=\d+` of torch/,
    );
    await refusesWith(
      later('ai.onnx.ml'),
      /is for opset 99 of ai\.onnx\.ml, .* up to \d+: .*`target_opset` of skl2onnx/,
    );
  });

  it('for an operator that ONNX Runtime does not have, which it names', async () => {
    const withNode = ({ nodes: [first, ...others] }: GraphSpec, change: object): GraphSpec => ({
      ...sum('n'),
      nodes: [{ ...(first as GraphSpec['nodes'][0]), ...change }, ...others],
    });
    await refuses(withNode(sum('n'), { op: 'Foo' }), /needs the operator Foo, which opset 17 does not have: export/);
    const theirs = write(withNode(sum('n'), { op: 'Foo', domain: 'com.acme' as never }));
    appendFileSync(theirs, field(8, message(field(1, 'com.acme'), field(2, 1))));
    const error = await loadOnnxModel(theirs, settings, proving).catch((thrown: Error) => thrown);
    expect((error as Error).message).to.match(
      /needs the operator Foo of the domain com\.acme, which ONNX Runtime here/,
    );
    expect((error as Error).cause).to.be.instanceOf(Error);
  });

  it('for an operator that has no implementation for a type', () =>
    refuses(
      {
        inputs: [{ name: 'x', dtype: 'float64', shape: ['n', 3] }],
        outputs: [{ name: 'y', dtype: 'float64', shape: ['n', 3] }],
        nodes: [{ op: 'Erf', inputs: ['x'], outputs: ['y'] }],
      },
      /uses the operator Erf \(opset 13\) with a type for which ONNX Runtime here has no implementation: export/,
    ));
});
