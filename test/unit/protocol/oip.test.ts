import { expect } from 'chai';
import fc from 'fast-check';
import { CallDecoder } from '#src/protocol/calls/call.js';
import { encodeFailure, ReplyEncoder } from '#src/protocol/calls/reply.js';
import { InvalidMessage } from '#src/protocol/invalid-message.js';
import { type DatatypeName, datatypeOf, datatypes, isDatatype } from '#src/protocol/oip/datatypes.js';
import type { InferAnswer, InferCall } from '#src/protocol/oip/infer.js';
import { InferRequestDecoder } from '#src/protocol/oip/request.js';
import { InferResponseEncoder } from '#src/protocol/oip/response.js';
import { dtypes } from '#src/tensors/dtypes.js';
import { damaged, damages, unknownFields } from '../../support/bytes.js';
import {
  answerOf,
  bytesOf,
  names,
  plainCall,
  plainCase,
  plainTensor,
  type TensorCase,
  tensorCases,
} from '../../support/infer.js';
import { decodeByOthers, encodeByOthers, type Plain } from '../../support/protos.js';

const contentFields: Readonly<Partial<Record<DatatypeName, string>>> = {
  BOOL: 'bool_contents',
  UINT8: 'uint_contents',
  UINT16: 'uint_contents',
  UINT32: 'uint_contents',
  UINT64: 'uint64_contents',
  INT8: 'int_contents',
  INT16: 'int_contents',
  INT32: 'int_contents',
  INT64: 'int64_contents',
  FP32: 'fp32_contents',
  FP64: 'fp64_contents',
  BYTES: 'bytes_contents',
};
const typed = Object.keys(contentFields) as readonly DatatypeName[];

const headOf = ({ name, datatype, shape }: TensorCase): Plain => ({ name, datatype, shape });

function contentsOf({ datatype, values }: TensorCase): Plain {
  const list = values.map((value) =>
    datatype === 'BYTES' ? Buffer.from(value as string) : typeof value === 'bigint' ? String(value) : value,
  );
  return { [contentFields[datatype] as string]: list };
}

interface RequestCase {
  readonly model_name: string;
  readonly model_version: string;
  readonly id: string;
  readonly inputs: readonly TensorCase[];
  readonly outputs: readonly string[];
  readonly isRaw: boolean;
}

const requestCases = fc.boolean().chain((isRaw) =>
  fc.record({
    model_name: names,
    model_version: fc.constantFrom('', '1', '20'),
    id: names,
    inputs: tensorCases(isRaw ? undefined : typed),
    outputs: fc.uniqueArray(names, { maxLength: 3 }),
    isRaw: fc.constant(isRaw),
  }),
);

const messageOf = ({ model_name, model_version, id, inputs, outputs, isRaw }: RequestCase): Plain => ({
  model_name,
  model_version,
  id,
  inputs: inputs.map((input) => (isRaw ? headOf(input) : { ...headOf(input), contents: contentsOf(input) })),
  outputs: outputs.map((name) => ({ name })),
  raw_input_contents: isRaw ? inputs.map(bytesOf) : [],
});

const callOf = ({ model_name, model_version, id, inputs, outputs }: RequestCase): object => ({
  model: model_name,
  version: model_version,
  id,
  timeoutUs: 0,
  priority: 0,
  sequence: null,
  wantsFinalResponse: false,
  isBinary: true,
  inputs: inputs.map(plainCase),
  outputs: outputs.map((name) => ({ name, isBinary: true })),
});

const name = 'inference.ModelInferRequest';
const decoder = new InferRequestDecoder();
/** Somewhere in a buffer, as a message lies in what was read. */
function decodeWithin(bytes: Buffer, by = decoder): InferCall {
  const source = Buffer.concat([Buffer.alloc(7, 0xff), bytes, Buffer.alloc(9, 0xff)]);
  return by.decode(source, 7, 7 + bytes.length);
}

function refusal(message: Plain | Buffer): string {
  try {
    decodeWithin(Buffer.isBuffer(message) ? message : encodeByOthers(name, message));
  } catch (error) {
    if (error instanceof InvalidMessage) return error.message;
    throw error;
  }
  return 'it was read';
}

