// What a form was found to be when it was tried, and the plan that follows from it: the names and the sizes of the
// dimensions of each input and output.

import type { Tensor } from '../../tensors/axis.js';
import type { BatchAxis, InputPlan, ModelPlan, OutputPlan } from '../plan.js';
import { type Form, namesIn } from './forms.js';
import { type OutputTensor, varyingIn } from './proof.js';
import type { Reach } from './samples.js';
import { type Dim, isNamed, type ModelInput, type ModelOutput, type Signature } from './signature.js';
import type { Observation, Trial } from './trials.js';

export interface FoundPlan {
  readonly plan: ModelPlan;
  /** A request that the model accepts, and that looks like data; null when none was found. */
  readonly sample: readonly Tensor[] | null;
  /** How far the values of its inputs reach; empty without one. */
  readonly reachOf: readonly Reach[];
}

/** What is known of a form: its trials, the dimensions that are equal, and why its requests may not share a run. */
export interface Tested {
  readonly form: Form;
  readonly trials: readonly Trial[];
  readonly ties: ReadonlyMap<string, string>;
  readonly outputAxes: readonly (number | null)[];
  readonly difference: string | null;
}

/**
 * The plan of a form that was tried.
 * @param larger the outputs at much larger sizes, when they are known
 */
export function foundPlan(
  { inputs: all, outputs: allOutputs }: Signature,
  tested: Tested,
  larger: Observation | null,
  notes: readonly string[],
): FoundPlan {
  const { form, trials, ties, difference } = tested;
  const tied = (dim: Dim): Dim => (typeof dim === 'string' ? (ties.get(dim) ?? dim) : dim);
  const nameOfBatch = batchName(form, new Set(namesIn(form).map(tied)));
  const hasRows = form.some((one) => one.hasRows);
  const inputs = all.map((input): InputPlan => {
    const own = form.find((one) => one.input.name === input.name);
    const { name, dtype, constant } = input;
    if (own === undefined || constant !== null) {
      const { batchAxis, requestDims } = input.isFilled
        ? filledDims(input, form, tied, hasRows ? nameOfBatch : 1)
        : { batchAxis: 'shared' as const, requestDims: constant?.dims ?? [] };
      return { name, dtype, dims: input.dims, batchAxis, requestDims, isConstant: true };
    }
    const { axis } = own;
    const dims = own.dims.map((dim, i) => (i === axis ? nameOfBatch : dim === 1 ? (input.dims[i] as Dim) : tied(dim)));
    const requestDims = own.dims.map((dim, i) => (i === axis && hasRows ? nameOfBatch : tied(dim)));
    return { name, dtype, dims, batchAxis: axis, requestDims, isConstant: false };
  });
  const outputs = outputPlans(allOutputs, tested, larger, tied, nameOfBatch);
  const plan: ModelPlan = { inputs, outputs, fixedBatch: null, runsAloneBecause: difference, notes };
  return { plan, sample: trials[0]?.alone.requests[0] ?? null, reachOf: trials[0]?.alone.reachOf ?? [] };
}

function outputPlans(
  all: readonly ModelOutput[],
  { form, trials, outputAxes, difference }: Tested,
  larger: Observation | null,
  tied: (dim: Dim) => Dim,
  nameOfBatch: string,
): readonly OutputPlan[] {
  const runsAlone = difference !== null;
  const returned = all.filter(({ isReturned }) => isReturned);
  const hasRows = form.some((input) => input.hasRows);
  const varying = trials.map(({ alone }) => varyingIn(alone)?.name);
  const observations: readonly Observation[] = [
    ...trials.map(({ sizes, alone }) => ({ sizes, outputs: alone.references[0] as readonly OutputTensor[] })),
    ...(larger === null ? [] : [larger]),
  ];
  const names = namesIn(form);
  return all.map((output): OutputPlan => {
    const { name, dtype, isReturned } = output;
    const k = returned.indexOf(output);
    const seen = k === -1 ? [] : observations.map(({ sizes, outputs }) => ({ sizes, dims: outputs[k]?.dims ?? [] }));
    const rank = seen[0]?.dims.length;
    if (rank === undefined || seen.some(({ dims }) => dims.length !== rank))
      return { ...notReturned(output), isReturned };
    const isKnown = !varying.includes(name) && (names.length === 0 ? !runsAlone : larger !== null);
    const shape = Array.from({ length: rank }, (_, i): Dim => {
      const stated = output.dims?.[i];
      if (typeof stated === 'number') return stated;
      const sizes = seen.map(({ dims }) => dims[i] as number);
      const isConstant = sizes.every((size) => size === sizes[0]);
      const same = names.find((dim) => seen.every((one) => one.sizes.get(dim) === one.dims[i]));
      if (same !== undefined && !isConstant) return tied(same);
      if (isConstant && isKnown) return sizes[0] as number;
      return typeof stated === 'string' && isNamed(stated) && !names.includes(stated) ? stated : `${name}_${i}`;
    });
    const axis = outputAxes[k] ?? null;
    const batchAxis: BatchAxis = runsAlone ? 'none' : (axis ?? 'shared');
    const dims = shape.map((dim, i) => (i === axis && !runsAlone ? nameOfBatch : dim));
    const requestDims = shape.map((dim, i) => (i !== axis || runsAlone ? dim : hasRows ? nameOfBatch : 1));
    return { name, dtype, dims, batchAxis, requestDims, isReturned, labels: null };
  });
}

/** An output that is no part of replies, as the model states it. */
export function notReturned({ name, dtype, dims: stated }: ModelOutput): OutputPlan {
  const dims = (stated ?? []).map((dim, i) => (dim === '' ? `${name}_${i}` : dim));
  return { name, dtype, dims, batchAxis: 'none', requestDims: dims, isReturned: false, labels: null };
}

/** The dimensions of a constant that one value fills: those that other inputs have in a request, by their names. */
function filledDims(
  { dims }: ModelInput,
  form: Form,
  tied: (dim: Dim) => Dim,
  rows: Dim,
): Pick<InputPlan, 'batchAxis' | 'requestDims'> {
  const known = new Map<Dim, Dim>();
  let nameOfBatch: Dim | null = null;
  for (const { input, axis, dims: own } of form)
    for (const [i, dim] of input.dims.entries()) {
      known.set(dim, i === axis ? rows : tied(own[i] as Dim));
      if (i === axis) nameOfBatch = dim;
    }
  const place = nameOfBatch === null ? -1 : dims.indexOf(nameOfBatch);
  return {
    batchAxis: place < 0 ? 'shared' : place,
    requestDims: dims.map((dim) => (typeof dim === 'number' ? dim : (known.get(dim) ?? 1))),
  };
}

/** The model's own name of the batch, where it has one that means nothing else. */
function batchName(form: Form, left: ReadonlySet<Dim>): string {
  for (const { input, axis } of form) {
    if (typeof axis !== 'number') continue;
    const dim = input.dims[axis] as string;
    const isOwn = isNamed(dim) && dim !== `${input.name}_${axis}`;
    if (isOwn && !left.has(dim)) return dim;
  }
  return left.has('batch') ? 'batch_' : 'batch';
}

/** Whether no output has fractions. */
export const areCoarse = (outputs: readonly OutputTensor[]): boolean =>
  !outputs.some(({ dtype }) => dtype.startsWith('float'));

export const oneScale =
  'it takes one scale for all rows of a run (DynamicQuantizeLinear), and its outputs are too coarse to tell how little that changes them';
