import { expect } from 'chai';
import fc from 'fast-check';
import { InvalidMessage } from '#src/protocol/invalid-message.js';
import type { DatatypeName } from '#src/protocol/oip/datatypes.js';
import type { InferCall } from '#src/protocol/oip/infer.js';
import { JsonReader } from '#src/protocol/oip/json/reader.js';
import { decodeJsonRequest, jsonBytesOf } from '#src/protocol/oip/json/request.js';
import { encodeJsonAnswer } from '#src/protocol/oip/json/response.js';
import { JsonWriter } from '#src/protocol/oip/json/writer.js';
import { damaged, damages } from '../../support/bytes.js';
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

const sayable: readonly DatatypeName[] = [
  ...(['BOOL', 'UINT8', 'UINT16', 'UINT32', 'UINT64', 'INT8', 'INT16', 'INT32', 'INT64'] as const),
  ...(['FP32', 'FP64', 'BYTES'] as const),
];

/** As JSON.stringify would have it, if it knew whole numbers of 64 bits, and -0. */
function literal(value: TensorCase['values'][number]): string {
  if (typeof value === 'bigint') return String(value);
  return Object.is(value, -0) ? '-0.0' : JSON.stringify(value);
}

function nested(texts: readonly string[], shape: readonly number[], space: string): string {
  if (shape.length === 0) return texts[0] as string;
  const [size = 0, ...inner] = shape;
  const step = size === 0 ? 0 : texts.length / size;
  const parts = Array.from({ length: size }, (_, i) => nested(texts.slice(i * step, (i + 1) * step), inner, space));
  return `[${space}${parts.join(`${space},${space}`)}${space}]`;
}

type Form = 'flat' | 'nested' | 'binary';

interface JsonCase {
  readonly id: string;
  readonly inputs: readonly { readonly tensor: TensorCase; readonly form: Form; readonly order: readonly string[] }[];
  readonly outputs: readonly { readonly name: string; readonly isBinary: boolean | undefined }[];
  readonly isBinary: boolean;
  readonly space: string;
}

const jsonCases: fc.Arbitrary<JsonCase> = fc.record({
  id: names,
  inputs: tensorCases(sayable).chain((tensors) =>
    fc.tuple(
      ...tensors.map((tensor) =>
        fc.record({
          tensor: fc.constant(tensor),
          form: fc.constantFrom<Form>('flat', 'nested', 'binary'),
          order: fc.shuffledSubarray(['name', 'datatype', 'shape', 'parameters', 'data', 'other'], { minLength: 6 }),
        }),
      ),
    ),
  ),
  outputs: fc.uniqueArray(fc.record({ name: names, isBinary: fc.option(fc.boolean(), { nil: undefined }) }), {
    selector: ({ name }) => name,
    maxLength: 3,
  }),
  isBinary: fc.boolean(),
  space: fc.constantFrom('', ' ', '\r\n\t '),
});

function bodyOf({ id, inputs, outputs, isBinary, space }: JsonCase): {
  readonly body: Buffer;
  readonly jsonBytes: number;
} {
  const member = (name: string, value: string): string => `${JSON.stringify(name)}${space}:${space}${value}`;
  const inputText = ({ tensor, form, order }: JsonCase['inputs'][number]): string => {
    const texts = tensor.values.map(literal);
    const members: Readonly<Record<string, string>> = {
      name: member('name', JSON.stringify(tensor.name)),
      datatype: member('datatype', JSON.stringify(tensor.datatype)),
      shape: member('shape', JSON.stringify(tensor.shape)),
      other: member('other', '{"a":[1,{"b":null}],"c":"\\u00e9\\""}'),
      parameters: member(
        'parameters',
        form === 'binary' ? `{"x":[],"binary_data_size":${bytesOf(tensor).length}}` : '{"content_type":"np"}',
      ),
      data: member('data', form === 'nested' ? nested(texts, tensor.shape, space) : `[${texts.join(`,${space}`)}]`),
    };
    const kept = order.filter((name) => form !== 'binary' || name !== 'data');
    return `{${kept.map((name) => members[name]).join(`${space},${space}`)}}`;
  };
  const outputText = ({ name, isBinary: own }: JsonCase['outputs'][number]): string =>
    JSON.stringify({ name, ...(own === undefined ? {} : { parameters: { binary_data: own } }) });
  const json = Buffer.from(
    `${space}{${[
      member('id', JSON.stringify(id)),
      member('inputs', `[${inputs.map(inputText).join(`,${space}`)}]`),
      member('outputs', `[${outputs.map(outputText).join(',')}]`),
      member('parameters', `{"binary_data_output":${isBinary},"timeout":7,"custom":"x"}`),
    ].join(',')}}${space}`,
  );
  const binary = inputs.filter(({ form }) => form === 'binary').map(({ tensor }) => bytesOf(tensor));
  return { body: Buffer.concat([json, ...binary]), jsonBytes: json.length };
}

