// Bytes for the codecs of the Open Inference Protocol: whatever they are, they are refused with InvalidMessage or read as
// others read them (protobufjs, JSON.parse), and no tensor is larger than its bytes allow. The first byte chooses the
// codec, and for JSON the second how many bytes at the end are binary tensors.

import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';
import { CallDecoder } from '../../dist/protocol/calls/call.js';
import * as calls from '../../dist/protocol/calls/messages.js';
import { InvalidMessage } from '../../dist/protocol/invalid-message.js';
import { decodeJsonRequest } from '../../dist/protocol/oip/json/request.js';
import * as oip from '../../dist/protocol/oip/messages.js';
import { InferRequestDecoder } from '../../dist/protocol/oip/request.js';
import { decode, encode } from '../../dist/protocol/protobuf/messages.js';

const root = new protobuf.Root();
root.resolvePath = (_, file) => fileURLToPath(new URL(`../../src/protocol/proto/${file}`, import.meta.url));
root.loadSync(['inference.proto', 'mltcp.proto', 'health.proto'], { keepCase: true });
const typeOf = ({ name }) => root.lookupType(name);

/** These read by description. */
const described = [oip.modelConfigResponse, oip.modelStatisticsResponse, oip.modelInferResponse, calls.reply];
const requests = new InferRequestDecoder();
const callDecoder = new CallDecoder();

/** What `act` gives; null when it refuses. */
function orRefused(act) {
  try {
    return act();
  } catch (error) {
    if (error instanceof InvalidMessage && error.message.length < 2500) return null;
    throw error;
  }
}

function must(isRight, what) {
  if (!isRight) throw new Error(what);
}

function checkInfer({ inputs }, bytes) {
  for (const { spec, source, start, end } of inputs) {
    must(start <= end && end <= source.length, 'a tensor lies outside of its bytes');
    must(source.length <= 8 * bytes + 256, `${source.length} bytes were made of ${bytes}`);
    must(spec.datatype === 'BYTES' || spec.elements <= end - start, 'a tensor has too few bytes');
  }
}

function checkRequest(bytes) {
  const call = orRefused(() => requests.decode(bytes, 0, bytes.length));
  if (call === null) return;
  checkInfer(call, bytes.length);
  const others = typeOf(oip.modelInferRequest).decode(bytes);
  must(others.model_name === call.model && others.id === call.id, 'the request is another to protobufjs');
  must(others.inputs.length === call.inputs.length, 'the inputs are others to protobufjs');
  for (const [i, raw] of others.raw_input_contents.entries()) {
    const { source, start, end } = call.inputs[i];
    must(source.subarray(start, end).equals(raw), 'the data is another to protobufjs');
  }
}

function checkCall(bytes) {
  const call = orRefused(() => callDecoder.decode(bytes, 0, bytes.length));
  if (call === null || call.kind === 'invalid') return;
  must(String(typeOf(calls.call).decode(bytes).call) === String(call.call), 'the call is another to protobufjs');
  if (call.kind === 'infer') checkInfer(call.infer, bytes.length);
}

function checkJson(bytes, binary) {
  const jsonBytes = Math.max(0, bytes.length - binary);
  const call = orRefused(() => decodeJsonRequest(bytes, jsonBytes, { model: 'm', version: '' }));
  if (call === null) return;
  checkInfer(call, bytes.length);
  const { inputs } = JSON.parse(bytes.toString('utf8', 0, jsonBytes));
  for (const [i, { name, data }] of inputs.entries()) {
    const { spec, source, start } = call.inputs[i];
    must(spec.name === name, 'the input is another to JSON.parse');
    if ((data ?? null) === null || spec.datatype !== 'FP32') continue;
    for (const [k, value] of [data].flat(Number.POSITIVE_INFINITY).entries())
      must(Object.is(source.readFloatLE(start + 4 * k), Math.fround(value)), `element ${k} is another to JSON.parse`);
  }
}

function checkDescribed(type, bytes) {
  const value = orRefused(() => decode(type, bytes));
  if (value === null) return;
  typeOf(type).decode(bytes);
  const again = encode(type, value);
  must(encode(type, decode(type, again)).equals(again), 'what was read is not what is written');
}