function readOrNull(bytes: Buffer): InferCall | null {
  try {
    return decodeWithin(bytes);
  } catch (error) {
    if (error instanceof InvalidMessage) return null;
    throw error;
  }
}

/** The inputs of a request that protobufjs has read. */
function tensorsOf({ inputs, raw_input_contents }: Plain): readonly object[] {
  return (inputs as readonly Plain[]).map(({ name: tensor, datatype, shape, contents }, i) => {
    const raw = (raw_input_contents as readonly Buffer[])[i];
    const data = raw ?? dataOf(datatype as DatatypeName, (contents ?? {}) as Plain);
    return { name: tensor, datatype, shape: (shape as readonly string[]).map(Number), data };
  });
}

function dataOf(datatype: DatatypeName, contents: Plain): Buffer {
  const list = (contents[contentFields[datatype] ?? ''] ?? []) as readonly (number | string | boolean | Buffer)[];
  if (datatype === 'BYTES')
    return Buffer.concat(
      (list as readonly Buffer[]).flatMap((bytes) => [Buffer.from(Uint32Array.of(bytes.length).buffer), bytes]),
    );
  const values = datatype.endsWith('INT64')
    ? list.map((value) => BigInt(value as string))
    : (list as readonly number[]);
  return bytesOf({ name: '', datatype, shape: [], values });
}

/** A message in pieces of one field each, in another order: still the same message, but for lists that are in pieces. */
function reordered(type: string, message: Plain, order: readonly string[]): Buffer {
  return Buffer.concat(order.map((field) => encodeByOthers(type, { [field]: message[field] })));
}

const x = { name: 'x', datatype: 'FP32', shape: [1, 2] };
const raw = Buffer.alloc(8);
const asked = (more: Plain = {}): Plain => ({ model_name: 'm', inputs: [x], raw_input_contents: [raw], ...more });
const withInput = (more: Plain, contents?: Plain): Plain => ({
  model_name: 'm',
  inputs: [{ ...x, ...more, ...(contents === undefined ? {} : { contents }) }],
  raw_input_contents: contents === undefined ? [raw] : [],
});