const asked = { model: 'm', version: '2' };

const callOf = ({ id, inputs, outputs, isBinary }: JsonCase): object => ({
  ...asked,
  id,
  timeoutUs: 7,
  priority: 0,
  sequence: null,
  wantsFinalResponse: false,
  isBinary,
  inputs: inputs.map(({ tensor }) => plainCase(tensor)),
  outputs: outputs.map(({ name, isBinary: own }) => ({ name, isBinary: own ?? isBinary })),
});

const decode = (json: string, binary = Buffer.alloc(0)): InferCall => {
  const text = Buffer.from(json);
  return decodeJsonRequest(Buffer.concat([text, binary]), text.length, asked);
};

function refusal(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof InvalidMessage) return error.message;
    throw error;
  }
  return 'it was read';
}

const withData = (datatype: string, shape: string, data: string): string =>
  `{"inputs":[{"name":"x","datatype":"${datatype}","shape":${shape},"data":${data}}]}`;

/** The data of one input, as numbers. */
function dataOf(datatype: 'FP32' | 'FP64', data: string): Float32Array | Float64Array {
  const count = JSON.parse(data).length as number;
  const [input] = decode(withData(datatype, `[${count}]`, data)).inputs;
  const bytes = new Uint8Array(input?.source.subarray(input.start, input.end) ?? []).buffer;
  return datatype === 'FP32' ? new Float32Array(bytes) : new Float64Array(bytes);
}

/** Texts of numbers as clients write them, and as none would. */
const numberTexts: fc.Arbitrary<string> = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => JSON.stringify(value)),
  fc.float({ noNaN: true, noDefaultInfinity: true }).map((value) => JSON.stringify(value)),
  fc
    .tuple(
      fc.constantFrom('', '-'),
      fc.oneof(
        fc.constant('0'),
        fc.tuple(fc.integer({ min: 1, max: 9 }), fc.stringMatching(/^\d{0,25}$/)).map((parts) => parts.join('')),
      ),
      fc.option(fc.stringMatching(/^\d{1,25}$/), { nil: null }),
      fc.option(fc.tuple(fc.constantFrom('e', 'E', 'e+', 'e-'), fc.integer({ min: 0, max: 400 })), { nil: null }),
    )
    .map(
      ([sign, whole, fraction, exponent]) =>
        `${sign}${whole}${fraction === null ? '' : `.${fraction}`}${exponent?.join('') ?? ''}`,
    ),
);