export function fuzz(data) {
  if (data.length < 2) return;
  const [choice, binary] = data;
  const bytes = Buffer.from(data.subarray(2));
  if (choice % 4 === 0) checkRequest(bytes);
  else if (choice % 4 === 1) checkCall(bytes);
  else if (choice % 4 === 2) checkJson(bytes, binary);
  else checkDescribed(described[binary % described.length], bytes);
}

export const covers = (url) => /\/dist\/protocol\/(protobuf|oip|calls)\//.test(url);

const contents = { int_contents: [1, -2], int64_contents: [], bytes_contents: [] };
const tensor = (datatype, more = {}) => ({ name: 'x', datatype, shape: [1, 2], ...more });
const request = (inputs, raw_input_contents = []) => ({
  model_name: 'm',
  id: '1',
  parameters: { timeout: { int64_param: 5 }, sequence_id: { string_param: 's' } },
  inputs,
  outputs: [{ name: 'y', parameters: { classification: { int64_param: 0 } } }],
  raw_input_contents,
});
const messages = [
  request([tensor('FP32')], [Buffer.alloc(8)]),
  request([tensor('INT8', { contents })]),
  request([tensor('BYTES', { contents: { bytes_contents: [Buffer.from('a'), Buffer.alloc(0)] } })]),
  request([tensor('FP64', { contents: { fp64_contents: [0.5, 1] } })]),
];
const json = (value, binary = '') =>
  Buffer.concat([Buffer.of(2, binary.length), Buffer.from(JSON.stringify(value) + binary)]);
const of = (choice, binary, type, value) => Buffer.concat([Buffer.of(choice, binary), encode(type, value)]);
const duration = { count: 1, ns: 2 ** 40 };
export const seeds = [
  ...messages.map((value) => of(0, 0, oip.modelInferRequest, value)),
  ...messages.map((infer) => of(1, 0, calls.call, { call: 2 ** 40, timeout_us: 9, infer })),
  of(1, 0, calls.call, { call: 1, model_metadata: { name: 'm' } }),
  of(1, 0, calls.call, { call: 1, cancel: {} }),
  json({ id: '1', inputs: [tensor('FP32', { data: [[0.1, -1e-7]] })], outputs: [{ name: 'y' }] }),
  json({ inputs: [tensor('INT64', { data: [1, 2] })], parameters: { binary_data_output: true, timeout: 5 } }),
  json({ inputs: [tensor('BYTES', { data: ['é', '\n'] })] }),
  json({
    inputs: [
      tensor('FP64', { data: [0.10000000149011612, 1e300] }),
      { ...tensor('BOOL', { data: [true, 0] }), name: 'b' },
    ],
  }),
  json({ inputs: [{ name: 'x', datatype: 'UINT8', shape: [3], parameters: { binary_data_size: 3 } }] }, 'abc'),
  of(3, 0, oip.modelConfigResponse, {
    config: { name: 'm', input: [{ data_type: 'TYPE_FP32', dims: [-1] }], dynamic_batching: {} },
  }),
  of(3, 1, oip.modelStatisticsResponse, { model_stats: [{ name: 'm', inference_stats: { success: duration } }] }),
  of(3, 2, oip.modelInferResponse, { outputs: [tensor('FP32', { contents })], raw_output_contents: [Buffer.alloc(4)] }),
  of(3, 3, calls.reply, { call: 1, reason: 'QUEUE_FULL', infer: { id: '1' } }),
];
export const words = [
  '"inputs":[',
  '"data":[',
  '"shape":[',
  '"datatype":"INT64"',
  '"parameters":{',
  '"binary_data_size":',
  '"outputs":[',
  '"name":',
  'FP32',
  'BYTES',
  'BOOL',
  '123456789012345678',
  '0.1000000000000000055511151231257827',
  'e-30',
  '\\u00e9',
  '\\ud83d',
  'NaN',
  'shared_memory_region',
  'sequence_start',
];
