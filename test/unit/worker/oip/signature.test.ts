import { expect } from 'chai';
import fc from 'fast-check';
import { layoutOf, type ParsedPayload, type PayloadLayout } from '#src/inference/payload.js';
import type { InputPlan, ModelPlan } from '#src/inference/plan.js';
import type { DatatypeName } from '#src/protocol/oip/datatypes.js';
import { checkData, type InferCall, type InferTensor, tensorSpec } from '#src/protocol/oip/infer.js';
import type { Tensor } from '#src/tensors/axis.js';
import type { Dtype } from '#src/tensors/dtypes.js';
import { CallError } from '#src/worker/oip/service.js';
import { ModelSignature, type ReplyDims, type RequestPayloads } from '#src/worker/oip/signature.js';
import {
  answerOf,
  bytesOf,
  callOf,
  counted,
  type NamedTensors,
  rawCall,
  tensor,
  tensorsOf,
} from '../../../support/infer-calls.js';
import { inputPlan, outputPlan, planOf } from '../../../support/plans.js';
import * as kinds from '../../../support/tensor-kinds.js';

const signed = (plan: ModelPlan | null, mostRows = 100, inputBytes: number | null = null): ModelSignature =>
  new ModelSignature({ plan, inputBytes, mostRows, mostRunRows: 8 });

/** A payload of each row, in hexadecimal digits. */
const digits = ({ source, bounds }: RequestPayloads): readonly string[] =>
  bounds.slice(1).map((end, i) => source.toString('hex', bounds[i], end));

const joinedBytes = (...tensors: readonly Tensor[]): string => Buffer.concat(tensors.map(bytesOf)).toString('hex');

function refusal(ask: () => unknown, reason = 'BAD_INPUT'): string {
  try {
    ask();
  } catch (error) {
    expect(error).to.be.instanceOf(CallError);
    expect((error as CallError).reason).to.equal(reason);
    return (error as CallError).message;
  }
  throw new Error('it was not refused');
}

const refused = (signature: ModelSignature, tensors: NamedTensors, outputs?: readonly string[]): string =>
  refusal(() => signature.payloadsOf(callOf(tensors, outputs)));

const answered = (
  signature: ModelSignature,
  call: InferCall,
  replies: readonly Uint8Array[],
  dims: readonly (ReplyDims | null)[] | null = null,
): NamedTensors => tensorsOf(answerOf(signature, call, replies, dims));

/** x FP32[-1,3] → y FP32[-1,2] */
const rowPlan = planOf([inputPlan('x', 'float32', ['b', 3])], [outputPlan('y', 'float32', ['b', 2])]);
/** x FP32[-1,2], k INT64[-1] → y FP32[-1,1], label BYTES[-1] */
const mixedPlan = planOf(
  [inputPlan('x', 'float32', ['b', 2]), inputPlan('k', 'int64', ['b'])],
  [outputPlan('y', 'float32', ['b', 1]), outputPlan('label', 'string', ['b'])],
);

