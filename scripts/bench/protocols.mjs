// What each protocol costs: the same network, asked with raw frames, calls on frames, HTTP and gRPC, beside servers that
// a team would write at first (peers.mjs). All take turns, with clients that are not the limit.

import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { join } from 'node:path';
import ort from '../../dist/inference/backends/onnx-runtime.js';
import { call } from '../../dist/protocol/calls/messages.js';
import { modelInferRequest } from '../../dist/protocol/oip/messages.js';
import { encode } from '../../dist/protocol/protobuf/messages.js';
import { cpuUs } from './cpu-time.mjs';
import { startPeer, startServer } from './programs.mjs';
import { median } from './throughput.mjs';

const workers = 2;
const row = Float32Array.from({ length: 64 }, (_, i) => Math.cos(i));
const rowBytes = Buffer.from(row.buffer);
const answerFloats = 10;

/** Connections and requests in flight on each. Over HTTP/1.1 h2load sends them without waiting for answers as well. */
const shapes = [
  [1, 1],
  [4, 16],
  [16, 64],
];

const infer = {
  model_name: 'mlp',
  inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 64] }],
  raw_input_contents: [rowBytes],
};

/** A call whose number is a varint of five bytes: 2^28. */
const callBytes = Buffer.concat([Buffer.from('088080808001', 'hex'), encode(call, { infer })]);

const grpcMessage = encode(modelInferRequest, infer);
const grpcBody = Buffer.concat([Buffer.alloc(5), grpcMessage]);
grpcBody.writeUInt32BE(grpcMessage.length, 1);

const httpHead = JSON.stringify({
  inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 64], parameters: { binary_data_size: rowBytes.length } }],
  parameters: { binary_data_output: true },
});
const httpBody = Buffer.concat([Buffer.from(httpHead), rowBytes]);

const http = {
  path: '/v2/models/mlp/infer',
  headers: { 'content-type': 'application/octet-stream', 'inference-header-content-length': httpHead.length },
  isHttp1: true,
};
const grpc = {
  path: '/inference.GRPCInferenceService/ModelInfer',
  headers: { 'content-type': 'application/grpc', te: 'trailers' },
  isHttp1: false,
};

/** Asks once over a connection of frames; resolves with the payload of the reply. */
async function askFrames(port, payload) {
  const socket = connect(port, '127.0.0.1');
  const frame = Buffer.concat([Buffer.alloc(4), payload]);
  frame.writeUInt32BE(payload.length);
  socket.write(frame);
  let bytes = Buffer.alloc(0);
  for await (const chunk of socket) {
    bytes = Buffer.concat([bytes, chunk]);
    if (bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32BE()) break;
  }
  return bytes.subarray(4);
}

async function askHttp(port) {
  const response = await fetch(`http://127.0.0.1:${port}${http.path}`, {
    method: 'POST',
    headers: { ...http.headers, 'inference-header-content-length': String(httpHead.length) },
    body: httpBody,
  });
  return Buffer.from(await response.arrayBuffer());
}

async function askGrpc(port) {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  const stream = session.request({ ':method': 'POST', ':path': grpc.path, ...grpc.headers });
  stream.end(grpcBody);
  const chunks = [];
  stream.on('data', (chunk) => chunks.push(chunk));
  await once(stream, 'end');
  session.close();
  return Buffer.concat(chunks);
}

/** Throws unless the answer ends with what ONNX Runtime says of the row. */
function check(what, answer, expected) {
  const at = answer.length - 4 * answerFloats;
  const isRight = at >= 0 && expected.every((value, i) => Math.abs(answer.readFloatLE(at + 4 * i) - value) < 1e-4);
  if (!isRight) throw new Error(`${what} gave a wrong answer: ${answer.toString('latin1').slice(0, 500)}`);
}

async function expectedOf(model) {
  const session = await ort.InferenceSession.create(model);
  return [...(await session.run({ x: new ort.Tensor('float32', row, [1, 64]) })).y.data];
}

