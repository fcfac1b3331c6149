// Models whose requests are tensors of any shape: whatever shares a run, each request gets what it gets alone.

import { expect } from 'chai';
import fc from 'fast-check';
import { tensorModel } from '#src/inference/backends/tensor-model.js';
import { type Model, SharedRunError } from '#src/inference/model.js';
import type { InputPlan } from '#src/inference/plan.js';
import { elementsIn, type Tensor } from '#src/tensors/axis.js';
import { type Dtype, dtypes } from '#src/tensors/dtypes.js';
import { tensorOf } from '#src/tensors/literal.js';
import { inputPlan, outputPlan, planOf } from '../support/plans.js';
import { repliesOf, rowsOf } from '../support/rows.js';
import {
  dimsOf,
  inputsOf,
  type Kind,
  kinds,
  node,
  payloadOf,
  reference,
  rows,
  sequences,
} from '../support/tensor-kinds.js';
import { openSession, type TensorSession } from '../support/tensor-session.js';

const text = fc.string({ unit: 'binary', maxLength: 5 }).map((string) => string.replaceAll('\0', '0'));

/** The tensors of a request with this size of the open dimension. */
const tensorsOf = (inputs: readonly InputPlan[], size: number): fc.Arbitrary<readonly Tensor[]> =>
  fc.tuple(
    ...inputs.map((input): fc.Arbitrary<Tensor> => {
      const { dtype, batchAxis } = input;
      const dims = dimsOf(input, size);
      const length = elementsIn(dims);
      if (dtype === 'string')
        return fc.array(text, { minLength: length, maxLength: length }).map((data) => ({ dtype, dims, data }));
      // Few values of what requests share, so that some share a run.
      const value = batchAxis === 'shared' ? fc.constantFrom(1, 2) : fc.integer({ min: -100, max: 100 });
      return fc
        .array(value, { minLength: length, maxLength: length })
        .map((numbers) => (length === 0 ? { dtype, dims, data: new Uint8Array(0) } : flat(numbers, dtype, dims)));
    }),
  );

function flat(numbers: readonly number[], dtype: Dtype, dims: readonly number[]): Tensor {
  const { data } = tensorOf(numbers, dtype, [numbers.length]);
  return { dtype, dims, data } as Tensor;
}

class Opened {
  readonly session: TensorSession;
  readonly model: Model;

  constructor(kind: Kind, session: TensorSession, maxBatchSize: number) {
    const { plan, constants = {} } = kind;
    this.session = session;
    const values = plan.inputs.flatMap(({ name, dtype }) => {
      const literal = constants[name];
      return literal === undefined ? [] : [[name, tensorOf(literal, dtype, [])] as const];
    });
    const options = { plan, maxBatchSize, sample: null, constants: new Map(values) };
    this.model = tensorModel({ ...options, run: session.run, close: session.close });
  }

  /** The replies to a batch, in hexadecimal digits. */
  async replies(requests: readonly (readonly Tensor[])[]): Promise<readonly string[]> {
    return repliesOf(await this.model.run(rowsOf(requests.map(payloadOf))), requests.length);
  }
}

const requestOf = (kind: Kind): fc.Arbitrary<readonly Tensor[]> =>
  fc.constantFrom(...(kind.sizes ?? [0])).chain((size) => tensorsOf(inputsOf(kind), size));

