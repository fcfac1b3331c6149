// A model whose payloads only it understands, as clients of tensors see it: each element of its input is a payload, and
// each element of its output the reply to it.

import { type InferTensor, inputNamed, tensorSpec } from '../../protocol/oip/infer.js';
import type { ReplySpan } from '../../serving/request-group.js';
import { lengthBytes } from '../../tensors/strings.js';
import { bufferOf, type RequestPayloads } from './payloads.js';
import { badInput, type SignatureTensor, tooManyRows, wrongLooks } from './request-check.js';

export const opaqueInput: SignatureTensor = { name: 'payload', datatype: 'BYTES', shape: [-1] };
export const opaqueOutput: SignatureTensor = { name: 'reply', datatype: 'BYTES', shape: [-1] };

/**
 * @param inputBytes of each payload; null: any
 * @throws CallError BAD_INPUT
 */
export function payloadsInElements(
  { spec, source: bytes, start, end }: InferTensor,
  inputBytes: number | null,
  mostRows: number,
): RequestPayloads {
  const source = bufferOf(bytes);
  const { elements } = spec;
  if (spec.datatype !== 'BYTES' || spec.shape.length !== 1) throw wrongLooks(opaqueInput, spec);
  if (elements < 1) throw badInput(`the rows of ${inputNamed(spec.name)} should be 1 or more: it is BYTES[0]`);
  if (elements > mostRows) throw tooManyRows(elements, mostRows);
  const isOne = elements === 1;
  // Without the lengths between them; one payload stays where it is.
  const target = isOne ? source : Buffer.allocUnsafe(Math.max(0, end - start - elements * lengthBytes));
  const bounds = [isOne ? start + lengthBytes : 0];
  let at = start;
  for (let i = 0; i < elements; i++) {
    const begin = at + lengthBytes;
    const stop = begin <= end ? begin + source.readUInt32LE(at) : begin;
    if (stop > end) break;
    at = stop;
    if (inputBytes !== null && at - begin !== inputBytes)
      throw badInput(`element ${i} of ${inputNamed(spec.name)} should have ${inputBytes} bytes, and has ${at - begin}`);
    const last = bounds[i] as number;
    if (!isOne) source.copy(target, last, begin, at);
    bounds.push(last + at - begin);
  }
  if (at !== end || bounds.length !== elements + 1)
    throw badInput(
      `${inputNamed(spec.name)} should have ${elements} strings, each behind its length in 4 bytes, and has not`,
    );
  return { source: target, bounds };
}

export function elementsOfReplies(replies: readonly ReplySpan[]): InferTensor {
  const length = replies.reduce((sum, { start, end }) => sum + lengthBytes + end - start, 0);
  const target = Buffer.allocUnsafe(length);
  let at = 0;
  for (const { source, start, end } of replies) {
    at = target.writeUInt32LE(end - start, at);
    target.set(source.subarray(start, end), at);
    at += end - start;
  }
  return { spec: tensorSpec(opaqueOutput.name, 'BYTES', [replies.length]), source: target, start: 0, end: length };
}