describe('the signature of a model', () => {
  it('tells clients names, datatypes and shapes, and how many rows the first axis of all takes', () => {
    const { inputs, outputs, maxBatchSize } = signed(rowPlan, 64);
    expect(inputs).to.have.lengthOf(1);
    expect(inputs[0])
      .to.include({ name: 'x', datatype: 'FP32' })
      .and.deep.include({ shape: [-1, 3] });
    expect(outputs[0])
      .to.include({ name: 'y', datatype: 'FP32' })
      .and.deep.include({ shape: [-1, 2] });
    expect(maxBatchSize).to.equal(64);
  });

  it('has no batch as Triton means it where an input has no dimension but that', () => {
    expect(signed(mixedPlan).maxBatchSize).to.equal(0);
    expect(
      signed(planOf([inputPlan('x', 'float32', ['b', 2])], [outputPlan('label', 'string', ['b'])])).maxBatchSize,
    ).to.equal(100);
  });

  it('shows what requests may choose as -1, and no batch where the first axis of some tensor is none', () => {
    const shapes = (plan: ModelPlan): unknown => {
      const { inputs, outputs, maxBatchSize } = signed(plan, 64);
      return [inputs.map(({ shape }) => shape), outputs.map(({ shape }) => shape), maxBatchSize];
    };
    expect(shapes(kinds.sequences.plan)).to.deep.equal([
      [[-1, -1, 2]],
      [
        [-1, -1, 2],
        [-1, 2],
      ],
      64,
    ]);
    expect(shapes(kinds.stateful.plan)).to.deep.equal([
      [
        [-1, 3],
        [2, -1, 3],
      ],
      [
        [-1, 3],
        [2, -1, 3],
      ],
      0,
    ]);
    expect(shapes(kinds.shared.plan)).to.deep.equal([[[-1, 2], []], [[-1, 2]], 0]);
    expect(shapes(kinds.constant.plan)).to.deep.equal([[[-1, -1]], [[-1, -1]], 64]);
    expect(shapes(kinds.alone.plan)).to.deep.equal([[[-1], []], [[1, -1]], 0]);
    expect(shapes(kinds.fixedBatch.plan)).to.deep.equal([[[2, -1]], [[2, -1]], 0]);
    expect(shapes(kinds.rows.plan)).to.deep.equal([
      [[-1, 3, 2]],
      [
        [-1, 3, 2],
        [-1, 2],
      ],
      8,
    ]);
    expect(shapes(kinds.strings.plan)).to.deep.equal([
      [
        [-1, -1],
        [-1, -1],
      ],
      [
        [-1, -1],
        [-1, -1],
      ],
      64,
    ]);
  });

  it('leaves out outputs that replies do not have', () => {
    const hidden = { ...outputPlan('z', 'float32', ['b', 2]), isReturned: false };
    const signature = signed({ ...rowPlan, outputs: [hidden, ...rowPlan.outputs] });
    expect(signature.outputs.map(({ name }) => name)).to.deep.equal(['y']);
    expect(refused(signature, { x: counted('float32', [1, 3]) }, ['z'])).to.equal(
      'there is no output "z": the model gives "y" FP32[-1,2]',
    );
  });
});

