// Requests with tensors, as decoders give them.

import { type DatatypeName, datatypeOf } from '#src/protocol/oip/datatypes.js';
import { InferCallDraft } from '#src/protocol/oip/draft.js';
import { type InferCall, type InferTensor, tensorSpec } from '#src/protocol/oip/infer.js';
import type { Tensor } from '#src/tensors/axis.js';
import { type Dtype, dtypes } from '#src/tensors/dtypes.js';
import { tensorOf } from '#src/tensors/literal.js';
import { encodeStrings, readStrings } from '#src/tensors/strings.js';
import type { ModelSignature, ReplyDims } from '#src/worker/oip/signature.js';
import { spanOf } from './reply-spans.js';

export type NamedTensors = Readonly<Record<string, Tensor>>;

/** Numbers, or texts, in a shape. */
export function tensor(dtype: Dtype | 'string', dims: readonly number[], values: readonly (number | string)[]): Tensor {
  const flat =
    values.length === 0
      ? { data: dtype === 'string' ? [] : new Uint8Array(0) }
      : tensorOf(values, dtype, [values.length]);
  return { dtype, dims, data: flat.data } as Tensor;
}

/** 0, 1, 2 … in a shape. */
export const counted = (dtype: Dtype, dims: readonly number[], from = 0): Tensor =>
  tensor(
    dtype,
    dims,
    Array.from({ length: dims.reduce((product, dim) => product * dim, 1) }, (_, i) => from + i),
  );

/** The bytes of a tensor as they travel. */
export const bytesOf = ({ dtype, data }: Tensor): Buffer =>
  dtype === 'string' ? encodeStrings(data as readonly string[]) : Buffer.from(data as Uint8Array);

/** A request; its tensors lie in one message, as those of a client do. */
export function callOf(tensors: NamedTensors, outputs: readonly string[] = []): InferCall {
  const parts = Object.values(tensors).map(bytesOf);
  const source = Buffer.concat([Buffer.alloc(5, 0xee), ...parts, Buffer.alloc(3, 0xee)]);
  const call = new InferCallDraft(true);
  let end = 5;
  call.inputs = Object.entries(tensors).map(([name, { dtype, dims }], i) => {
    const start = end;
    end += (parts[i] as Buffer).length;
    return { spec: tensorSpec(name, datatypeOf(dtype), dims), source, start, end };
  });
  call.outputs = outputs.map((name) => ({ name, isBinary: true }));
  return call;
}

/** A request with one tensor of these bytes. */
export function rawCall(name: string, datatype: DatatypeName, shape: readonly number[], hex: string): InferCall {
  const source = Buffer.from(hex, 'hex');
  const call = new InferCallDraft(true);
  call.inputs = [{ spec: tensorSpec(name, datatype, shape), source, start: 0, end: source.length }];
  return call;
}

/** What a request is answered with, given the replies to its payloads. */
export const answerOf = (
  signature: ModelSignature,
  call: InferCall,
  replies: readonly Uint8Array[],
  dims: readonly (ReplyDims | null)[] | null,
): readonly InferTensor[] => signature.answerOf(signature.answerFormOf(call), replies.map(spanOf), dims);

/** The tensors of an answer. */
export const tensorsOf = (outputs: readonly InferTensor[]): NamedTensors =>
  Object.fromEntries(
    outputs.map(({ spec, source, start, end }) => {
      const bytes = Buffer.from(source.subarray(start, end));
      const dtype = dtypeOf(spec.datatype);
      const data = dtype === 'string' ? readStrings(bytes, 0, spec.elements) : new Uint8Array(bytes);
      return [spec.name, { dtype, dims: [...spec.shape], data } as Tensor];
    }),
  );

const dtypeOf = (datatype: string): Dtype | 'string' =>
  datatype === 'BYTES'
    ? 'string'
    : (Object.keys(dtypes).find((dtype) => datatypeOf(dtype as Dtype) === datatype) as Dtype);
