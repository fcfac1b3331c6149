// The tensor of one row.

import { type Dtype, dtypes } from '../../tensors/dtypes.js';

/** What a model takes or returns for one row: its tensor without the batch dimension. */
export interface RowSpec {
  readonly name: string;
  readonly dtype: Dtype;
  /** Dimensions without the batch; empty for one scalar per row. */
  readonly dims: readonly number[];
  /** Bytes of one row. */
  readonly bytes: number;
}

export function rowSpec(name: string, dtype: Dtype, dims: readonly number[]): RowSpec {
  return { name, dtype, dims, bytes: dims.reduce((product, dim) => product * dim, dtypes[dtype].bytes) };
}

/** For logs: the name, then `float32[64]`. */
export function describeRow(row: RowSpec): string {
  return `${row.name} ${row.dtype}[${row.dims.join(',')}]`;
}