describe('a ModelInferRequest', () => {
  it('is read as it was meant, raw or typed, whatever was read before', () => {
    fc.assert(
      fc.property(fc.array(requestCases, { minLength: 1, maxLength: 3 }), (requests) => {
        for (const request of [...requests, ...requests])
          expect(plainCall(decodeWithin(encodeByOthers(name, messageOf(request))))).to.deep.equal(callOf(request));
      }),
      { numRuns: 300 },
    );
  });

  it('is read with its fields in any order', () => {
    const fields = ['model_name', 'model_version', 'id', 'inputs', 'outputs', 'raw_input_contents'];
    fc.assert(
      fc.property(requestCases, fc.shuffledSubarray(fields, { minLength: fields.length }), (request, order) => {
        const bytes = reordered(name, messageOf(request), order);
        expect(plainCall(decodeWithin(bytes))).to.deep.equal(callOf(request));
      }),
    );
  });

  it('is read whatever unknown fields it has as well, at any place', () => {
    const wrap = (field: number, bytes: Buffer): Buffer => {
      const { length } = bytes;
      return Buffer.concat([Buffer.of(field * 8 + 2, (length & 0x7f) | 0x80, length >> 7), bytes]);
    };
    const message = (type: string, value: Plain): Buffer => encodeByOthers(`inference.${type}`, value);
    fc.assert(
      fc.property(tensorCases(typed), unknownFields, fc.boolean(), (inputs, unknown, isRaw) => {
        const request = { model_name: 'm', model_version: '', id: '', inputs, outputs: ['y'], isRaw };
        const parts = inputs.map((input) => {
          const head = message('ModelInferRequest.InferInputTensor', headOf(input));
          const contents = message('InferTensorContents', contentsOf(input));
          const parameter = wrap(4, Buffer.concat([unknown, wrap(2, unknown), unknown]));
          const typedPart = isRaw ? Buffer.alloc(0) : wrap(5, Buffer.concat([unknown, contents, unknown]));
          return wrap(5, Buffer.concat([unknown, head, parameter, typedPart, unknown]));
        });
        const output = message('ModelInferRequest.InferRequestedOutputTensor', { name: 'y' });
        const bytes = Buffer.concat([
          unknown,
          ...parts,
          wrap(6, Buffer.concat([unknown, output])),
          message('ModelInferRequest', { model_name: 'm', raw_input_contents: isRaw ? inputs.map(bytesOf) : [] }),
          unknown,
        ]);
        expect(plainCall(decodeWithin(bytes))).to.deep.equal(callOf(request));
      }),
    );
  });

  it('that is damaged is refused, or is what protobufjs reads, and leaves nothing behind', () => {
    let readable = 0;
    fc.assert(
      fc.property(requestCases, damages, (request, all) => {
        const sound = encodeByOthers(name, messageOf(request));
        const bytes = damaged(sound, all);
        const call = readOrNull(bytes);
        if (call !== null) {
          readable++;
          const others = decodeByOthers(name, bytes);
          expect(others).to.include({ model_name: call.model, model_version: call.version, id: call.id });
          expect(call.inputs.map(plainTensor)).to.deep.equal(tensorsOf(others));
          expect(call.outputs.map((one) => one.name)).to.deep.equal((others.outputs as Plain[]).map((one) => one.name));
        }
        expect(plainCall(decodeWithin(sound))).to.deep.equal(callOf(request));
      }),
      { numRuns: 800 },
    );
    expect(readable).to.be.greaterThan(30);
  });

  it('is refused, or read, at every single cut', () => {
    const bytes = encodeByOthers(name, asked({ id: '7', outputs: [{ name: 'y' }] }));
    for (let end = 0; end < bytes.length; end++) {
      const cut = Buffer.from(bytes.subarray(0, end));
      if (refusal(cut) === 'it was read') expect(decodeWithin(cut).inputs, `${end}`).to.deep.equal([]);
    }
  });

  it('leaves data where it is, and gives the same names and shapes again', () => {
    const bytes = encodeByOthers(name, asked({ outputs: [{ name: 'y' }] }));
    const first = decoder.decode(bytes, 0, bytes.length);
    expect(first.inputs[0]?.source).to.equal(bytes);
    const later = decodeWithin(encodeByOthers(name, asked({ id: 'other', outputs: [{ name: 'y' }] })));
    expect(later.inputs[0]?.spec).to.equal(first.inputs[0]?.spec);
    expect(later.outputs).to.equal(first.outputs);
    const floats = encodeByOthers(name, withInput({}, { fp32_contents: [1, 2] }));
    expect(decoder.decode(floats, 0, floats.length).inputs[0]?.source).to.equal(floats);
  });

  it('has its numbers also one by one, and in several pieces', () => {
    const wrap = (field: number, bytes: Buffer): Buffer =>
      Buffer.concat([Buffer.of(field * 8 + 2, bytes.length), bytes]);
    const contents = (value: Plain): Buffer => encodeByOthers('inference.InferTensorContents', value);
    const withContents = (datatype: DatatypeName, ...parts: readonly Buffer[]): Buffer => {
      const head = encodeByOthers('inference.ModelInferRequest.InferInputTensor', { name: 'x', datatype, shape: [3] });
      return wrap(5, Buffer.concat([head, ...parts]));
    };
    const dataIn = (bytes: Buffer): Buffer => {
      const [tensor] = decodeWithin(bytes).inputs;
      return Buffer.from(tensor?.source.subarray(tensor.start, tensor.end) ?? []);
    };
    const integers = [contents({ int_contents: [-3] }), Buffer.of(0x10, 5), contents({ int_contents: [7] })];
    expect(dataIn(withContents('INT8', wrap(5, Buffer.concat(integers))))).to.deep.equal(Buffer.of(0xfd, 5, 7));
    const one = Buffer.of(0x35, 0, 0, 0x80, 0x3f);
    const floats = Buffer.concat([contents({ fp32_contents: [2] }), one, contents({ fp32_contents: [4] })]);
    expect(dataIn(withContents('FP32', wrap(5, floats)))).to.deep.equal(Buffer.from(Float32Array.of(2, 1, 4).buffer));
    const whole = wrap(5, contents({ fp32_contents: [1, 2, 3] }));
    expect(dataIn(withContents('FP32', whole))).to.deep.equal(Buffer.from(Float32Array.of(1, 2, 3).buffer));
    expect(refusal(withContents('FP32', whole, whole))).to.match(/^an input has contents twice/);
  });

  it('has parameters that count, and others that do not', () => {
    const call = decodeWithin(
      encodeByOthers(
        name,
        asked({
          parameters: {
            timeout: { int64_param: 1500 },
            priority: { uint64_param: 2 },
            sequence_id: { uint64_param: '18446744073709551615' },
            sequence_start: { bool_param: true },
            sequence_end: { bool_param: false },
            triton_enable_empty_final_response: { bool_param: true },
            anything: { double_param: 0.5 },
            more: { string_param: 'x' },
          },
        }),
      ),
    );
    expect(call).to.deep.include({
      timeoutUs: 1500,
      priority: 2,
      wantsFinalResponse: true,
      sequence: { id: 2n ** 64n - 1n, isStart: true, isEnd: false },
    });
    const named = decodeWithin(encodeByOthers(name, asked({ parameters: { sequence_id: { string_param: '0' } } })));
    expect(named.sequence).to.deep.equal({ id: '0', isStart: false, isEnd: false });
    const none = decodeWithin(
      encodeByOthers(
        name,
        asked({ parameters: { sequence_id: { int64_param: 0 }, sequence_start: { bool_param: true } } }),
      ),
    );
    expect(none.sequence).to.equal(null);
  });

  it('is refused with what was expected, and what came', () => {
    const cases: readonly (readonly [Plain, string | RegExp])[] = [
      [asked({ raw_input_contents: [Buffer.alloc(7)] }), 'input "x" should have 8 bytes for FP32[1,2], and has 7'],
      [
        asked({ raw_input_contents: [] }),
        'input "x" has no data: send raw_input_contents, or the contents of each input',
      ],
      [asked({ raw_input_contents: [raw, raw] }), 'there are 1 inputs, and 2 raw_input_contents'],
      [
        { ...withInput({}, { fp32_contents: [1, 2] }), raw_input_contents: [raw] },
        'input "x" has contents, and there are raw_input_contents as well',
      ],
      [withInput({ datatype: 'FLOAT' }), /^input "x" has the datatype "FLOAT", which is none of BOOL, UINT8, .*BF16$/],
      [withInput({ shape: [-1, 2] }), 'input "x" has the shape [-1,2], and each size must be 0 or more'],
      [
        withInput({ shape: ['4294967296', '4294967296'] }),
        /^input "x" has the shape \[4294967296,4294967296\], which has more/,
      ],
      [withInput({ shape: Array(65).fill(1) }), /^a shape has more than 64 sizes/],
      [
        withInput({ datatype: 'FP16', shape: [1] }, { fp32_contents: [1] }),
        'input "x" is FP16, which has no typed contents: send it in raw_input_contents',
      ],
      [
        withInput({}, { int_contents: [1, 2] }),
        'input "x" is FP32, whose contents are fp32_contents, and has int_contents',
      ],
      [
        withInput({}, { fp32_contents: [1, 2, 3] }),
        'input "x" should have 2 elements for FP32[1,2], and has 3 in fp32_contents',
      ],
      [
        withInput({ datatype: 'INT8' }, { int_contents: [1, 128] }),
        'element 1 of input "x" is 128, and INT8 goes from -128 to 127',
      ],
      [
        withInput({ datatype: 'UINT16' }, { uint_contents: [65536, 1] }),
        'element 0 of input "x" is 65536, and UINT16 goes from 0 to 65535',
      ],
      [
        withInput({ datatype: 'BYTES', shape: [1] }),
        'input "x" should have 1 strings for BYTES[1], each behind its length in 4 bytes; 4 bytes are left',
      ],
      [
        asked({ inputs: [{ ...x, datatype: 'BYTES' }], raw_input_contents: [Buffer.of(0, 0, 0, 0)] }),
        'input "x" should have 2 strings for BYTES[1,2], each behind its length in 4 bytes; 1 are there',
      ],
      [
        asked({ inputs: [{ ...x, datatype: 'BYTES' }], raw_input_contents: [Buffer.of(9, 0, 0, 0, 1)] }),
        'element 0 of input "x" should have 9 bytes, and 1 are left',
      ],
      [asked({ inputs: [x, x], raw_input_contents: [raw, raw] }), 'two inputs have the name "x"'],
      [asked({ outputs: [{ name: 'y' }, { name: 'y' }] }), 'two outputs have the name "y"'],
      [
        asked({ outputs: Array.from({ length: 12 }, (_, i) => ({ name: `${i % 11}` })) }),
        'two outputs have the name "0"',
      ],
      [withInput({ parameters: { shared_memory_region: { string_param: 'r' } } }), /^input "x" lies in shared memory/],
      [
        asked({ outputs: [{ name: 'y', parameters: { shared_memory_region: { string_param: 'r' } } }] }),
        /^output "y" is wanted in shared memory/,
      ],
      [
        asked({ outputs: [{ name: 'y', parameters: { classification: { int64_param: 3 } } }] }),
        /^output "y" is wanted as classification/,
      ],
      [
        asked({ parameters: { timeout: { int64_param: -1 } } }),
        'the parameter timeout should be a whole number (microseconds), 0 or more, and is -1',
      ],
      [
        asked({ parameters: { sequence_start: { string_param: 'yes' } } }),
        'the parameter sequence_start should be true or false, and is "yes"',
      ],
    ];
    for (const [message, expected] of cases)
      if (typeof expected === 'string') expect(refusal(message)).to.equal(expected);
      else expect(refusal(message)).to.match(expected);
  });

  it('is never echoed at length', () => {
    const long = 'n'.repeat(10_000);
    const refused = [
      withInput({ name: long, shape: [3] }),
      withInput({ datatype: long }),
      asked({ parameters: { timeout: { string_param: long } } }),
      asked({
        inputs: [
          { ...x, name: long },
          { ...x, name: long },
        ],
        raw_input_contents: [raw, raw],
      }),
    ];
    for (const message of refused) expect(refusal(message).length).to.be.within(20, 300);
  });

  it('takes no more memory than its bytes allow', () => {
    expect(refusal(Buffer.alloc(100_000, Buffer.of(0x2a, 0)))).to.match(/^input "" has the datatype ""/);
    const bare = encodeByOthers(name, { inputs: [{ datatype: 'FP32' }] });
    expect(refusal(Buffer.alloc(100_000, bare))).to.equal('there are more than 1024 inputs');
    expect(refusal(Buffer.alloc(100_000, Buffer.of(0x3a, 0)))).to.equal('there are more than 1024 raw_input_contents');
    expect(refusal(Buffer.alloc(100_000, Buffer.of(0x32, 0)))).to.equal('there are more than 1024 outputs');
    // 2^50 elements are announced, and 3 bytes of them come.
    const announced = withInput({ datatype: 'INT64', shape: [String(2 ** 50)] }, { int64_contents: [1, 2, 3] });
    expect(refusal(announced)).to.match(
      /^input "x" should have 1125899906842624 elements .* and has 3 in int64_contents$/,
    );
  });
});

