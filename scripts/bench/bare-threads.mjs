// The ceiling for a model in threads: ONNX Runtime alone, in as many threads, with nothing to receive and nothing to
// send. Each thread runs batches of so many rows, one after the other.
// Run as a child process: node bare-threads.mjs '{"model":…,"dtype":…,"rowShape":…,"threads":…,"rows":…,"seconds":…}';
// prints a line of JSON: rows a second of all threads together, and the milliseconds of a run.

import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import '../../dist/inference/backends/onnx-telemetry.js'; // in the main thread, since others cannot turn telemetry off

if (isMainThread) await main(JSON.parse(process.argv[2]));
else await run(workerData);

async function main(settings) {
  const threads = Array.from(
    { length: settings.threads },
    () => new Worker(fileURLToPath(import.meta.url), { workerData: settings }),
  );
  const next = (thread) => new Promise((resolve, reject) => thread.once('message', resolve).once('error', reject));
  await Promise.all(threads.map(next)); // all are ready
  for (const thread of threads) thread.postMessage('start');
  const results = await Promise.all(threads.map(next));
  const runs = results.reduce((sum, result) => sum + result.runs, 0);
  const runMs = results.reduce((sum, result) => sum + result.ms, 0) / runs;
  const rowsPerSecond = results.reduce((sum, { runs, ms }) => sum + (1000 * runs * settings.rows) / ms, 0);
  process.stdout.write(`${JSON.stringify({ rowsPerSecond, runMs })}\n`, () => process.exit(0));
}

async function run({ model, dtype, rowShape, rows, seconds }) {
  const { default: ort } = await import('../../dist/inference/backends/onnx-runtime.js');
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  const shape = [rows, ...rowShape];
  const elements = shape.reduce((product, length) => product * length, 1);
  const data = dtype === 'int64' ? new BigInt64Array(elements) : new Float32Array(elements);
  const feed = { [session.inputNames[0]]: new ort.Tensor(dtype, data, shape) };
  for (let i = 0; i < 3; i++) await session.run(feed);
  parentPort.postMessage('ready');
  await new Promise((resolve) => parentPort.once('message', resolve));
  const begin = performance.now();
  let runs = 0;
  let ms = 0;
  for (; ms < seconds * 1000; ms = performance.now() - begin) {
    await session.run(feed);
    runs++;
  }
  parentPort.postMessage({ runs, ms });
}