describe('a request of tensors', () => {
  it('becomes a payload for each row, as views of its message where rows are the first axis of one input', () => {
    const signature = signed(rowPlan);
    const call = callOf({ x: counted('float32', [4, 3]) });
    const payloads = signature.payloadsOf(call);
    expect(payloads.source).to.equal(call.inputs[0]?.source);
    expect(payloads.bounds).to.deep.equal([5, 17, 29, 41, 53]);
    expect(digits(payloads)).to.deep.equal([0, 3, 6, 9].map((from) => joinedBytes(counted('float32', [3], from))));
  });

  it('has its inputs joined row by row, in the order of the model, whatever order they come in', () => {
    const x = counted('float32', [2, 2]);
    const k = counted('int64', [2], 7);
    const rows = [
      joinedBytes(counted('float32', [2]), counted('int64', [1], 7)),
      joinedBytes(counted('float32', [2], 2), counted('int64', [1], 8)),
    ];
    expect(digits(signed(mixedPlan).payloadsOf(callOf({ x, k })))).to.deep.equal(rows);
    expect(digits(signed(mixedPlan).payloadsOf(callOf({ k, x })))).to.deep.equal(rows);
  });

  it('has its rows along whatever axis the model has its batch, and what requests share in each payload', () => {
    const state = counted('float32', [2, 2, 3]);
    const payloads = signed(kinds.stateful.plan).payloadsOf(callOf({ x: counted('float32', [2, 3], 50), state }));
    expect(digits(payloads)).to.deep.equal([
      joinedBytes(tensor('float32', [9], [50, 51, 52, 0, 1, 2, 6, 7, 8])),
      joinedBytes(tensor('float32', [9], [53, 54, 55, 3, 4, 5, 9, 10, 11])),
    ]);
    const factor = counted('float32', [], 9);
    const shared = signed(kinds.shared.plan).payloadsOf(callOf({ factor, x: counted('float32', [2, 2]) }));
    expect(digits(shared)).to.deep.equal([
      joinedBytes(tensor('float32', [3], [0, 1, 9])),
      joinedBytes(tensor('float32', [3], [2, 3, 9])),
    ]);
  });

  it('of texts is cut between them, along any axis', () => {
    const s = tensor('string', [2, 2], ['é', '', 'abc', 'd']);
    const first = signed(planOf([inputPlan('s', 'string', ['b', 2])]));
    expect(digits(first.payloadsOf(callOf({ s })))).to.deep.equal([
      joinedBytes(tensor('string', [2], ['é', ''])),
      joinedBytes(tensor('string', [2], ['abc', 'd'])),
    ]);
    const second = signed(planOf([inputPlan('s', 'string', [2, 'b'])]));
    expect(digits(second.payloadsOf(callOf({ s })))).to.deep.equal([
      joinedBytes(tensor('string', [2], ['é', 'abc'])),
      joinedBytes(tensor('string', [2], ['', 'd'])),
    ]);
  });

  it('is one payload where the rows are the open dimension of a payload, or where it runs alone', () => {
    const x = counted('float32', [5, 3, 2]);
    const rows = signed(kinds.rows.plan).payloadsOf(callOf({ x }));
    expect(digits(rows)).to.deep.equal([joinedBytes(x)]);
    const n = counted('float32', [4]);
    const alone = signed(kinds.alone.plan).payloadsOf(callOf({ x: n, least: counted('float32', []) }));
    expect(digits(alone)).to.deep.equal([joinedBytes(n, counted('float32', []))]);
  });

  it('has every element as a payload where only the model understands them', () => {
    const signature = signed(null);
    expect(signature.inputs).to.deep.equal([{ name: 'payload', datatype: 'BYTES', shape: [-1] }]);
    expect(signature.outputs).to.deep.equal([{ name: 'reply', datatype: 'BYTES', shape: [-1] }]);
    expect(signature.maxBatchSize).to.equal(0);
    const hex = (...texts: readonly string[]): readonly string[] =>
      texts.map((text) => Buffer.from(text).toString('hex'));
    const one = callOf({ payload: tensor('string', [1], ['abc']) });
    expect(digits(signature.payloadsOf(one))).to.deep.equal(hex('abc'));
    expect(signature.payloadsOf(one).source).to.equal(one.inputs[0]?.source);
    const three = callOf({ payload: tensor('string', [3], ['abc', '', 'de']) });
    expect(digits(signature.payloadsOf(three))).to.deep.equal(hex('abc', '', 'de'));
    const replies = [Buffer.from([0, 255]), Buffer.alloc(0)];
    const [reply] = answerOf(signature, three, replies, null);
    expect(reply?.spec).to.deep.include({ name: 'reply', datatype: 'BYTES', shape: [2] });
    expect(Buffer.from(reply?.source ?? []).toString('hex')).to.equal('0200000000ff00000000');
  });

  it('of a model that only understands its payloads itself may have any bytes', () => {
    const call = rawCall('payload', 'BYTES', [1], '0500000000ff80c300');
    expect(digits(signed(null).payloadsOf(call))).to.deep.equal(['00ff80c300']);
  });
});