describe('a ModelInferResponse', () => {
  const encoder = new InferResponseEncoder();
  const expected = (answer: InferAnswer, outputs: readonly TensorCase[]): Plain => ({
    model_name: answer.model,
    model_version: answer.version,
    id: answer.id,
    outputs: outputs.map((output) => ({ ...headOf(output), shape: output.shape.map(String), parameters: {} })),
    raw_output_contents: outputs.map(bytesOf),
  });

  it('is read by protobufjs as it was meant, whatever was written before, and fits its buffer', () => {
    const answers = fc.array(fc.tuple(fc.record({ model: names, version: names, id: names }), tensorCases()), {
      maxLength: 3,
    });
    fc.assert(
      fc.property(answers, fc.nat({ max: 9 }), (all, before) => {
        for (const [answer, outputs] of all.map(([head, cases]) => [answerOf(head, cases), cases] as const)) {
          for (let again = 0; again < 2; again++) {
            const size = encoder.measure(answer);
            const out = Buffer.alloc(before + size + 3, 0xaa);
            expect(encoder.write(out, before)).to.equal(before + size);
            expect([...out.subarray(0, before), ...out.subarray(before + size)]).to.deep.equal(
              Array(before + 3).fill(0xaa),
            );
            const message = decodeByOthers('inference.ModelInferResponse', out.subarray(before, before + size));
            expect(message).to.deep.equal({ ...expected(answer, outputs), parameters: {} });
          }
        }
      }),
      { numRuns: 200 },
    );
  });

  it('says its parameters in the kind that they have', () => {
    const parameters = { a: true, b: -5, c: 'x', d: 0.5, e: 2n ** 63n, f: 2n ** 62n };
    const bytes = encoder.encode({ ...answerOf({ model: 'm', version: '1', id: '' }, []), parameters });
    expect(decodeByOthers('inference.ModelInferResponse', bytes).parameters).to.deep.equal({
      a: { bool_param: true },
      b: { int64_param: '-5' },
      c: { string_param: 'x' },
      d: { double_param: 0.5 },
      e: { uint64_param: String(2n ** 63n) },
      f: { int64_param: String(2n ** 62n) },
    });
  });
});

