import type { BatchAxis, InputPlan, ModelPlan, OutputPlan, TensorPlan } from '#src/inference/plan.js';

type Dims = TensorPlan['dims'];

/** `b` in `dims` is the batch; its place is the batch axis, unless another is given. */
function tensorPlan(name: string, dtype: TensorPlan['dtype'], dims: Dims, batchAxis?: BatchAxis): TensorPlan {
  const axis = dims.indexOf('b');
  const known = batchAxis ?? (axis < 0 ? 'none' : axis);
  return { name, dtype, dims, batchAxis: known, requestDims: dims.map((dim) => (dim === 'b' ? 1 : dim)) };
}

export const inputPlan = (...args: Parameters<typeof tensorPlan>): InputPlan => ({
  ...tensorPlan(...args),
  isConstant: false,
});

export const outputPlan = (...args: Parameters<typeof tensorPlan>): OutputPlan => ({
  ...tensorPlan(...args),
  isReturned: true,
  labels: null,
});

export const planOf = (
  inputs: readonly InputPlan[],
  outputs: readonly OutputPlan[] = [],
  more: Partial<ModelPlan> = {},
): ModelPlan => ({ inputs, outputs, fixedBatch: null, runsAloneBecause: null, notes: [], ...more });