describe('a request is refused, with what was expected and what came, when', () => {
  const signature = signed(rowPlan);

  it('it has another datatype, rank or size', () => {
    expect(refused(signature, { x: counted('float64', [1, 3]) })).to.equal(
      'input "x" should be FP32[-1,3], and is FP64[1,3]',
    );
    expect(refused(signature, { x: counted('float32', [3]) })).to.equal(
      'input "x" should be FP32[-1,3], and is FP32[3]',
    );
    expect(refused(signature, { x: counted('float32', [1, 4]) })).to.equal(
      'input "x" should be FP32[-1,3], and is FP32[1,4]',
    );
  });

  it('an input is missing, unknown, or given in config', () => {
    expect(refused(signature, {})).to.equal('input "x" FP32[-1,3] is missing');
    expect(refused(signature, { X: counted('float32', [1, 3]) })).to.equal(
      'input "x" FP32[-1,3] is missing: the request has "X" FP32[1,3]',
    );
    expect(refused(signature, { x: counted('float32', [1, 3]), z: counted('int8', []) })).to.equal(
      'there is no input "z": the model takes "x" FP32[-1,3]',
    );
    const x = counted('float32', [1, 1]);
    expect(refused(signed(kinds.constant.plan), { x, factor: counted('float32', []) })).to.equal(
      'input "factor" has its value in the server\'s config: leave it out',
    );
  });

  it('an output is unknown', () => {
    expect(refused(signature, { x: counted('float32', [1, 3]) }, ['y', 'z'])).to.equal(
      'there is no output "z": the model gives "y" FP32[-1,2]',
    );
  });

  it('inputs disagree on their rows, or on a dimension that they share', () => {
    expect(refused(signed(mixedPlan), { x: counted('float32', [2, 2]), k: counted('int64', [3]) })).to.equal(
      'input "k" should agree with input "x" on the rows: they are 2 in FP32[2,2], and 3 in INT64[3]',
    );
    const s = tensor('string', [1, 2], ['a', 'b']);
    expect(refused(signed(kinds.strings.plan), { s, k: counted('int64', [1, 3]) })).to.equal(
      'input "k" should agree with input "s" on the dimension "n": they are 2 in BYTES[1,2], and 3 in INT64[1,3]',
    );
  });

  it('it has no rows, or more than wait for a model', () => {
    expect(refused(signature, { x: counted('float32', [0, 3]) })).to.equal(
      'the rows of input "x" should be 1 or more: it is FP32[0,3]',
    );
    expect(refused(signed(kinds.sequences.plan), { x: counted('float32', [1, 0, 2]) })).to.equal(
      'the dimension "seq" of input "x" should be 1 or more: it is FP32[1,0,2]',
    );
    expect(refused(signed(rowPlan, 4), { x: counted('float32', [5, 3]) })).to.equal(
      'a request should have 4 rows at the most, and has 5: send several',
    );
    // Rows of one payload are in one run.
    expect(refused(signed(kinds.rows.plan, 100), { x: counted('float32', [9, 3, 2]) })).to.equal(
      'a request should have 8 rows at the most, and has 9: send several',
    );
    expect(refused(signed(null, 1), { payload: tensor('string', [2], ['a', 'b']) })).to.equal(
      'a request should have 1 row at the most, and has 2: send several',
    );
  });

  it('a text has a NUL, or is not UTF-8', () => {
    const texts = signed(planOf([inputPlan('s', 'string', ['b', 1])]));
    const nul = rawCall('s', 'BYTES', [2, 1], '0100000061' + '0300000061006f');
    expect(refusal(() => texts.payloadsOf(nul))).to.equal(
      'element 1 of input "s" should be a text without NUL, and has one at 1: the model would not see what is behind it',
    );
    expect(refusal(() => texts.payloadsOf(rawCall('s', 'BYTES', [1, 1], '01000000ff')))).to.equal(
      'element 0 of input "s" should be UTF-8, and is not',
    );
  });

  it('it has less or more data than its shape says', () => {
    const call = callOf({ x: counted('float32', [2, 3]) });
    const [input] = call.inputs;
    const shorter = { ...call, inputs: [{ ...(input as InferCall['inputs'][0]), end: 28 }] };
    expect(refusal(() => signature.payloadsOf(shorter))).to.equal(
      'input "x" should have 24 bytes for FP32[2,3], and has 23',
    );
    const texts = signed(planOf([inputPlan('s', 'string', ['b', 1])]));
    for (const hex of ['', '020000', '0200000061', '010000006161']) {
      expect(refusal(() => texts.payloadsOf(rawCall('s', 'BYTES', [1, 1], hex)))).to.equal(
        'input "s" should have 1 strings for BYTES[1,1], each behind its length in 4 bytes, and has not',
      );
      expect(refusal(() => signed(null).payloadsOf(rawCall('payload', 'BYTES', [1], hex)))).to.equal(
        'input "payload" should have 1 strings, each behind its length in 4 bytes, and has not',
      );
    }
  });

  it('it has several rows, and wants an output that has no axis for them', () => {
    const plan = planOf(rowPlan.inputs, [
      outputPlan('y', 'float32', ['b', 2]),
      outputPlan('all', 'float32', [], 'none'),
    ]);
    const x = counted('float32', [2, 3]);
    expect(refused(signed(plan), { x })).to.equal(
      'output "all" has no axis for rows, and the request has 2 of them: send each in a request of its own',
    );
    expect(digits(signed(plan).payloadsOf(callOf({ x }, ['y'])))).to.have.lengthOf(2);
  });

  it('a payload of a model should have another length', () => {
    expect(refused(signed(null, 9, 4), { payload: tensor('string', [2], ['abcd', 'abc']) })).to.equal(
      'element 1 of input "payload" should have 4 bytes, and has 3',
    );
    expect(refused(signed(null), { x: tensor('string', [1], ['a']) })).to.equal(
      'the request should have the one input "payload" BYTES[-1], and has "x" BYTES[1]',
    );
    expect(refused(signed(null), { payload: counted('float32', [1]) })).to.equal(
      'input "payload" should be BYTES[-1], and is FP32[1]',
    );
  });
});