describe('a call', () => {
  const calls = new CallDecoder();
  const read = (message: Plain): ReturnType<CallDecoder['decode']> => {
    const bytes = encodeByOthers('mltcp.v1.Call', message);
    return calls.decode(bytes, 0, bytes.length);
  };

  it('is the request that it would be over gRPC, with a number and a time', () => {
    fc.assert(
      fc.property(requestCases, fc.bigInt({ min: 1n, max: 2n ** 64n - 1n }), (request, number) => {
        const call = read({ call: String(number), timeout_us: 70, infer: messageOf(request) });
        expect(BigInt(call.call)).to.equal(number);
        if (call.kind !== 'infer') throw new Error(call.kind);
        expect(plainCall(call.infer)).to.deep.equal({ ...callOf(request), timeoutUs: 70 });
      }),
    );
  });

  it('has the shorter of two times', () => {
    const infer = (timeout: number): Plain => asked({ parameters: { timeout: { int64_param: timeout } } });
    for (const [outer, inner, least] of [
      [5, 9, 5],
      [9, 5, 5],
      [0, 5, 5],
      [5, 0, 5],
    ] as const)
      expect(read({ call: 1, timeout_us: outer, infer: infer(inner) })).to.have.nested.property(
        'infer.timeoutUs',
        least,
      );
  });

  it('is read whatever unknown fields it has as well', () => {
    const ping = encodeByOthers('mltcp.v1.Call', { call: 3, ping: {} });
    fc.assert(
      fc.property(unknownFields, (unknown) => {
        const bytes = Buffer.concat([unknown, ping, unknown]);
        expect(calls.decode(bytes, 0, bytes.length)).to.deep.equal({ call: 3, secret: '', kind: 'ping' });
      }),
    );
  });

  it('may be about something else', () => {
    expect(read({ call: 7, cancel: {} })).to.deep.equal({ call: 7, secret: '', kind: 'cancel' });
    expect(read({ call: 7, secret: 's', ping: {} })).to.deep.equal({ call: 7, secret: 's', kind: 'ping' });
    expect(read({ call: 7, server_metadata: {} })).to.deep.equal({ call: 7, secret: '', kind: 'server-metadata' });
    expect(read({ call: 7, model_metadata: { name: 'm', version: '2' } })).to.deep.equal({
      call: 7,
      secret: '',
      kind: 'model-metadata',
      model: 'm',
      version: '2',
    });
  });

  it('that is wrong inside can be answered, and one without a number cannot', () => {
    const wrong = read({ call: 9, infer: asked({ raw_input_contents: [Buffer.alloc(3)] }) });
    expect(wrong).to.deep.include({ call: 9, kind: 'invalid' });
    expect(wrong).to.have.nested.property('error.message', 'input "x" should have 8 bytes for FP32[1,2], and has 3');
    const garbage = Buffer.concat([Buffer.of(8, 9, 0x2a, 2), Buffer.of(0x0a, 7)]);
    const cancelled = calls.decode(garbage, 0, garbage.length);
    expect(cancelled).to.have.nested.property(
      'error.message',
      '7 bytes should follow, and there are 0 (byte 2 of the message)',
    );
    expect(read({ call: 9 })).to.have.nested.property('error.message', 'a call has no body that this server knows');
    expect(() => read({ ping: {} })).to.throw(InvalidMessage, 'a call has no number');
    const twice = Buffer.concat([1, 2].map(() => encodeByOthers('mltcp.v1.Call', { call: 1, ping: {} })));
    expect(() => calls.decode(twice, 0, twice.length)).to.throw(InvalidMessage, 'more than one body');
  });

  it('that is damaged throws nothing but InvalidMessage, and the next one is read', () => {
    const ping = encodeByOthers('mltcp.v1.Call', { call: 3, ping: {} });
    fc.assert(
      fc.property(requestCases, damages, (request, all) => {
        const bytes = damaged(encodeByOthers('mltcp.v1.Call', { call: 1, infer: messageOf(request) }), all);
        try {
          calls.decode(bytes, 0, bytes.length);
        } catch (error) {
          expect(error).to.be.instanceOf(InvalidMessage);
        }
        expect(calls.decode(ping, 0, ping.length)).to.deep.equal({ call: 3, secret: '', kind: 'ping' });
      }),
      { numRuns: 300 },
    );
  });
});