/**
 * @param client of client.c @param h2load null: there is none
 * @returns a row for each protocol and shape; `peer` is null where there is none
 */
export async function protocols(folder, model, client, h2load, { rounds, seconds }) {
  const files = { call: join(folder, 'call'), http: join(folder, 'http-body'), grpc: join(folder, 'grpc-body') };
  writeFileSync(files.call, callBytes);
  writeFileSync(files.http, httpBody);
  writeFileSync(files.grpc, grpcBody);
  const server = await startServer(
    folder,
    {
      models: [{ name: 'mlp', backend: 'onnx', path: model }],
      listeners: [
        { port: 0, model: 'mlp' },
        { port: 0, protocol: 'calls' },
        { port: 0, protocol: 'open' },
      ],
    },
    workers,
  );
  const [rawPort, callsPort, openPort] = server.ports;
  const expected = await expectedOf(model);
  const known = async (what, ask) => {
    const answer = await ask;
    check(what, answer, expected);
    return answer.length;
  };
  const rawBytes = await known('a raw frame', askFrames(rawPort, rowBytes));
  const callReplyBytes = await known('a call', askFrames(callsPort, callBytes));
  const framed = { program: server, peer: null };
  const all = [
    {
      ...framed,
      name: 'raw frames',
      turn: (at) => client.loadSizes({ ...at, port: rawPort, payloadBytes: rowBytes.length, replyBytes: rawBytes }),
    },
    {
      ...framed,
      name: 'calls on frames',
      turn: (at) =>
        client.loadCalls({ ...at, port: callsPort, call: files.call, replyBytes: callReplyBytes, answerFloats }),
    },
  ];
  const started = [server];
  if (h2load !== null)
    for (const [kind, name, peerName, ask, request] of [
      ['http', 'HTTP, binary tensors', 'node:http', askHttp, http],
      ['grpc', 'gRPC', '@grpc/grpc-js', askGrpc, grpc],
    ]) {
      const peer = await startPeer(kind, workers, model);
      started.push(peer);
      const turnOf = async (port) => {
        const settings = { ...request, port, body: files[kind], answerBytes: await known(name, ask(port)) };
        return (at) => h2load.load({ ...settings, ...at });
      };
      all.push({
        name,
        program: server,
        turn: await turnOf(openPort),
        peer: { name: peerName, program: peer, turn: await turnOf(peer.port) },
      });
    }
  const rows = [];
  for (const shape of shapes) rows.push(...(await measureShape(all, shape, rounds, seconds)));
  await Promise.all(started.map((program) => program.stop()));
  return rows;
}

async function measureShape(all, [connections, depth], rounds, seconds) {
  const at = { connections, depth, seconds };
  const turns = all.map(() => ({ ours: [], theirs: [] }));
  for (let round = 0; round < rounds; round++)
    for (const [k, { program, turn, peer }] of all.entries()) {
      turns[k].ours.push(await measured(program, turn, at));
      if (peer !== null) turns[k].theirs.push(await measured(peer.program, peer.turn, at));
    }
  const raw = turns[0].ours;
  return all.map(({ name, peer }, k) => {
    const { ours, theirs } = turns[k];
    return {
      name,
      shape: `${connections} × ${depth}`,
      ...middle(ours),
      ofRaw: k === 0 ? null : ratio(ours, raw),
      peer: peer === null ? null : { name: peer.name, ...middle(theirs), ratio: ratio(ours, theirs) },
    };
  });
}

async function measured(program, turn, at) {
  const before = cpuUs(program);
  const result = await turn(at);
  return { rps: result.rps, cpuUs: (cpuUs(program) - before) / result.replies };
}

const middle = (turns) => ({
  rps: median(turns.map(({ rps }) => rps)),
  cpuUs: median(turns.map((turn) => turn.cpuUs)),
});

/** The median of the ratios of turns of the same round. */
const ratio = (ours, theirs) => median(ours.map(({ rps }, i) => rps / theirs[i].rps));
