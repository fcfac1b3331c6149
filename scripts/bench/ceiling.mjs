// The ceiling for a server: the least code that does the same work, without limits, error handling or counters.
//   bare    answers every frame with four bytes
//   onnx    runs the frames of an event-loop turn in one call of ONNX Runtime
// Run as a child process: node ceiling.mjs KIND WORKERS [MODEL.onnx]; prints `listening on PORT`.

import cluster from 'node:cluster';
import { createServer } from 'node:net';
import ort from '../../dist/inference/backends/onnx-runtime.js';
import { forkWorkers } from './fork.mjs';

const [kind, workers, model] = process.argv.slice(2);

if (cluster.isPrimary) forkWorkers(Number(workers));
else {
  const serve = kind === 'onnx' ? await onnx(model) : bare();
  createServer({ noDelay: true }, (socket) => {
    let rest = null;
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      const bytes = rest === null ? chunk : Buffer.concat([rest, chunk]);
      let at = 0;
      let frames = 0;
      while (bytes.length - at >= 4) {
        const end = at + 4 + bytes.readUInt32BE(at);
        if (end > bytes.length) break;
        serve.take(bytes, at + 4, end);
        at = end;
        frames++;
      }
      rest = at < bytes.length ? bytes.subarray(at) : null;
      serve.chunkDone(socket, frames);
    });
  }).listen(0, '127.0.0.1');
}

function bare() {
  const answer = Buffer.from([0, 0, 0, 4, 88, 88, 88, 88]);
  return {
    take: () => {},
    chunkDone: (socket, frames) => socket.write(frames === 1 ? answer : Buffer.alloc(8 * frames, answer)),
  };
}

async function onnx(file) {
  const session = await ort.InferenceSession.create(file, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  const [input] = session.inputNames;
  const [output] = session.outputNames;
  let rows = [];
  let askers = [];
  const flush = async () => {
    const [batch, waiting] = [rows, askers];
    rows = [];
    askers = [];
    const size = batch[0].end - batch[0].begin;
    const joined = Buffer.allocUnsafeSlow(batch.length * size);
    for (const [i, { bytes, begin, end }] of batch.entries()) bytes.copy(joined, i * size, begin, end);
    const tensor = new ort.Tensor('float32', new Float32Array(joined.buffer), [batch.length, size / 4]);
    const { data } = (await session.run({ [input]: tensor }))[output];
    const replies = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    const replyBytes = replies.length / batch.length;
    let row = 0;
    for (const { socket, frames } of waiting) {
      const out = Buffer.allocUnsafe(frames * (4 + replyBytes));
      for (let at = 0; at < out.length; at += 4 + replyBytes, row++) {
        out.writeUInt32BE(replyBytes, at);
        replies.copy(out, at + 4, row * replyBytes, (row + 1) * replyBytes);
      }
      socket.write(out);
    }
  };
  return {
    take(bytes, begin, end) {
      if (rows.length === 0) setImmediate(flush);
      rows.push({ bytes, begin, end });
    },
    chunkDone(socket, frames) {
      if (frames > 0) askers.push({ socket, frames });
    },
  };
}
