// Joins tensors along an axis, and splits them again. Along the first axis, the parts of a tensor lie one after another
// in its memory; along axis k they are woven together: for each index of the axes before k, a piece of every part.
//
//   [2, 1] + [2, 2] along axis 1:   a0 b0 b1
//                                   a1 b2 b3
//
// Elements are moved as bytes, so that no NaN loses its bits.

import { type Dtype, dtypes } from './dtypes.js';

/** A tensor in C order: the bytes of its elements, little-endian, or its strings. */
export type Tensor = NumericTensor | StringTensor;

export interface NumericTensor {
  readonly dtype: Dtype;
  readonly dims: readonly number[];
  readonly data: Uint8Array<ArrayBuffer>;
}

export interface StringTensor {
  readonly dtype: 'string';
  readonly dims: readonly number[];
  readonly data: readonly string[];
}

/** How the parts of a tensor along an axis lie in it: `outer` times a piece of each part. */
export interface Weave {
  readonly outer: number;
  /** Elements of a piece, for each index that the part has along the axis. */
  readonly inner: number;
}

/** @throws RangeError when the tensor has no such axis */
export function weaveOf(dims: readonly number[], axis: number): Weave {
  if (!Number.isInteger(axis) || axis < 0 || axis >= dims.length)
    throw new RangeError(`a tensor of shape [${dims}] has no axis ${axis}`);
  return { outer: elementsIn(dims.slice(0, axis)), inner: elementsIn(dims.slice(axis + 1)) };
}

export const elementsIn = (dims: readonly number[]): number => dims.reduce((product, dim) => product * dim, 1);

/** `dims` with another size along `axis`. */
export const resized = (dims: readonly number[], axis: number, size: number): readonly number[] =>
  dims.map((dim, i) => (i === axis ? size : dim));

/**
 * One tensor of several that differ in nothing but their size along `axis`.
 * @throws RangeError when they differ in more, or when there is none
 */
export function joined(tensors: readonly Tensor[], axis: number): Tensor {
  const [first] = tensors;
  if (first === undefined) throw new RangeError('there is no tensor to join');
  const { outer, inner } = weaveOf(first.dims, axis);
  let size = 0;
  for (const { dtype, dims } of tensors) {
    const isAlike = dtype === first.dtype && String(resized(dims, axis, 0)) === String(resized(first.dims, axis, 0));
    if (!isAlike)
      throw new RangeError(`${dtype}[${dims}] cannot be joined to ${first.dtype}[${first.dims}] along axis ${axis}`);
    size += dims[axis] as number;
  }
  const dims = resized(first.dims, axis, size);
  if (first.dtype === 'string') {
    const data: string[] = new Array(elementsIn(dims));
    let offset = 0;
    for (const part of tensors as readonly StringTensor[]) {
      const piece = (part.dims[axis] as number) * inner;
      for (let i = 0; i < outer; i++)
        for (let j = 0; j < piece; j++) data[i * size * inner + offset + j] = part.data[i * piece + j] as string;
      offset += piece;
    }
    return { dtype: 'string', dims, data };
  }
  const { bytes } = dtypes[first.dtype];
  const data = new Uint8Array(elementsIn(dims) * bytes);
  let offset = 0;
  for (const part of tensors as readonly NumericTensor[]) {
    const piece = (part.dims[axis] as number) * inner * bytes;
    for (let i = 0; i < outer; i++)
      data.set(part.data.subarray(i * piece, (i + 1) * piece), i * size * inner * bytes + offset);
    offset += piece;
  }
  return { dtype: first.dtype, dims, data };
}

/**
 * The parts of a tensor with these sizes along `axis`, in order; they are views where they lie in one piece.
 * @throws RangeError when the sizes do not add up to that of the tensor
 */
export function split(tensor: Tensor, axis: number, sizes: readonly number[]): readonly Tensor[] {
  const { dtype, dims } = tensor;
  const { outer, inner } = weaveOf(dims, axis);
  const size = dims[axis] as number;
  if (sizes.some((part) => !Number.isInteger(part) || part < 0) || sizes.reduce((sum, part) => sum + part, 0) !== size)
    throw new RangeError(`a tensor of shape [${dims}] has no parts of ${sizes} along axis ${axis}`);
  let offset = 0;
  return sizes.map((part) => {
    const at = offset;
    offset += part;
    const partDims = resized(dims, axis, part);
    if (tensor.dtype === 'string')
      return {
        dtype: 'string',
        dims: partDims,
        data: pieces(tensor.data, outer, size * inner, at * inner, part * inner),
      };
    const { bytes } = dtypes[dtype as Dtype];
    return {
      dtype: tensor.dtype,
      dims: partDims,
      data: bytePieces(tensor.data, outer, size * inner * bytes, at * inner * bytes, part * inner * bytes),
    };
  });
}

/** Every `stride` bytes from `from` on, `length` bytes, `outer` times. */
function bytePieces(
  data: Uint8Array<ArrayBuffer>,
  outer: number,
  stride: number,
  from: number,
  length: number,
): Uint8Array<ArrayBuffer> {
  if (outer === 1) return data.subarray(from, from + length);
  const result = new Uint8Array(outer * length);
  for (let i = 0; i < outer; i++) result.set(data.subarray(i * stride + from, i * stride + from + length), i * length);
  return result;
}

function pieces(
  data: readonly string[],
  outer: number,
  stride: number,
  from: number,
  length: number,
): readonly string[] {
  if (outer === 1) return data.slice(from, from + length);
  return Array.from({ length: outer }, (_, i) => data.slice(i * stride + from, i * stride + from + length)).flat();
}