describe('a model of tensors', () => {
  const opened: TensorSession[] = [];
  const open = async (kind: Kind, maxBatchSize = 6): Promise<Opened> => {
    const session = await openSession(kind.graph);
    opened.push(session);
    return new Opened(kind, session, maxBatchSize);
  };
  after(() => Promise.all(opened.map((session) => session.close())));

  for (const [name, kind] of Object.entries(kinds))
    it(`answers each request of a batch as ONNX Runtime answers it alone, bit for bit: ${name}`, async () => {
      const one = await open(kind);
      const requests = fc.array(requestOf(kind), { minLength: 1, maxLength: 12 });
      await fc.assert(
        fc.asyncProperty(requests, async (requests) => {
          const expected: string[] = [];
          for (const request of requests) expected.push((await reference(kind, one.session, request)).toString('hex'));
          one.session.runs.length = 0;
          expect(await one.replies(requests)).to.deep.equal(expected);
          const mayShare = kind.plan.runsAloneBecause === null;
          const shapes = new Set(requests.map((request) => payloadOf(request).length)).size;
          if (mayShare && shapes === 1 && requests.length > 6)
            expect(one.session.runs.length).to.be.below(requests.length);
          if (!mayShare) expect(one.session.runs).to.have.lengthOf(requests.length);
        }),
        { numRuns: 60 },
      );
    });

  it('runs requests of one shape together, in as few runs as the largest batch allows', async () => {
    const { model, session } = await open(sequences, 4);
    const payloads = [2, 3, 2, 2, 3, 2, 2].map((length) => Buffer.alloc(length * 8, length));
    await model.run(rowsOf(payloads));
    expect(session.runs).to.deep.equal(['4,2,2', '2,3,2', '1,2,2']);
  });

  it('tells after each run that it goes on', async () => {
    const { model } = await open(sequences, 4);
    let lots = 0;
    await model.run(rowsOf([2, 3, 2, 4].map((length) => Buffer.alloc(length * 8))), () => lots++);
    expect(lots).to.equal(3);
  });

  it('never splits a request of several rows, nor runs more rows than the largest batch', async () => {
    const { model, session } = await open(rows, 6);
    const payloads = [4, 3, 2, 6, 1].map((count) => Buffer.alloc(count * 24));
    const { rows: replies } = (await model.run(rowsOf(payloads))) as { rows: readonly Uint8Array[] };
    expect(replies.map(({ length }) => length)).to.deep.equal([4, 3, 2, 6, 1].map((count) => count * (24 + 8)));
    expect(session.runs).to.deep.equal(['4,3,2', '5,3,2', '6,3,2', '1,3,2']);
    expect(payloads.map((payload) => model.rowsIn?.(payload))).to.deep.equal([4, 3, 2, 6, 1]);
    expect(model.accepts?.(Buffer.alloc(7 * 24), 0, 7 * 24)).to.equal(false);
  });

  for (const dtype of Object.keys(dtypes) as readonly Dtype[])
    it(`keeps every bit of ${dtype} that is joined and split, those of NaNs too`, async () => {
      const shape = { name: 'x', dtype, shape: [2, 'b'] } as const;
      const identity: Kind = {
        graph: { inputs: [shape], outputs: [{ ...shape, name: 'y' }], nodes: [node('Identity', 'x', 'y')] },
        plan: planOf([inputPlan('x', dtype, [2, 'b'])], [outputPlan('y', dtype, [2, 'b'])]),
      };
      const { model, session } = await open(identity);
      const length = 2 * dtypes[dtype].bytes;
      const bytes = dtype === 'bool' ? fc.nat({ max: 1 }) : fc.constantFrom(0, 1, 0x7f, 0x80, 0xc0, 0xff);
      const payload = fc.array(bytes, { minLength: length, maxLength: length }).map((row) => Buffer.from(row));
      await fc.assert(
        fc.asyncProperty(fc.array(payload, { minLength: 2, maxLength: 6 }), async (payloads) => {
          session.runs.length = 0;
          const replies = repliesOf(await model.run(rowsOf(payloads)), payloads.length);
          expect(replies).to.deep.equal(payloads.map((row) => row.toString('hex')));
          expect(session.runs).to.deep.equal([`2,${payloads.length}`]);
        }),
        { numRuns: 20 },
      );
    });

  it('fails the requests of a run that fails, and no others, and says that alone they may succeed', async () => {
    const gather: Kind = {
      graph: {
        inputs: [{ name: 'i', dtype: 'int64', shape: ['b', 'n'] }],
        outputs: [{ name: 'y', dtype: 'float32', shape: ['b', 'n'] }],
        nodes: [node('Gather', 'table i', 'y')],
        constants: [{ name: 'table', shape: [3], values: Float32Array.of(5, 6, 7) }],
      },
      plan: planOf([inputPlan('i', 'int64', ['b', 'n'])], [outputPlan('y', 'float32', ['b', 'n'])]),
    };
    const { model } = await open(gather);
    const request = (...indices: readonly number[]): Buffer => Buffer.from(BigInt64Array.from(indices, BigInt).buffer);
    const bad = [request(0, 1), request(2), request(9), request(1, 1), request(1, 1, 99)];
    const { rows: replies } = (await model.run(rowsOf(bad))) as { rows: readonly (Uint8Array | Error)[] };
    expect(replies.map((reply) => (reply instanceof Error ? reply.name : reply.length))).to.deep.equal([
      8,
      'SharedRunError',
      'SharedRunError',
      8,
      'Error',
    ]);
    expect((replies[2] as SharedRunError).message).to.match(/out of data bounds/);
  });

  it('takes no answer of a shared run that is not what the plan says', async () => {
    /** Rows with a number of 1000 or more are left out of y; `same` has all. */
    const bounded: Kind = {
      graph: {
        inputs: [{ name: 'x', dtype: 'float32', shape: ['b', 'n'] }],
        outputs: [
          { name: 'y', dtype: 'float32', shape: null },
          { name: 'same', dtype: 'float32', shape: ['b', 'n'] },
        ],
        constants: [{ name: 'limit', shape: [1], values: Float32Array.of(1000) }],
        nodes: [
          node('ReduceMax', 'x', 'most', { axes: [1], keepdims: 0 }),
          node('Less', 'most limit', 'isSmall'),
          node('Compress', 'x isSmall', 'y', { axis: 0 }),
          node('Identity', 'x', 'same'),
        ],
      },
      plan: planOf(
        [inputPlan('x', 'float32', ['b', 'n'])],
        [outputPlan('y', 'float32', ['b', 'n']), outputPlan('same', 'float32', ['b', 'n'])],
      ),
    };
    const { model } = await open(bounded);
    const row = (...numbers: readonly number[]): Buffer => Buffer.from(Float32Array.from(numbers).buffer);
    const { rows: replies } = (await model.run(rowsOf([row(1, 2), row(3), row(4, 2000)]))) as {
      rows: readonly (Uint8Array | Error)[];
    };
    expect(replies[0]).to.be.instanceOf(SharedRunError);
    expect((replies[2] as Error).message).to.match(/output y has the shape \[1,2\] in a run of 2 rows, not \[2,2\]/);
    expect(Buffer.from(replies[1] as Uint8Array)).to.deep.equal(row(3, 3));
    const single = await model.run(rowsOf([row(4, 2000)]));
    expect(repliesOf(single, 1)).to.deep.equal([row(4, 2000).toString('hex')]);
  });

  it('of zero elements is answered', async () => {
    const concat: Kind = {
      graph: {
        inputs: [
          { name: 'x', dtype: 'float32', shape: ['b', 2] },
          { name: 'past', dtype: 'float32', shape: ['b', 'p'] },
        ],
        outputs: [{ name: 'y', dtype: 'float32', shape: ['b', 'q'] }],
        nodes: [node('Concat', 'past x', 'y', { axis: 1 })],
      },
      plan: planOf(
        [inputPlan('x', 'float32', ['b', 2]), { ...inputPlan('past', 'float32', ['b', 'p']), requestDims: [1, 0] }],
        [outputPlan('y', 'float32', ['b', 'q'])],
      ),
    };
    const { model } = await open(concat);
    const payloads = [Buffer.alloc(8, 1), Buffer.alloc(8, 2)];
    expect(model.inputBytes).to.equal(8);
    expect(repliesOf(await model.run(rowsOf(payloads)), 2)).to.deep.equal(payloads.map((row) => row.toString('hex')));
  });
});
