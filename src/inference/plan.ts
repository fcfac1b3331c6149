// What is known of a model before it serves: the shape of each of its tensors, and along which axis requests may be
// joined into one run. Plain data: it crosses to threads, to the primary and to aggregators.

import type { Dtype } from '../tensors/dtypes.js';

/**
 * How a tensor of one request lies in the tensor of a run that requests share: along this axis, the requests one after
 * another; `shared`: it is the same for all requests of a run; `none`: there is no such axis, and a request runs alone.
 */
export type BatchAxis = number | 'shared' | 'none';

export interface TensorPlan {
  readonly name: string;
  readonly dtype: Dtype | 'string';
  /**
   * Of the model: a number is fixed, a string names a dynamic dimension. Dimensions of the same name have the same size
   * in a request. One that has no name in the model gets one here.
   */
  readonly dims: readonly (number | string)[];
  readonly batchAxis: BatchAxis;
  /** Of one request, in the same way: 1 along the batch axis, unless a request may have several rows. */
  readonly requestDims: readonly (number | string)[];
}

export interface InputPlan extends TensorPlan {
  /** Whether config gives its value; if so, it is not part of a payload. */
  readonly isConstant: boolean;
}

export interface OutputPlan extends TensorPlan {
  /** Whether it is part of a reply. */
  readonly isReturned: boolean;
  /** What the elements along its last axis stand for, or null: the classes of a classifier, in order. */
  readonly labels: readonly (string | number)[] | null;
}

export interface ModelPlan {
  /** In the order of the model, which is their order in a payload. */
  readonly inputs: readonly InputPlan[];
  /** In the order of the model, which is their order in a reply. */
  readonly outputs: readonly OutputPlan[];
  /** The batch size that the model requires, or null when it is dynamic or there is none. */
  readonly fixedBatch: number | null;
  /** Why each request gets a run of its own; null when requests may share one. */
  readonly runsAloneBecause: string | null;
  /** What people should know beside that, a sentence each: what was changed in the model to serve it, for example. */
  readonly notes: readonly string[];
}
