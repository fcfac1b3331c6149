// How much of a ceiling the server keeps. Ceiling and server are measured in turns, since the machine's speed changes
// over time; the median of their ratios counts.

import { load, startCeiling, startServer } from './programs.mjs';

const workers = 2;
const mlp = { inputBytes: 256, replyBytes: 40 };

export const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const shape = ([connections, depth]) => `${connections} × ${depth}`;

/** Measures `ours` and `theirs` in turns; resolves with the medians of each and of their ratios. */
async function inTurns({ rounds, seconds }, [connections, depth], bytes, ours, theirs, figure) {
  const pairs = [];
  const settings = { connections, depth, payloadBytes: bytes.inputBytes, replyBytes: bytes.replyBytes, seconds };
  for (let round = 0; round < rounds; round++) {
    const their = figure(await load({ ...settings, port: theirs }));
    const our = figure(await load({ ...settings, port: ours }));
    pairs.push({ their, our, ratio: our / their });
  }
  const of = (name) => median(pairs.map((pair) => pair[name]));
  return { ours: of('our'), theirs: of('their'), ratio: of('ratio') };
}

const rps = (result) => result.rps;
const p50 = (result) => result.p50Ms;

const shapes = {
  dummy: [
    [1, 1],
    [16, 1],
    [64, 1],
    [16, 16],
    [64, 64],
  ],
  onnx: [
    [16, 64],
    [64, 64],
  ],
};

/** The dummy model against a server that only answers. */
export async function dummy(folder, effort) {
  const ceiling = await startCeiling('bare', workers);
  const server = await startServer(folder, { server: { port: 0, model: 'dummy', responseSize: 4 } }, workers);
  const bytes = { inputBytes: 256, replyBytes: 4 };
  const rows = [];
  for (const at of shapes.dummy) {
    const measured = await inTurns(effort, at, bytes, server.port, ceiling.port, rps);
    rows.push({ name: `dummy model, ${shape(at)}`, unit: 'requests/s', isShare: true, ...measured });
  }
  await Promise.all([server.stop(), ceiling.stop()]);
  return rows;
}

/** A small network against the same calls of ONNX Runtime with nothing around them, and against no batching. */
export async function onnx(folder, model, effort) {
  const ceiling = await startCeiling('onnx', workers, model);
  const config = (more) => ({
    models: [{ name: 'mlp', backend: 'onnx', path: model, ...more }],
    server: { port: 0, model: 'mlp' },
  });
  const server = await startServer(folder, config({}), workers);
  const unbatched = await startServer(folder, config({ maxBatchSize: 1 }), workers);
  const rows = [];
  for (const at of shapes.onnx) {
    const measured = await inTurns(effort, at, mlp, server.port, ceiling.port, rps);
    rows.push({ name: `64-64-10 network, ${shape(at)}`, unit: 'requests/s', isShare: true, ...measured });
    const gained = await inTurns(effort, at, mlp, server.port, unbatched.port, rps);
    rows.push({ name: `${shape(at)} against batches of 1`, unit: 'requests/s', ...gained });
  }
  const waited = await inTurns(effort, [1, 1], mlp, server.port, ceiling.port, p50);
  rows.push({ name: '64-64-10 network, 1 × 1, p50', unit: 'ms', ...waited });
  await Promise.all([server.stop(), ceiling.stop(), unbatched.stop()]);
  return rows;
}

/** What publishing the counters costs. */
export async function publishing(folder, effort) {
  const config = (publishIntervalMs) => ({
    server: { port: 0, model: 'dummy', responseSize: 4 },
    metrics: { publishIntervalMs },
  });
  const often = await startServer(folder, config(250), workers);
  const hardly = await startServer(folder, config(60_000), workers);
  const bytes = { inputBytes: 256, replyBytes: 4 };
  const measured = await inTurns(effort, [64, 64], bytes, often.port, hardly.port, rps);
  await Promise.all([often.stop(), hardly.stop()]);
  return { name: 'dummy model, 64 × 64, against publishing hardly ever', unit: 'requests/s', ...measured };
}

/** What a larger batch gains: the reason for the most rows of maxBatchSize auto. */
export async function batchSizes(folder, model, { seconds }) {
  const rows = [];
  for (const maxBatchSize of [1, 8, 32, 64, 128, 256, 512, 1024]) {
    const models = [{ name: 'mlp', backend: 'onnx', path: model, maxBatchSize }];
    const server = await startServer(folder, { models, server: { port: 0, model: 'mlp' } }, workers);
    const settings = { port: server.port, connections: 64, depth: 64, payloadBytes: 256, replyBytes: 40, seconds };
    const results = [await load(settings), await load(settings), await load(settings)];
    rows.push({ maxBatchSize, rps: median(results.map(rps)) });
    await server.stop();
  }
  return rows;
}
