// Plans of models of every kind, for tests of what tells of them.

import type { InputPlan, ModelPlan, OutputPlan, TensorPlan } from '#src/inference/plan.js';

export function inputPlan(fields: Partial<InputPlan> & Pick<InputPlan, 'name' | 'dims'>): InputPlan {
  return { ...tensorPlan(fields), isConstant: false, ...fields };
}

export function outputPlan(fields: Partial<OutputPlan> & Pick<OutputPlan, 'name' | 'dims'>): OutputPlan {
  return { ...tensorPlan(fields), isReturned: true, labels: null, ...fields };
}

function tensorPlan({ name, dims, batchAxis = 0 }: Partial<TensorPlan> & Pick<TensorPlan, 'name' | 'dims'>) {
  return {
    name,
    dims,
    dtype: 'float32',
    batchAxis,
    requestDims: dims.map((dim, axis) => (axis === batchAxis ? 1 : dim)),
  } satisfies TensorPlan;
}

export function modelPlan(fields: Partial<ModelPlan>): ModelPlan {
  return { inputs: [], outputs: [], fixedBatch: null, runsAloneBecause: null, notes: [], ...fields };
}

/** [batch,64] → [batch,10] */
export const rowPlan = modelPlan({
  inputs: [inputPlan({ name: 'pixels', dims: ['batch', 64] })],
  outputs: [outputPlan({ name: 'probabilities', dims: ['batch', 10] })],
});

/** Silero VAD: state with its batch along axis 1, and a scalar that config gives. */
export const sileroPlan = modelPlan({
  inputs: [
    inputPlan({ name: 'input', dims: ['batch', 512] }),
    inputPlan({ name: 'state', dims: [2, 'batch', 128], batchAxis: 1 }),
    inputPlan({ name: 'sr', dims: [], dtype: 'int64', batchAxis: 'shared', isConstant: true }),
  ],
  outputs: [
    outputPlan({ name: 'output', dims: ['batch', 1] }),
    outputPlan({ name: 'stateN', dims: [2, 'batch', 128], batchAxis: 1 }),
  ],
});

/** A transformer: two inputs of one length. */
export const tokensPlan = modelPlan({
  inputs: [
    inputPlan({ name: 'input_ids', dims: ['batch', 'seq'], dtype: 'int64' }),
    inputPlan({ name: 'attention_mask', dims: ['batch', 'seq'], dtype: 'int64' }),
    inputPlan({ name: 'scale', dims: ['batch', 2] }),
  ],
  outputs: [outputPlan({ name: 'logits', dims: ['batch', 'seq', 30] })],
});

/** Images of any size. */
export const imagesPlan = modelPlan({
  inputs: [inputPlan({ name: 'x', dims: ['batch', 3, 'height', 'width'] })],
  outputs: [outputPlan({ name: 'boxes', dims: ['found', 6], batchAxis: 'none' })],
  runsAloneBecause: 'the output boxes has as many rows as it finds',
});

/** A classifier with a text among its inputs, and labels. */
export const textPlan = modelPlan({
  inputs: [
    inputPlan({ name: 'city', dims: ['batch', 1], dtype: 'string' }),
    inputPlan({ name: 'age', dims: ['batch', 1] }),
  ],
  outputs: [
    outputPlan({ name: 'label', dims: ['batch'], dtype: 'string' }),
    outputPlan({ name: 'probabilities', dims: ['batch', 3], labels: ['no', 'yes', 'maybe'] }),
    outputPlan({ name: 'hidden', dims: ['batch', 8], isReturned: false }),
  ],
  notes: ['ZipMap was taken out: probabilities is the tensor under it'],
});

/** A model with more tensors, and longer names, than anybody reads. */
export const hugePlan = modelPlan({
  inputs: Array.from({ length: 500 }, (_, i) =>
    inputPlan({ name: `${'feature/'.repeat(20)}${i}`, dims: ['batch', 1] }),
  ),
  outputs: [
    outputPlan({ name: 'scores', dims: ['batch', 5000], labels: Array.from({ length: 5000 }, (_, i) => `class ${i}`) }),
  ],
});
