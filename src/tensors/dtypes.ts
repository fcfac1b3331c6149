// The dtypes whose elements have a fixed size, all little-endian, with the typed array that onnxruntime takes for each.

/** Element sizes and arrays by ONNX dtype name; float16 travels as its 16 raw bits. */
export const dtypes = {
  float32: { bytes: 4, array: Float32Array },
  float64: { bytes: 8, array: Float64Array },
  float16: { bytes: 2, array: Uint16Array },
  int8: { bytes: 1, array: Int8Array },
  uint8: { bytes: 1, array: Uint8Array },
  int16: { bytes: 2, array: Int16Array },
  uint16: { bytes: 2, array: Uint16Array },
  int32: { bytes: 4, array: Int32Array },
  uint32: { bytes: 4, array: Uint32Array },
  int64: { bytes: 8, array: BigInt64Array },
  uint64: { bytes: 8, array: BigUint64Array },
  bool: { bytes: 1, array: Uint8Array },
} as const;

export type Dtype = keyof typeof dtypes;

export function isDtype(name: string): name is Dtype {
  return Object.hasOwn(dtypes, name);
}

/** A view, no copy: `elements` items of `dtype` in `buffer` from `offset` on. */
export function typedView(
  dtype: Dtype,
  buffer: ArrayBuffer,
  elements: number,
  offset = 0,
): InstanceType<(typeof dtypes)[Dtype]['array']> {
  return new dtypes[dtype].array(buffer, offset, elements);
}