describe('an answer', () => {
  it('has the rows of all replies, without a copy where they lie side by side', () => {
    const signature = signed(rowPlan);
    const call = callOf({ x: counted('float32', [3, 3]) });
    const all = bytesOf(counted('float32', [3, 2]));
    const views = [0, 8, 16].map((at) => all.subarray(at, at + 8));
    expect(answered(signature, call, views)).to.deep.equal({ y: counted('float32', [3, 2]) });
    expect(answerOf(signature, call, views, null)[0]?.source.buffer).to.equal(all.buffer);
    const apart = views.map((view) => Buffer.concat([view]));
    expect(answered(signature, call, apart)).to.deep.equal({ y: counted('float32', [3, 2]) });
    const reversed = [...views].reverse();
    expect(answered(signature, call, reversed)).to.deep.equal({ y: tensor('float32', [3, 2], [4, 5, 2, 3, 0, 1]) });
  });

  it('has the outputs that are wanted, in that order', () => {
    const signature = signed(mixedPlan);
    const tensors = { x: counted('float32', [2, 2]), k: counted('int64', [2]) };
    const replies = ['no', 'yes'].map((label, i) =>
      Buffer.concat([bytesOf(counted('float32', [1, 1], i)), bytesOf(tensor('string', [1], [label]))]),
    );
    const y = counted('float32', [2, 1]);
    const label = tensor('string', [2], ['no', 'yes']);
    expect(answered(signature, callOf(tensors), replies)).to.deep.equal({ y, label });
    expect(Object.entries(answered(signature, callOf(tensors, ['label', 'y']), replies))).to.deep.equal([
      ['label', label],
      ['y', y],
    ]);
    expect(answered(signature, callOf(tensors, ['label']), replies)).to.deep.equal({ label });
  });

  it('has the same specs as the last one that looks like it: encoders know them again', () => {
    const signature = signed(rowPlan);
    const specs = (rows: number) => {
      const replies = Array.from({ length: rows }, () => Buffer.alloc(8));
      return answerOf(signature, callOf({ x: counted('float32', [rows, 3]) }), replies, null)[0]?.spec;
    };
    const one = specs(1);
    expect(specs(1)).to.equal(one);
    expect(specs(2)).to.not.equal(one);
  });

  it('has the dimensions that the model told where requests do not tell them', () => {
    const signature = signed(kinds.alone.plan);
    const call = callOf({ x: counted('float32', [4]), least: counted('float32', [], 1) });
    const reply = bytesOf(counted('int64', [1, 2], 2));
    expect(answered(signature, call, [reply], [[[1, 2]]])).to.deep.equal({ places: counted('int64', [1, 2], 2) });
    expect(refusal(() => answerOf(signature, call, [reply], null), 'INFERENCE_FAILED')).to.equal(
      'the model does not tell the shapes of its outputs',
    );
  });

  it('is refused when the rows of a request have outputs that cannot be joined, or a reply has other bytes', () => {
    const plan = planOf([inputPlan('x', 'float32', ['b', 3])], [outputPlan('y', 'float32', ['b', 'found'])]);
    const call = callOf({ x: counted('float32', [2, 3]) });
    const replies = [Buffer.alloc(8), Buffer.alloc(4)];
    expect(refusal(() => answerOf(signed(plan), call, replies, [[[1, 2]], [[1, 1]]]), 'INFERENCE_FAILED')).to.equal(
      'the output "y" is [1,2] for one row of the request, and [1,1] for another: ask for each row in a request of its own',
    );
    const all = Buffer.alloc(16);
    for (const short of [replies, [all.subarray(0, 8), all.subarray(8, 12)]])
      expect(refusal(() => answerOf(signed(rowPlan), call, short, null), 'INFERENCE_FAILED')).to.equal(
        'a reply of the model has 4 bytes, and its outputs 8',
      );
    const odd = [[[0, 2]], [[1, 2]]];
    expect(
      refusal(() => answerOf(signed(plan), call, [Buffer.alloc(0), all.subarray(0, 8)], odd), 'INFERENCE_FAILED'),
    ).to.equal('the output "y" is [0,2] for one row of the request: ask for each row in a request of its own');
  });

  it('to texts that end beyond their reply is refused', () => {
    const plan = planOf([inputPlan('x', 'float32', ['b', 3])], [outputPlan('s', 'string', ['b'])]);
    const call = callOf({ x: counted('float32', [1, 3]) });
    for (const hex of ['', '0500', '05000000', '0500000061'])
      expect(refusal(() => answerOf(signed(plan), call, [Buffer.from(hex, 'hex')], null), 'INFERENCE_FAILED')).to.match(
        /^a reply of the model has \d bytes/,
      );
  });
});

