// Loads a model of one input with ONNX Runtime, runs it once, and prints how much memory this process has then.

import ort from '../../dist/inference/backends/onnx-runtime.js';

const [file, dims] = process.argv.slice(2);
const shape = JSON.parse(dims);
const session = await ort.InferenceSession.create(file, { intraOpNumThreads: 1, interOpNumThreads: 1 });
const data = new Float32Array(shape.reduce((product, dim) => product * dim, 1));
await session.run({ [session.inputNames[0]]: new ort.Tensor('float32', data, shape) });
console.log(JSON.stringify({ mb: process.memoryUsage.rss() / 2 ** 20 }));
