// A session of ONNX Runtime that is given tensors of ours: what a tensor model runs, and what it is compared with.

import ort from '#src/inference/backends/onnx-runtime.js';
import type { NamedTensor } from '#src/inference/backends/run-outputs.js';
import type { Tensor } from '#src/tensors/axis.js';
import { type Dtype, dtypes, typedView } from '#src/tensors/dtypes.js';
import { type GraphSpec, writeOnnx } from './onnx-writer.js';
import { session as settings } from './session.js';

export interface TensorSession {
  /** How often it was run, and with which shapes of the first input. */
  readonly runs: string[];
  run(inputs: Readonly<Record<string, Tensor>>): Promise<readonly NamedTensor[]>;
  close(): Promise<void>;
}

export async function openSession(graph: GraphSpec, outputs?: readonly string[]): Promise<TensorSession> {
  const session = await ort.InferenceSession.create(writeOnnx(graph), settings);
  const runs: string[] = [];
  return {
    runs,
    run: async (inputs) => {
      runs.push(String(Object.values(inputs)[0]?.dims));
      const feeds = Object.entries(inputs).map(([name, tensor]) => [name, fed(tensor)] as const);
      const names = outputs ?? session.outputNames;
      const results = await session.run(Object.fromEntries(feeds), names, { logSeverityLevel: 4 });
      return names.map((name) => ({ name, ...answered(results[name] as ort.Tensor) }));
    },
    close: () => session.release(),
  };
}

function fed(tensor: Tensor): ort.Tensor {
  if (tensor.dtype === 'string') return new ort.Tensor('string', tensor.data as string[], tensor.dims);
  const { dtype, dims, data } = tensor;
  const values = typedView(dtype, data.buffer, data.length / dtypes[dtype].bytes, data.byteOffset);
  return new ort.Tensor(dtype, values as never, dims);
}

function answered({ type, dims, data }: ort.Tensor): Tensor {
  if (type === 'string') return { dtype: 'string', dims, data: data as string[] };
  const { buffer, byteOffset, byteLength } = data as Uint8Array<ArrayBuffer>;
  return { dtype: type as Dtype, dims, data: new Uint8Array(buffer, byteOffset, byteLength) };
}
