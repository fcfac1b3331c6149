// Between tensors and the messages of the Open Inference Protocol, as plain objects.

import type { Plain } from '../protos.js';
import type { Request, Tensor } from './client.js';

export const inferRequest = ({ model, inputs }: Request): Plain => ({
  model_name: model,
  inputs: inputs.map(({ name, datatype, shape }) => ({ name, datatype, shape })),
  raw_input_contents: inputs.map(({ data }) => data),
});

interface InferResponse {
  readonly outputs: readonly {
    readonly name: string;
    readonly datatype: string;
    readonly shape: readonly (string | number)[];
  }[];
  readonly raw_output_contents: readonly Buffer[];
}

export function tensorsOf(response: Plain): readonly Tensor[] {
  const { outputs, raw_output_contents } = response as unknown as InferResponse;
  return outputs.map(({ name, datatype, shape }, i) => ({
    name,
    datatype,
    shape: shape.map(Number),
    data: raw_output_contents[i] as Buffer,
  }));
}