describe('a reply', () => {
  const replies = new ReplyEncoder();

  it('is read by protobufjs as it was meant, and fits its buffer', () => {
    const numbers = fc.oneof(fc.maxSafeInteger().map(Math.abs), fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }));
    fc.assert(
      fc.property(numbers, tensorCases(), (number, outputs) => {
        const answer = answerOf({ model: 'm', version: '1', id: 'i' }, outputs);
        const bytes = replies.encode(number, answer);
        const { infer, ...envelope } = decodeByOthers('mltcp.v1.Reply', bytes);
        expect(envelope).to.deep.equal({ call: String(number), code: 0, reason: '', message: '', retry_after_ms: 0 });
        expect(infer).to.deep.equal(
          decodeByOthers('inference.ModelInferResponse', new InferResponseEncoder().encode(answer)),
        );
        expect(replies.measure(number, answer)).to.equal(bytes.length);
      }),
    );
  });

  it('says why there is no answer, and when there may be one', () => {
    const failure = { code: 14, reason: 'QUEUE_FULL', message: 'the queue is full', retryAfterMs: 5 };
    expect(decodeByOthers('mltcp.v1.Reply', encodeFailure(2n ** 63n, failure))).to.deep.equal({
      call: String(2n ** 63n),
      code: 14,
      reason: 'QUEUE_FULL',
      message: 'the queue is full',
      retry_after_ms: 5,
    });
  });
});

describe('the datatypes of the protocol', () => {
  it('are those that tensors have here, and bfloat16', () => {
    for (const dtype of [...(Object.keys(dtypes) as (keyof typeof dtypes)[]), 'string'] as const) {
      const datatype = datatypeOf(dtype);
      expect(datatypes[datatype].dtype).to.equal(dtype);
      expect(datatypes[datatype].bytes).to.equal(dtype === 'string' ? 0 : dtypes[dtype].bytes);
    }
    expect(Object.keys(datatypes)).to.have.lengthOf(Object.keys(dtypes).length + 2);
    expect(['FP32', 'BF16', 'toString', 'fp32'].map(isDatatype)).to.deep.equal([true, true, false, false]);
  });
});
