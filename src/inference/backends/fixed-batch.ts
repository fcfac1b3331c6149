// A batch of a fixed size in front of all inputs and outputs: its rows must be independent, since the model cannot run one
// of them alone.

import type { Tensor } from '../../tensors/axis.js';
import type { InputPlan, ModelPlan, OutputPlan } from '../plan.js';
import { areCoarse, type FoundPlan, notReturned, oneScale } from './found-plan.js';
import { type OutputTensor, type ProofSettings, type Provable, proveTogether, runAlone } from './proof.js';
import type { ModelInput } from './signature.js';
import { nearer, type Runnable } from './trials.js';

/** The size that all inputs have in front, when all their dimensions are fixed. */
function fixedBatchOf(inputs: readonly ModelInput[]): number | null {
  const [size] = inputs[0]?.dims ?? [];
  const isFixed = inputs.every(
    ({ dtype, dims, constant }) =>
      constant === null && dtype !== 'string' && dims[0] === size && dims.every((dim) => typeof dim === 'number'),
  );
  return isFixed && typeof size === 'number' && size > 0 ? size : null;
}

/**
 * A batch of a fixed size in front of all inputs and outputs; null when there is none.
 * Rejects when its rows are not independent: it cannot run one alone.
 */
export async function findFixedBatch(model: Runnable, settings: ProofSettings): Promise<FoundPlan | null> {
  const fixedBatch = fixedBatchOf(model.inputs);
  if (fixedBatch === null) return null;
  const provable: Provable = {
    inputs: model.inputs.map(({ name, dtype, dims }) => ({
      name,
      dtype,
      axis: 0,
      dims: [1, ...dims.slice(1)] as number[],
    })),
    fixedBatch,
    run: (tensors) => model.run(Object.fromEntries(model.inputs.map(({ name }, k) => [name, tensors[k] as Tensor]))),
  };
  const alone = await runAlone(provable);
  const { references, requests } = alone;
  if (references.some((outputs) => outputs.some(({ dtype, dims }) => dtype === 'string' || dims[0] !== fixedBatch)))
    return null;
  let difference: string | null = null;
  if (fixedBatch > 1 && settings.maxBatchSize > 1) {
    ({ difference } = await proveTogether(provable, alone, settings));
    if (areCoarse(references[0] as readonly OutputTensor[]) && model.hasBatchScale()) difference ??= oneScale;
    for (const trial of difference === null ? await nearer({ sizes: new Map(), provable, alone }) : [])
      difference ??= (await proveTogether(trial.provable, trial.alone, settings, true)).difference;
  }
  const [input] = model.inputs as [ModelInput];
  if (difference !== null)
    throw new Error(
      `its batch has a fixed size of ${fixedBatch}, and its rows are not independent: ${difference}; if the first dimension is no batch, set inputs.${input.name}.batchAxis to "none": a request is then [${input.dims}]; if it is one, export it with a dynamic batch dimension, or with one of 1`,
    );
  const inputs = model.inputs.map(
    ({ name, dtype, dims }): InputPlan => ({
      name,
      dtype,
      dims,
      batchAxis: 0,
      requestDims: [1, ...dims.slice(1)],
      isConstant: false,
    }),
  );
  let k = 0;
  const outputs = model.outputs.map((output): OutputPlan => {
    const { name, dtype, isReturned } = output;
    if (!isReturned) return notReturned(output);
    const seen = references.map((all) => all[k]?.dims ?? []);
    k++;
    const [first] = seen as [readonly number[]];
    const dims = first.map((size, i) => (seen.every((other) => other[i] === size) ? size : `${name}_${i}`));
    return { name, dtype, dims, batchAxis: 0, requestDims: [1, ...dims.slice(1)], isReturned, labels: null };
  });
  const plan: ModelPlan = { inputs, outputs, fixedBatch, runsAloneBecause: null, notes: [] };
  return { plan, sample: requests[0] ?? null, reachOf: alone.reachOf };
}
