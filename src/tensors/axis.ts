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

export const elementsIn = (dims: readonly number[]): number => dims.reduce((product, dim) => product * dim, 1);

/** `dims` with another size along `axis`. */
export const resized = (dims: readonly number[], axis: number, size: number): readonly number[] =>
  dims.map((dim, i) => (i === axis ? size : dim));

/**
 * Visits the pieces in which a tensor of shape `part` lies in one of shape `whole`, in order: each is `length` elements
 * side by side, in the part from `partAt` on, in the whole from `wholeAt` on.
 * @param origin where in the whole the part begins, for each axis; all 0 if left out
 */
export function eachPiece(
  part: readonly number[],
  whole: readonly number[],
  origin: readonly number[] | null,
  visit: (partAt: number, wholeAt: number, length: number) => void,
): void {
  // Behind this axis both have the same shape.
  let axis = part.length - 1;
  let inner = 1;
  for (; axis > 0 && part[axis] === whole[axis]; axis--) inner *= part[axis] as number;
  const length = axis < 0 ? 1 : (part[axis] as number) * inner;
  let wholeAt = 0;
  for (let i = 0; i < part.length; i++) wholeAt = wholeAt * (whole[i] as number) + (origin?.[i] ?? 0);
  if (axis <= 0) {
    if (length > 0) visit(0, wholeAt, length);
    return;
  }
  const total = elementsIn(part);
  const index = new Array<number>(axis).fill(0);
  const strides = stridesOf(whole);
  for (let partAt = 0; partAt < total; partAt += length) {
    visit(partAt, wholeAt, length);
    for (let i = axis - 1; i >= 0; i--) {
      const next = (index[i] as number) + 1;
      wholeAt += strides[i] as number;
      if (next < (part[i] as number)) {
        index[i] = next;
        break;
      }
      index[i] = 0;
      wholeAt -= next * (strides[i] as number);
    }
  }
}

/** Elements from one index of an axis to the next. */
function stridesOf(dims: readonly number[]): readonly number[] {
  const strides = new Array<number>(dims.length);
  let stride = 1;
  for (let i = dims.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= dims[i] as number;
  }
  return strides;
}

/**
 * One tensor of several that differ in nothing but their size along `axis`.
 * @throws RangeError when they differ in more, or when there is none
 */
export function joined(tensors: readonly Tensor[], axis: number): Tensor {
  const [first] = tensors;
  if (first === undefined) throw new RangeError('there is no tensor to join');
  checkAxis(first.dims, axis);
  const others = String(resized(first.dims, axis, 0));
  const unlike = tensors.find(({ dtype, dims }) => dtype !== first.dtype || String(resized(dims, axis, 0)) !== others);
  if (unlike !== undefined)
    throw new RangeError(
      `${unlike.dtype}[${unlike.dims}] cannot be joined to ${first.dtype}[${first.dims}] along axis ${axis}`,
    );
  const size = tensors.reduce((sum, { dims }) => sum + (dims[axis] as number), 0);
  const dims = resized(first.dims, axis, size);
  let offset = 0;
  const place = (part: readonly number[], copy: (partAt: number, wholeAt: number, length: number) => void): void => {
    eachPiece(part, dims, resized(zeros(dims), axis, offset), copy);
    offset += part[axis] as number;
  };
  if (first.dtype === 'string') {
    const data = new Array<string>(elementsIn(dims));
    for (const part of tensors as readonly StringTensor[])
      place(part.dims, (partAt, wholeAt, length) => {
        for (let i = 0; i < length; i++) data[wholeAt + i] = part.data[partAt + i] as string;
      });
    return { dtype: 'string', dims, data };
  }
  const { bytes } = dtypes[first.dtype];
  const data = new Uint8Array(elementsIn(dims) * bytes);
  for (const part of tensors as readonly NumericTensor[])
    place(part.dims, (partAt, wholeAt, length) =>
      data.set(part.data.subarray(partAt * bytes, (partAt + length) * bytes), wholeAt * bytes),
    );
  return { dtype: first.dtype, dims, data };
}

/**
 * The parts of a tensor with these sizes along `axis`, in order; they are views where they lie in one piece.
 * @throws RangeError when the sizes do not add up to that of the tensor
 */
export function split(tensor: Tensor, axis: number, sizes: readonly number[]): readonly Tensor[] {
  const { dims } = tensor;
  checkAxis(dims, axis);
  const size = dims[axis] as number;
  if (sizes.some((part) => !Number.isInteger(part) || part < 0) || sizes.reduce((sum, part) => sum + part, 0) !== size)
    throw new RangeError(`a tensor of shape [${dims}] has no parts of ${sizes} along axis ${axis}`);
  let offset = 0;
  return sizes.map((part) => {
    const origin = resized(zeros(dims), axis, offset);
    offset += part;
    return partOf(tensor, resized(dims, axis, part), origin);
  });
}

/** The part of this shape that begins at `origin`; a view where it lies in one piece. */
export function partOf(tensor: Tensor, dims: readonly number[], origin: readonly number[] | null): Tensor {
  if (tensor.dtype === 'string') {
    const data: string[] = [];
    eachPiece(dims, tensor.dims, origin, (_, at, length) => {
      for (let i = at; i < at + length; i++) data.push(tensor.data[i] as string);
    });
    return { dtype: 'string', dims, data };
  }
  const { bytes } = dtypes[tensor.dtype];
  const size = elementsIn(dims) * bytes;
  let data: Uint8Array<ArrayBuffer> | null = null;
  eachPiece(dims, tensor.dims, origin, (partAt, at, length) => {
    const piece = tensor.data.subarray(at * bytes, (at + length) * bytes);
    if (piece.length === size) data = piece;
    else {
      data ??= new Uint8Array(size);
      data.set(piece, partAt * bytes);
    }
  });
  return { dtype: tensor.dtype, dims, data: data ?? new Uint8Array(0) };
}

/** A tensor of this shape, in which every element is the only one of `value`. */
export function filled(value: Tensor, dims: readonly number[]): Tensor {
  const elements = elementsIn(dims);
  if (value.dtype === 'string')
    return { dtype: 'string', dims, data: new Array<string>(elements).fill(value.data[0] as string) };
  const data = new Uint8Array(elements * value.data.length);
  Buffer.from(data.buffer).fill(value.data);
  return { dtype: value.dtype, dims, data };
}

const zeros = (dims: readonly number[]): readonly number[] => dims.map(() => 0);

function checkAxis(dims: readonly number[], axis: number): void {
  if (!Number.isInteger(axis) || axis < 0 || axis >= dims.length)
    throw new RangeError(`a tensor of shape [${dims}] has no axis ${axis}`);
}
