// The datatypes of the Open Inference Protocol, by the names that travel, and what ONNX Runtime calls them.

import { type Dtype, dtypes } from '../../tensors/dtypes.js';

export interface Datatype {
  /** Of tensors here; null for one that only travels. */
  readonly dtype: Dtype | 'string' | null;
  /** Bytes of an element; 0 for BYTES, whose elements have their length in front. */
  readonly bytes: number;
  /** In ModelConfig, data_type is TYPE_ and this. */
  readonly config: string;
  /** The field of InferTensorContents that may hold it, by number; 0: it travels as raw bytes alone. */
  readonly contents: number;
}

const numeric = (dtype: Dtype, config: string, contents: number): Datatype => ({
  dtype,
  bytes: dtypes[dtype].bytes,
  config,
  contents,
});

export const datatypes = {
  BOOL: numeric('bool', 'BOOL', 1),
  UINT8: numeric('uint8', 'UINT8', 4),
  UINT16: numeric('uint16', 'UINT16', 4),
  UINT32: numeric('uint32', 'UINT32', 4),
  UINT64: numeric('uint64', 'UINT64', 5),
  INT8: numeric('int8', 'INT8', 2),
  INT16: numeric('int16', 'INT16', 2),
  INT32: numeric('int32', 'INT32', 2),
  INT64: numeric('int64', 'INT64', 3),
  FP16: numeric('float16', 'FP16', 0),
  FP32: numeric('float32', 'FP32', 6),
  FP64: numeric('float64', 'FP64', 7),
  BYTES: { dtype: 'string', bytes: 0, config: 'STRING', contents: 8 },
  BF16: { dtype: null, bytes: 2, config: 'BF16', contents: 0 },
} as const satisfies Readonly<Record<string, Datatype>>;

export type DatatypeName = keyof typeof datatypes;

export function isDatatype(name: string): name is DatatypeName {
  return Object.hasOwn(datatypes, name);
}

const names = new Map(Object.entries(datatypes).map(([name, { dtype }]) => [dtype, name as DatatypeName]));

/** What a dtype is called on the wire. */
export function datatypeOf(dtype: Dtype | 'string'): DatatypeName {
  return names.get(dtype) as DatatypeName;
}
