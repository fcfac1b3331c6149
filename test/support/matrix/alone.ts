// What a model answers to one request alone: by ONNX Runtime itself, without the server, here and in Python.

import ort from '#src/inference/backends/onnx-runtime.js';
import type { ElementType } from '../onnx-writer.js';
import { session as settings } from '../session.js';
import { type Tensor, type Tensors, typedArray } from './tensors.js';

/** The outputs of a run, in the order of the model. */
export type Answer = readonly Tensor[];

/** Answers each request in a run of its own. */
export async function answersInNode(file: string, requests: readonly Tensors[]): Promise<readonly Answer[]> {
  const session = await ort.InferenceSession.create(file, settings);
  try {
    const answers: Answer[] = [];
    for (const request of requests) {
      const results = await session.run(
        Object.fromEntries(Object.entries(request).map(([name, input]) => [name, feedOf(input)])),
      );
      answers.push(session.outputNames.map((name) => tensorOf(results[name] as ort.Tensor)));
    }
    return answers;
  } finally {
    await session.release();
  }
}

function feedOf({ dtype, dims, data }: Tensor): ort.Tensor {
  if (!Buffer.isBuffer(data) || dtype === 'string') return new ort.Tensor('string', [...(data as string[])], dims);
  return new ort.Tensor(dtype, typedArray(dtype, data) as never, dims);
}

function tensorOf({ type, dims, data }: ort.Tensor): Tensor {
  if (type === 'string') return { dtype: type, dims, data: [...(data as string[])] };
  const { buffer, byteOffset, byteLength } = data as Uint8Array;
  return { dtype: type as ElementType, dims, data: Buffer.from(Buffer.from(buffer, byteOffset, byteLength)) };
}
