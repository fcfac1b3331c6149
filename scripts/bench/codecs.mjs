// `node scripts/bench/codecs.mjs`, after a build: what it costs to read a request and to write its answer, in each form
// in which they travel, beside protobufjs and JSON.parse with JSON.stringify. All take turns; the least of many counts.

import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';
import { CallDecoder } from '../../dist/protocol/calls/call.js';
import { ReplyEncoder } from '../../dist/protocol/calls/reply.js';
import { decodeJsonRequest } from '../../dist/protocol/oip/json/request.js';
import { encodeJsonAnswer } from '../../dist/protocol/oip/json/response.js';
import { InferRequestDecoder } from '../../dist/protocol/oip/request.js';
import { InferResponseEncoder } from '../../dist/protocol/oip/response.js';

const root = new protobuf.Root();
root.resolvePath = (_, file) => fileURLToPath(new URL(`../../src/protocol/proto/${file}`, import.meta.url));
root.loadSync(['inference.proto', 'mltcp.proto'], { keepCase: true });
const [requests, responses, calls, replies] = [
  'inference.ModelInferRequest',
  'inference.ModelInferResponse',
  'mltcp.v1.Call',
  'mltcp.v1.Reply',
].map((name) => root.lookupType(name));

const turns = 100;
/** Work of about a millisecond is done in each turn. */
const elementsATurn = 64 * 500;

const decoder = new InferRequestDecoder();
const encoder = new InferResponseEncoder();
const callDecoder = new CallDecoder();
const replyEncoder = new ReplyEncoder();

for (const elements of [64, 4096, 65536]) {
  const values = Float32Array.from({ length: elements }, () => Math.random());
  const data = Buffer.from(values.buffer);
  const shape = [1, elements];
  const head = { name: 'x', datatype: 'FP32', shape };
  const spec = { ...head, elements };
  const output = { spec, source: data, start: 0, end: data.length };
  const request = { model_name: 'm', id: '1', inputs: [head], raw_input_contents: [data] };
  const answer = { model: 'm', version: '1', id: '1', outputs: [output] };
  const message = { model_name: 'm', model_version: '1', id: '1', outputs: [head], raw_output_contents: [data] };
  const json = { id: '1', inputs: [{ ...head, data: [...values] }] };
  const bytes = Buffer.from(requests.encode(requests.fromObject(request)).finish());
  const call = Buffer.from(calls.encode(calls.fromObject({ call: 1, infer: request })).finish());
  const text = Buffer.from(JSON.stringify(json));
  const wanted = { outputs: [], isBinary: false };
  const works = {
    protobuf: [
      () => decoder.decode(bytes, 0, bytes.length) && encoder.encode(answer),
      () => requests.decode(bytes) && responses.encode(message).finish(),
    ],
    calls: [
      () => callDecoder.decode(call, 0, call.length) && replyEncoder.encode(1, answer),
      () => calls.decode(call) && replies.encode({ call: 1, infer: message }).finish(),
    ],
    'JSON, read': [
      () => decodeJsonRequest(text, text.length, { model: 'm', version: '' }),
      () => Float32Array.from(JSON.parse(text.toString()).inputs[0].data),
    ],
    'JSON, written': [
      () => encodeJsonAnswer(answer, wanted),
      () => Buffer.from(JSON.stringify({ id: '1', outputs: [{ ...head, data: [...values] }] })),
    ],
  };
  console.log(`\n${elements} × float32`);
  for (const [form, sides] of Object.entries(works)) {
    const least = sides.map(() => Number.POSITIVE_INFINITY);
    const times = Math.max(1, Math.round(elementsATurn / elements));
    for (let turn = 0; turn < turns; turn++)
      for (const [i, work] of sides.entries()) {
        const began = performance.now();
        for (let k = 0; k < times; k++) work();
        least[i] = Math.min(least[i], ((performance.now() - began) * 1000) / times);
      }
    const [ours, theirs] = least;
    console.log(
      `${form.padEnd(14)} ${ours.toFixed(2)} µs, others ${theirs.toFixed(2)} µs: × ${(theirs / ours).toFixed(2)}`,
    );
  }
}