describe('whatever a client sends', () => {
  const dim = fc.constantFrom<number | string>('n', 'n', 0, 1, 2, 3);
  const dtype = fc.constantFrom<Dtype | 'string'>('float32', 'int64', 'uint8', 'string');
  const inputs = fc
    .array(fc.record({ dtype, dims: fc.array(dim, { maxLength: 2 }), batch: fc.integer({ min: -1, max: 2 }) }), {
      minLength: 1,
      maxLength: 3,
    })
    .map((all) =>
      all.map(({ dtype, dims, batch }, i) =>
        inputPlan(`x${i}`, dtype, batch < 0 ? dims : dims.toSpliced(batch, 0, 'b'), batch < 0 ? 'shared' : undefined),
      ),
    );

  const spec = (name: string): fc.Arbitrary<InferCall['inputs'][number]> =>
    fc
      .record({
        datatype: fc.constantFrom<DatatypeName>('FP32', 'INT64', 'UINT8', 'BYTES', 'BF16'),
        shape: fc.array(fc.nat({ max: 3 }), { maxLength: 4 }),
        bytes: fc.uint8Array({ maxLength: 40 }),
      })
      .map(({ datatype, shape, bytes }) => ({
        spec: tensorSpec(name, datatype, shape),
        source: bytes,
        start: 0,
        end: bytes.length,
      }));

  /** A request as it should be: then, in some, one tensor is any, left out, or added. */
  const request = (plans: readonly InputPlan[]): fc.Arbitrary<InferCall> =>
    fc
      .record({
        rows: fc.integer({ min: 0, max: 4 }),
        size: fc.nat({ max: 3 }),
        fault: fc.constantFrom('none', 'none', 'any', 'missing', 'added', 'shorter'),
        at: fc.nat({ max: plans.length - 1 }),
        any: spec('any'),
        seed: fc.nat(),
      })
      .map(({ rows, size, fault, at, any, seed }) => {
        const tensors = plans.map(({ name, dtype, requestDims, batchAxis }) => {
          const dims = requestDims.map((dim, axis) =>
            axis === batchAxis ? rows : dim === 'n' ? size : (dim as number),
          );
          const count = dims.reduce((product, one) => product * one, 1);
          const values = Array.from({ length: count }, (_, i) =>
            dtype === 'string' ? `é${seed % (i + 2)}` : (seed + i) % 200,
          );
          return [name, tensor(dtype, dims, values)] as const;
        });
        const call = callOf(Object.fromEntries(tensors));
        const sent = [...call.inputs];
        const own = sent[at] as InferCall['inputs'][number];
        if (fault === 'any') sent[at] = { ...any, spec: { ...any.spec, name: own.spec.name } };
        if (fault === 'missing') sent.splice(at, 1);
        if (fault === 'added') sent.push(any);
        if (fault === 'shorter') sent[at] = { ...own, end: Math.max(own.start, own.end - 1) };
        return { ...call, inputs: sent };
      });

  it('is refused with a reason, or becomes payloads that the model accepts and says the same of', () => {
    const seen = { taken: 0, refused: 0 };
    const drawn = inputs.chain((plans) =>
      fc.tuple(fc.constant(plans), fc.array(request(plans), { minLength: 1, maxLength: 4 })),
    );
    fc.assert(
      fc.property(drawn, ([plans, calls]) => {
        const plan = planOf(plans);
        let layout: PayloadLayout;
        try {
          layout = layoutOf(plan, 100);
        } catch {
          return; // no payload could say its shapes
        }
        const signature = signed(plan, 3);
        for (const call of calls) {
          let payloads: RequestPayloads;
          try {
            payloads = signature.payloadsOf(call);
          } catch (error) {
            expect(error).to.be.instanceOf(CallError).and.include({ reason: 'BAD_INPUT' });
            expect((error as CallError).message).to.match(/input|output|rows/);
            seen.refused++;
            continue;
          }
          seen.taken++;
          const { source, bounds } = payloads;
          expect(bounds.length).to.be.within(2, 4);
          for (const [i, end] of bounds.slice(1).entries()) {
            const start = bounds[i] as number;
            expect(layout.accepts(source, start, end)).to.equal(true);
            const { size } = layout.parse(source.subarray(start, end)) as ParsedPayload;
            for (const { spec } of call.inputs) {
              const input = plans.find(({ name }) => name === spec.name) as InputPlan;
              const dims = layout.dimsOf(input, size);
              expect(dims).to.deep.equal(spec.shape.map((own, axis) => (axis === input.batchAxis ? 1 : own)));
            }
          }
        }
      }),
      { numRuns: 300 },
    );
    expect(seen.taken).to.be.greaterThan(20);
    expect(seen.refused).to.be.greaterThan(20);
  });

  it('and whatever bytes the model replies, its answer is whole or the request fails', () => {
    const replies = fc.array(fc.uint8Array({ maxLength: 24 }), { minLength: 2, maxLength: 2 });
    const told = fc.option(
      fc.tuple(fc.array(fc.nat({ max: 3 }), { maxLength: 3 }), fc.array(fc.nat({ max: 2 }), { maxLength: 2 })),
    );
    const call = callOf({ x: counted('float32', [2, 2]), k: counted('int64', [2]) });
    fc.assert(
      fc.property(replies, fc.tuple(told, told), (rows, dims) => {
        const signature = signed(mixedPlan);
        let outputs: readonly InferTensor[];
        try {
          outputs = answerOf(signature, call, rows, dims);
        } catch (error) {
          expect(error).to.be.instanceOf(CallError).and.include({ reason: 'INFERENCE_FAILED' });
          return;
        }
        for (const output of outputs) checkData(output);
      }),
    );
  });
});
