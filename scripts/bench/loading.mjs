// What a model costs before it serves: the time from the start of a process to its first answer, and the memory of the
// process then. Ours, with one worker, stands beside a Node process with ONNX Runtime that runs the model once: it proves
// nothing, measures nothing and listens to nobody. Both take turns.

import { execFile } from 'node:child_process';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { fileOf, isThere, wheelModels } from '../../build/test/support/matrix/wheel-models.js';
import { metricsOf, startServer } from './programs.mjs';
import { median } from './throughput.mjs';

const bare = fileURLToPath(new URL('./bare-loading.mjs', import.meta.url));

/** Of others, those whose run takes tens of milliseconds; they are there after `npm run matrix`. */
const heavy = wheelModels
  .filter((model) => model.limits !== undefined && isThere(model))
  .map((model) => ({
    name: model.name,
    path: fileOf(model),
    config: model.config ?? {},
    dims: Object.values(model.request(0, () => 0.5))[0].dims,
  }));

/** @param mlp the model file of the 64-64-10 network */
export async function loading(folder, mlp, { rounds }) {
  const models = [{ name: '64-64-10 network', path: mlp, config: {}, dims: [1, 64] }, ...heavy];
  const rows = [];
  for (const { name, path, config, dims } of models) {
    const turns = [];
    for (let round = 0; round < rounds; round++)
      turns.push({ theirs: await bareLoading(path, dims), ours: await ourLoading(folder, path, config) });
    const of = (who, figure) => median(turns.map((turn) => turn[who][figure]));
    const figures = (who) => ({ ms: of(who, 'ms'), mb: of(who, 'mb') });
    rows.push({ name, theirs: figures('theirs'), ours: figures('ours') });
  }
  return rows;
}

async function bareLoading(path, dims) {
  const begin = performance.now();
  const { stdout } = await promisify(execFile)(process.execPath, [bare, path, JSON.stringify(dims)]);
  return { ms: performance.now() - begin, mb: JSON.parse(stdout).mb };
}

async function ourLoading(folder, path, config) {
  const model = { name: basename(path, '.onnx'), path, ...config };
  const limits = { maxPayloadSizeKb: 32_768, maxBufferedMb: 1024 };
  const begin = performance.now();
  const server = await startServer(folder, { models: [model], server: { port: 0, model: model.name, ...limits } }, 1);
  const ms = performance.now() - begin;
  const mb = await memoryOf(server);
  await server.stop();
  return { ms, mb };
}

/** Of the worker, which publishes a moment after it is ready. */
async function memoryOf(server) {
  for (;;) {
    const [worker] = (await metricsOf(server)).workers;
    if (worker !== undefined) return worker.memory / 2 ** 20;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
