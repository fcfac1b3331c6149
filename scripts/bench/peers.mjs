// What a team would write at first to serve a model by the Open Inference Protocol: node:http, or @grpc/grpc-js, and
// ONNX Runtime behind it, a run for each request. No limit, no counter, no batch. The messages of gRPC are read and
// written with our own codec, so that only what is around it differs.
//   http    POST /v2/models/NAME/infer, with binary tensors
//   grpc    inference.GRPCInferenceService/ModelInfer
// Run as a child process: node peers.mjs KIND WORKERS MODEL.onnx; prints `listening on PORT`.

import cluster from 'node:cluster';
import { createServer } from 'node:http';
import grpc from '@grpc/grpc-js';
import ort from '../../dist/inference/backends/onnx-runtime.js';
import { InferRequestDecoder } from '../../dist/protocol/oip/request.js';
import { InferResponseEncoder } from '../../dist/protocol/oip/response.js';
import { forkWorkers } from './fork.mjs';

const [kind, workers, file] = process.argv.slice(2);

if (cluster.isPrimary) forkWorkers(Number(workers));
else {
  const session = await ort.InferenceSession.create(file, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  await { http: serveHttp, grpc: serveGrpc }[kind](run(session));
}

/** Runs the model on the floats `bytes[start, end)`; resolves with its output. */
function run(session) {
  const [input] = session.inputNames;
  const [output] = session.outputNames;
  return async (bytes, start, end, dims) => {
    const floats = new Float32Array((end - start) / 4);
    new Uint8Array(floats.buffer).set(bytes.subarray(start, end));
    return (await session.run({ [input]: new ort.Tensor('float32', floats, dims) }))[output];
  };
}

const bytesOf = ({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength);

function serveHttp(infer) {
  const server = createServer((request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', async () => {
      const body = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
      const dataAt = Number(request.headers['inference-header-content-length']);
      const [input] = JSON.parse(body.toString('utf8', 0, dataAt)).inputs;
      const output = await infer(body, dataAt, dataAt + input.parameters.binary_data_size, input.shape);
      const data = bytesOf(output);
      const head = JSON.stringify({
        model_name: 'mlp',
        model_version: '1',
        outputs: [{ name: 'y', datatype: 'FP32', shape: output.dims, parameters: { binary_data_size: data.length } }],
      });
      response.writeHead(200, {
        'content-type': 'application/octet-stream',
        'inference-header-content-length': head.length,
        'content-length': head.length + data.length,
      });
      response.end(Buffer.concat([Buffer.from(head), data]));
    });
  });
  server.listen(0, '127.0.0.1');
}

async function serveGrpc(infer) {
  const decoder = new InferRequestDecoder();
  const encoder = new InferResponseEncoder();
  const modelInfer = {
    path: '/inference.GRPCInferenceService/ModelInfer',
    requestStream: false,
    responseStream: false,
    requestDeserialize: (bytes) => decoder.decode(bytes, 0, bytes.length),
    requestSerialize: (bytes) => bytes,
    responseSerialize: (answer) => encoder.encode(answer),
    responseDeserialize: (bytes) => bytes,
  };
  const server = new grpc.Server();
  server.addService(
    { modelInfer },
    {
      async modelInfer({ request }, answer) {
        const [{ spec, source, start, end }] = request.inputs;
        const output = await infer(source, start, end, spec.shape);
        const data = bytesOf(output);
        const outSpec = { name: 'y', datatype: 'FP32', shape: output.dims, elements: output.data.length };
        const outputs = [{ spec: outSpec, source: data, start: 0, end: data.length }];
        answer(null, { model: 'mlp', version: '1', id: '', outputs });
      },
    },
  );
  const insecure = grpc.ServerCredentials.createInsecure();
  await new Promise((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', insecure, (error) => (error === null ? resolve() : reject(error)));
  });
}
