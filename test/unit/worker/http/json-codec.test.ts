import { expect } from 'chai';
import { InvalidMessage } from '#src/protocol/invalid-message.js';
import type { InferAnswer } from '#src/protocol/oip/infer.js';
import { decodeJsonRequest } from '#src/protocol/oip/json/request.js';
import { encodeJsonAnswer } from '#src/protocol/oip/json/response.js';
import { JsonCodec } from '#src/worker/http/json/codec.js';
import { answerOf, plainCall } from '../../../support/infer.js';

const asked = { model: 'm', version: '1' };
const wanted = { outputs: [], isBinary: false };

function requestOf(elements: number): Buffer {
  const data = Array.from({ length: elements }, (_, i) => i / 7);
  const inputs = [
    { name: 'x', datatype: 'FP32', shape: [1, elements], data },
    { name: 'text', datatype: 'BYTES', shape: [2], data: ['é', 'z'] },
    { name: 'big', datatype: 'INT64', shape: [1], data: [0] },
  ];
  return Buffer.from(
    JSON.stringify({ id: 'i', inputs, parameters: { sequence_id: 5 } }).replace('[0]', '[9007199254740993]'),
  );
}

const answerWith = (values: readonly number[]): InferAnswer =>
  answerOf({ model: 'm', version: '1', id: 'i' }, [
    { name: 'y', datatype: 'FP32', shape: [values.length], values: values.map(Math.fround) },
    { name: 'label', datatype: 'BYTES', shape: [1], values: ['é"'] },
  ]);

const refusal = async (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => null,
    (error: unknown) => error,
  );

describe('large JSON', () => {
  let codec: JsonCodec;
  beforeEach(() => {
    codec = new JsonCodec();
  });
  afterEach(() => codec.close());

  it('is read in a thread, as it would be at once', async () => {
    const body = requestOf(20_000);
    expect(codec.isLongToDecode(body.length)).to.equal(true);
    const here = plainCall(decodeJsonRequest(body, body.length, asked));
    expect(plainCall(await codec.decode(Buffer.from(body), body.length, asked))).to.deep.equal(here);
  });

  it('and binary tensors behind it are too', async () => {
    const json = JSON.stringify({
      inputs: [{ name: 'x', datatype: 'UINT8', shape: [200_000], parameters: { binary_data_size: 200_000 } }],
      padding: ' '.repeat(200_000),
    });
    const body = Buffer.concat([Buffer.from(json), Buffer.alloc(200_000, 7)]);
    const here = plainCall(decodeJsonRequest(body, json.length, asked));
    expect(plainCall(await codec.decode(body, json.length, asked))).to.deep.equal(here);
  });

  it('is written in a thread, as it would be at once', async () => {
    const answer = answerWith(Array.from({ length: 20_000 }, (_, i) => i / 3));
    expect(codec.isLongToEncode(answer, wanted)).to.equal(true);
    expect(codec.isLongToEncode(answer, { outputs: [], isBinary: true })).to.equal(false);
    const here = encodeJsonAnswer(answer, wanted);
    const encoding = codec.encode(answer, wanted);
    for (const { source } of answer.outputs) source.fill(0); // it is not needed any more
    expect((await encoding).body.equals(here.body)).to.equal(true);
  });

  it('small JSON is not', () => {
    expect(codec.isLongToDecode(10_000)).to.equal(false);
    expect(codec.isLongToEncode(answerWith([1, 2]), wanted)).to.equal(false);
  });

  it('is refused as it would be at once', async () => {
    const error = await refusal(codec.decode(Buffer.alloc(200_000, '['), 200_000, asked));
    expect(error).to.be.instanceOf(InvalidMessage);
    expect((error as Error).message).to.equal('the request should be an object, and is a list (byte 0 of the JSON)');
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => codec.encode(answerWith([1, value]), wanted)).to.throw(InvalidMessage, 'which JSON cannot say');
  });

  it('keeps the order of tasks', async () => {
    const sizes = [15_000, 100, 9000, 1];
    const calls = await Promise.all(
      sizes.map((size) => {
        const body = requestOf(size);
        return codec.decode(body, body.length, asked);
      }),
    );
    expect(calls.map(({ inputs }) => inputs[0]?.spec.elements)).to.deep.equal(sizes);
  });

  it('is refused when the thread dies, and read by another one after that', async () => {
    const body = (): Buffer => requestOf(10_000);
    const dying = codec.decode(body(), body().length, asked);
    await codec.close();
    expect(await refusal(dying))
      .to.be.instanceOf(Error)
      .and.not.instanceOf(InvalidMessage);
    expect((await codec.decode(body(), body().length, asked)).inputs).to.have.lengthOf(3);
  });
});