describe('a request in JSON', () => {
  it('is read as it was meant: nested, flat or binary, its members in any order', () => {
    fc.assert(
      fc.property(jsonCases, (request) => {
        const { body, jsonBytes } = bodyOf(request);
        expect(plainCall(decodeJsonRequest(body, jsonBytes, asked))).to.deep.equal(callOf(request));
      }),
      { numRuns: 400 },
    );
  });

  it('that is damaged is refused, or is what JSON.parse reads', () => {
    let readable = 0;
    fc.assert(
      fc.property(jsonCases, damages, (request, all) => {
        const { body, jsonBytes } = bodyOf(request);
        const json = damaged(Buffer.from(body.subarray(0, jsonBytes)), all);
        const bytes = Buffer.concat([json, body.subarray(jsonBytes)]);
        let call: InferCall;
        try {
          call = decodeJsonRequest(bytes, json.length, asked);
        } catch (error) {
          if (!(error instanceof InvalidMessage)) throw error;
          return;
        }
        readable++;
        const parsed = JSON.parse(json.toString()) as {
          readonly id?: string;
          readonly inputs: readonly {
            readonly name: string;
            readonly datatype: string;
            readonly shape: readonly number[];
            readonly data?: unknown;
          }[];
        };
        expect(call.id).to.equal(parsed.id ?? '');
        const heads = parsed.inputs.map(({ name, datatype, shape }) => ({ name, datatype, shape }));
        expect(
          call.inputs.map(({ spec: { name, datatype, shape } }) => ({ name, datatype, shape: [...shape] })),
        ).to.deep.equal(heads);
        for (const [i, { data }] of parsed.inputs.entries()) {
          const tensor = call.inputs[i] as InferCall['inputs'][number];
          if ((data ?? null) === null || tensor.spec.datatype.endsWith('INT64')) continue;
          const values = [data].flat(Number.POSITIVE_INFINITY) as number[];
          const { name, datatype, shape } = tensor.spec;
          expect(plainTensor(tensor)).to.deep.equal(plainCase({ name, datatype, shape, values }));
        }
      }),
      { numRuns: 800 },
    );
    expect(readable).to.be.greaterThan(15);
  });

  it('has the numbers that JSON.parse reads, in 64 bits and in 32', () => {
    fc.assert(
      fc.property(fc.array(numberTexts, { minLength: 1 }), (texts) => {
        const doubles = texts.filter((text) => Number.isFinite(Number(text)));
        const singles = texts.filter((text) => Number.isFinite(Math.fround(Number(text))));
        for (const [datatype, list] of [
          ['FP64', doubles],
          ['FP32', singles],
        ] as const) {
          const data = `[${list.join(',')}]`;
          const expected = JSON.parse(data) as number[];
          expect(dataOf(datatype, data)).to.deep.equal(
            datatype === 'FP64' ? new Float64Array(expected) : new Float32Array(expected),
          );
        }
      }),
      { numRuns: 500 },
    );
  });

  it('has numbers in 32 bits rounded as from 64 at the very edge between two', () => {
    const halves = fc.float({ min: Math.fround(1e-30), max: Math.fround(1e30), noNaN: true }).map((value) => {
      const bits = new Int32Array(new Float32Array([value]).buffer);
      const next = new Float32Array(Int32Array.of((bits[0] as number) + 1).buffer)[0] as number;
      return (value + next) / 2;
    });
    fc.assert(
      fc.property(halves, fc.integer({ min: 15, max: 25 }), fc.stringMatching(/^\d{0,4}$/), (half, digits, more) => {
        const [mantissa = '', exponent = ''] = half.toExponential(digits).split('e');
        const text = `${mantissa}${more}e${Number(exponent)}`;
        expect(dataOf('FP32', `[${text}]`)).to.deep.equal(Float32Array.of(Number(text)));
      }),
      { numRuns: 500 },
    );
  });

  it('is not read where JSON.parse would not', () => {
    const texts = [
      '01',
      '-',
      '+1',
      '1.',
      '.5',
      '1e',
      '1e+',
      '0x1',
      '1_0',
      '--1',
      '-01',
      '1.e5',
      'NaN',
      '-Infinity',
      'tru',
      'nul',
      '"',
      '"\\x"',
      '"\t"',
      '',
      ',',
      '[1,]',
      '[,1]',
      '{"a"}',
      '{a:1}',
      '{"a":1,}',
      "'a'",
      '[1',
      '1 2',
    ];
    for (const text of texts) {
      const json = `{"other":${text},"inputs":[]}`;
      expect(() => JSON.parse(json), text).to.throw(SyntaxError);
      expect(
        refusal(() => decode(json)),
        text,
      ).not.to.equal('it was read');
      expect(
        refusal(() => decode(withData('FP32', '[1]', `[${text}]`))),
        text,
      ).not.to.equal('it was read');
    }
    fc.assert(
      fc.property(fc.stringMatching(/^[-+.\d eE"\\u\]]{1,8}$/), (text) => {
        const bytes = Buffer.from(text);
        const reader = new JsonReader(bytes, 0, bytes.length);
        const isRead = refusal(() => {
          reader.skip('it');
          reader.finish();
        });
        let isJson = 'it was read';
        try {
          JSON.parse(text);
        } catch {
          isJson = 'it was refused';
        }
        expect(isRead === 'it was read').to.equal(isJson === 'it was read');
      }),
      { numRuns: 2000 },
    );
  });

  it('may have null for what it leaves out', () => {
    const input =
      '{"name":"x","datatype":"UINT8","shape":[1],"data":null,"parameters":{"binary_data_size":1,"other":null}}';
    const call = decode(`{"id":null,"outputs":null,"parameters":null,"inputs":[${input}]}`, Buffer.of(7));
    expect(plainCall(call)).to.deep.include({ id: '', outputs: [], timeoutUs: 0 });
    expect(call.inputs.map(plainTensor)).to.deep.equal([
      { name: 'x', datatype: 'UINT8', shape: [1], data: Buffer.of(7) },
    ]);
    for (const id of ['true', 'nul', '1'])
      expect(refusal(() => decode(`{"id":${id},"inputs":[]}`))).to.match(
        /^the id of the request should be a text, and is "/,
      );
  });

  it('may have escapes, and texts of any language', () => {
    const call = decode('{"id":"\\u00e9\\n\\ud83d\\ude00 é😀\\"\\\\","inputs":[]}');
    expect(call.id).to.equal('é\n😀 é😀"\\');
    expect(refusal(() => decode('{"id":"\\ud83d","inputs":[]}'))).to.match(/^a text has half of a pair of surrogates/);
    const latin = Buffer.from('{"id":"\xe9","inputs":[]}', 'latin1');
    expect(refusal(() => decodeJsonRequest(latin, latin.length, asked))).to.match(
      /^a text is not UTF-8 \(byte 6 of the JSON\)/,
    );
  });

  it('is refused with the tensor, what was expected, and what came', () => {
    const cases: readonly (readonly [string, string | RegExp])[] = [
      ['', 'the request should be an object, and is the end (byte 0 of the JSON)'],
      ['[]', 'the request should be an object, and is a list (byte 0 of the JSON)'],
      ['{}', 'the request has no inputs'],
      ['{"inputs":[{}]}', 'inputs[0] has no name'],
      ['{"inputs":[{"name":"x","shape":[]}]}', 'inputs[0] has no datatype'],
      ['{"inputs":[],"inputs":[]}', 'the request has inputs twice'],
      ['{"inputs":[]} x', 'what follows the JSON should be nothing, and is "x" (byte 14 of the JSON)'],
      ['{"inputs":[{"name":"x","name":"y"}]}', 'inputs[0] has name twice'],
      [withData('FP32', '[2,2]', '[1,2,3]'), 'input "x" should have 4 elements for FP32[2,2], and has 3 in its data'],
      [
        withData('FP32', '[2,2]', '[[1,2],[3]]'),
        'input "x" should have 2 elements along dimension 1 of FP32[2,2], and has 1 in a list of its data',
      ],
      [
        withData('FP32', '[2,2]', '[[1,2]]'),
        'input "x" should have 2 elements along dimension 0 of FP32[2,2], and has 1 in a list of its data',
      ],
      [withData('FP32', '[1,2]', '[[[1],[2]]]'), /^element 0 of input "x" should be a number, and is a list/],
      [withData('FP32', '[2]', '[1,"a"]'), /^element 1 of input "x" should be a number, and is the text "a"/],
      [
        withData('FP32', '[1]', '[NaN]'),
        'element 0 of input "x" is "NaN", which JSON does not have: send it as binary data',
      ],
      [withData('FP64', '[1]', '[-Infinity]'), /^element 0 of input "x" is "-Infinity", which JSON does not have/],
      [withData('FP32', '[1]', '[null]'), /^element 0 of input "x" should be a number, and is "null"/],
      [withData('FP32', '[1]', '[1e39]'), 'element 0 of input "x" is 1e39, which FP32 does not have'],
      [withData('FP64', '[3]', '[1,2,"a]"]'), /^element 2 of input "x" should be a number, and is the text "a]"/],
      [withData('FP64', '[2]', '[1,2,]'), /^element 2 of input "x" should be a number, and is "\]"/],
      [withData('FP64', '[1]', '[1e400]'), 'element 0 of input "x" is 1e400, which FP64 does not have'],
      [withData('INT8', '[1]', '[128]'), 'element 0 of input "x" is 128, which INT8 does not have'],
      [withData('UINT32', '[1]', '[-1]'), 'element 0 of input "x" is -1, which UINT32 does not have'],
      [
        withData('INT64', '[1]', '[9223372036854775808]'),
        'element 0 of input "x" is 9223372036854775808, which INT64 does not have',
      ],
      [withData('UINT64', '[1]', '[-1]'), 'element 0 of input "x" is -1, which UINT64 does not have'],
      [
        withData('INT32', '[1]', '[1.0]'),
        'element 0 of input "x" should be a whole number for INT32, without fraction and exponent, and is 1.0',
      ],
      [withData('BOOL', '[1]', '[2]'), 'element 0 of input "x" is 2, which BOOL does not have'],
      [withData('BYTES', '[1]', '[1]'), /^element 0 of input "x" should be a text, and is "1"/],
      [withData('FP16', '[1]', '[1]'), 'input "x" is FP16, which JSON cannot say: send it as binary data'],
      [withData('FP33', '[1]', '[1]'), /^input "x" has the datatype "FP33", which is none of/],
      [withData('FP32', '[-1]', '[1]'), 'input "x" has the shape [-1], and each size must be 0 or more'],
      [withData('FP32', '[1.5]', '[1]'), 'inputs[0].shape[0] should be a whole number, and is 1.5'],
      [
        '{"inputs":[{"name":"x","datatype":"FP32","shape":[1]}]}',
        'input "x" has no data: it takes data, or the parameter binary_data_size',
      ],
      ['{"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]}', 'two outputs have the name "y"'],
      [
        '{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":2}}]}',
        /^output "y" is wanted as classification/,
      ],
      [
        '{"inputs":[],"parameters":{"timeout":-1}}',
        'the parameter timeout should be a whole number (microseconds), 0 or more, and is -1',
      ],
      [
        `{"inputs":[],"other":${'['.repeat(40)}1${']'.repeat(40)}}`,
        /^a member of the request is nested deeper than 32 levels/,
      ],
      [
        `{"inputs":[${Array(1025).fill('{"name":"x","datatype":"FP32","shape":[0]}').join(',')}]}`,
        'there are more than 1024 inputs',
      ],
    ];
    for (const [json, expected] of cases)
      if (typeof expected === 'string') expect(refusal(() => decode(json))).to.equal(expected);
      else expect(refusal(() => decode(json))).to.match(expected);
  });

  it('with binary tensors is refused where sizes do not add up', () => {
    const binary = (size: unknown, more = ''): string =>
      `{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":${size}}${more}}]}`;
    const refused = (json: string, bytes: number): string => refusal(() => decode(json, Buffer.alloc(bytes)));
    expect(refused(binary(8), 8)).to.equal('it was read');
    expect(refused(binary(8), 7)).to.match(
      /^input "x" has a binary_data_size of 8, and 7 bytes are left behind the JSON/,
    );
    expect(refused(binary(8), 9)).to.match(/^1 bytes follow the data of all inputs/);
    expect(refused(binary(4), 4)).to.equal('input "x" should have 8 bytes for FP32[2], and has 4');
    expect(refused(binary(-8), 8)).to.equal(
      'binary_data_size of inputs[0] should be a whole number, 0 or more, and is -8',
    );
    expect(refused(binary(8, ',"data":[1,2]'), 8)).to.equal('input "x" has both data and binary_data_size');
  });

  it('says by a header how many bytes are JSON', () => {
    expect(jsonBytesOf(undefined, 9)).to.equal(9);
    expect(jsonBytesOf('0', 9)).to.equal(0);
    expect(jsonBytesOf('9', 9)).to.equal(9);
    for (const header of ['10', '-1', '', '1e1', '0x1', ' 1', '9'.repeat(40)])
      expect(refusal(() => jsonBytesOf(header, 9))).to.match(
        /^Inference-Header-Content-Length should be a number up to 9/,
      );
    // A number that goes on behind the end of the JSON.
    expect(refusal(() => decodeJsonRequest(Buffer.from('12'), 1, asked))).to.match(/^the request should be an object/);
    const digits = Buffer.from('{"inputs":[],"x":12}');
    expect(refusal(() => decodeJsonRequest(digits, digits.length - 2, asked))).to.match(/^it ends within a number/);
  });

  it('is not parsed again and again where a list is wrong at its end', () => {
    const { numbersLeft } = JsonReader.prototype;
    let tries = 0;
    JsonReader.prototype.numbersLeft = function counting(): readonly number[] | null {
      tries++;
      return numbersLeft.call(this);
    };
    try {
      const list = `[${'1 ,'.repeat(1000)}"x"]`;
      expect(refusal(() => decode(withData('FP64', '[1001]', list)))).to.match(
        /^element 1000 of input "x" should be a number/,
      );
    } finally {
      JsonReader.prototype.numbersLeft = numbersLeft;
    }
    expect(tries).to.equal(1);
  });

  it('reserves no memory for what does not come', () => {
    for (const datatype of sayable)
      expect(refusal(() => decode(withData(datatype, `[${2 ** 50}]`, '[]')))).to.match(
        /should have 1125899906842624 elements .* and has 0/,
      );
  });
});

describe('an answer in JSON', () => {
  it('is read as it was meant, to the last bit, in JSON or binary form as it was asked for', () => {
    const forms = fc.array(fc.boolean(), { maxLength: 2 });
    fc.assert(
      fc.property(tensorCases(sayable), fc.boolean(), forms, (outputs, isBinary, own) => {
        const wanted = outputs.slice(0, own.length).map(({ name }, i) => ({ name, isBinary: own[i] as boolean }));
        const answer = answerOf({ ...asked, id: 'i"' }, outputs);
        const { body, jsonBytes } = encodeJsonAnswer(answer, { outputs: wanted, isBinary });
        const json = body.toString('utf8', 0, jsonBytes ?? body.length);
        const { outputs: written, ...head } = JSON.parse(json) as { readonly outputs: readonly object[] };
        expect(head).to.deep.equal({ model_name: 'm', model_version: '2', id: 'i"' });
        expect(written.map((output) => 'parameters' in output)).to.deep.equal(
          outputs.map((_, i) => own[i] ?? isBinary),
        );
        expect(jsonBytes === null).to.equal(written.every((output) => 'data' in output));
        // Outputs have the form of inputs.
        const asInputs = Buffer.from(json.replace('"outputs":', '"inputs":'));
        const bytes = Buffer.concat([asInputs, body.subarray(jsonBytes ?? body.length)]);
        const { inputs } = decodeJsonRequest(bytes, asInputs.length, asked);
        expect(inputs.map(plainTensor)).to.deep.equal(outputs.map(plainCase));
      }),
      { numRuns: 300 },
    );
  });

  it('says why it cannot be given', () => {
    const refused = (datatype: DatatypeName, value: number | string, bytes?: Buffer): string => {
      const answer = answerOf({ ...asked, id: '' }, [{ name: 'y', datatype, shape: [1], values: [value] }]);
      const outputs =
        bytes === undefined ? answer.outputs : [{ ...answer.outputs[0], source: bytes, start: 0, end: bytes.length }];
      return refusal(() =>
        encodeJsonAnswer({ ...answer, outputs: outputs as typeof answer.outputs }, { outputs: [], isBinary: false }),
      );
    };
    const mend =
      'which JSON cannot say: ask for it in binary form (parameter binary_data of the output, or binary_data_output)';
    expect(refused('FP32', Number.NaN)).to.equal(`output "y" has NaN, ${mend}`);
    expect(refused('FP64', Number.NEGATIVE_INFINITY)).to.equal(`output "y" has -Infinity, ${mend}`);
    expect(refused('FP16', 1)).to.equal(`output "y" is FP16, ${mend}`);
    expect(refused('BYTES', 'x', Buffer.of(1, 0, 0, 0, 0xff))).to.equal(
      `output "y" has a string that is not UTF-8, ${mend}`,
    );
  });

  it('has parameters', () => {
    const { body } = encodeJsonAnswer(
      { ...answerOf({ ...asked, id: '' }, []), parameters: { a: true, b: 2n ** 60n, c: 'x' } },
      { outputs: [], isBinary: false },
    );
    expect(body.toString()).to.equal(
      '{"model_name":"m","model_version":"2","parameters":{"a":true,"b":1152921504606846976,"c":"x"},"outputs":[]}',
    );
  });
});

describe('a float32 in JSON', () => {
  const textOf = (value: number): string => {
    const writer = new JsonWriter();
    writer.float32(value);
    return writer.finish().toString();
  };
  const bits = fc
    .integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
    .map((word) => new Float32Array(Int32Array.of(word).buffer)[0] as number);

  it('is the shortest text that is read as that float32 again, as JavaScript would write it', () => {
    fc.assert(
      fc.property(
        fc
          .oneof(bits, fc.float({ min: -2, max: 2 }), fc.integer({ min: -1000, max: 1000 }))
          .filter((value) => Number.isFinite(value) && value !== 0),
        (value) => {
          const text = textOf(value);
          expect(Math.fround(Number(text))).to.equal(value);
          expect(String(Number(text))).to.equal(text);
          const digits = text
            .replace(/e.*/, '')
            .replace(/[-.]/g, '')
            .replace(/^0+|0+$/g, '').length;
          if (digits > 1) expect(Math.fround(Number(value.toPrecision(digits - 1)))).not.to.equal(value);
        },
      ),
      { numRuns: 5000 },
    );
  });

  it('is right at the edges', () => {
    const edges: readonly (readonly [number, string])[] = [
      [0, '0'],
      [-0, '-0.0'],
      [0.1, '0.1'],
      [-1.5, '-1.5'],
      [16777216, '16777216'],
      [3.4028234663852886e38, '3.4028235e+38'],
      [1.401298464324817e-45, '1e-45'],
      [1.1754943508222875e-38, '1.1754944e-38'],
      [1e21, '1e+21'],
      [1e20, '100000000000000000000'],
      [1e-6, '0.000001'],
      [1e-7, '1e-7'],
      [1000, '1000'],
    ];
    for (const [value, text] of edges) expect(textOf(Math.fround(value))).to.equal(text);
    for (let power = -45; power <= 38; power++) {
      const value = Math.fround(Number(`1e${power}`));
      expect(Math.fround(Number(textOf(value)))).to.equal(value);
    }
  });
});
