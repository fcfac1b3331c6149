// The ways in which requests might share a run of a model: for each input an axis along which they would lie one after
// another, or that they share it. The likeliest come first; each must be proved.

import { elementsIn } from '../../tensors/axis.js';
import { dtypes } from '../../tensors/dtypes.js';
import type { InputOverride, TensorOverrides } from '../overrides.js';
import { type Dim, isNamed, type ModelInput } from './signature.js';

/** An input as one request has it. */
export interface FormInput {
  readonly input: ModelInput;
  readonly axis: number | 'shared' | 'none';
  /** The dimensions of one row: 1 along the axis. */
  readonly dims: readonly Dim[];
  /** Whether a request may have several rows: config leaves their number open. */
  readonly hasRows: boolean;
}

/** The inputs that are in a payload. */
export type Form = readonly FormInput[];

/** Inputs that requests share are compared byte by byte between them: only small ones are. */
export const mostSharedBytes = 64;
/** Proving takes time, and the likeliest come first. */
const mostForms = 24;
const mostCombinations = 512;

interface Choice extends FormInput {
  readonly unlikely: number;
}

/** The forms in which requests might be joined; none when no input has a dimension for it. */
export function joinedForms(inputs: readonly ModelInput[], overrides: TensorOverrides): readonly Form[] {
  if (Object.values(overrides.inputs).some(({ batchAxis }) => batchAxis === 'none')) return [];
  let forms: readonly (readonly Choice[])[] = [[]];
  for (const input of inputs) {
    const choices = choicesOf(input, overrides.inputs[input.name] ?? {});
    forms = forms.flatMap((form) => choices.map((choice) => [...form, choice])).slice(0, mostCombinations);
  }
  return forms
    .filter((form) => form.some((choice) => mayHoldBatch(choice, overrides)))
    .map((form) => ({ form, unlikely: unlikelihood(form) }))
    .sort((a, b) => a.unlikely - b.unlikely)
    .slice(0, mostForms)
    .map(({ form }) => form);
}

/**
 * Whether an input may be the one that makes its model a model of batches. A fixed 1 in front is a batch of one, and a
 * dynamic dimension in front that is no batch is a matter of the request: what lies behind them is not the batch either,
 * though it may look like it, unless another input has its batch where most have it, or config says so.
 */
function mayHoldBatch({ input, axis }: FormInput, overrides: TensorOverrides): boolean {
  if (typeof axis !== 'number') return false;
  const [first] = input.dims;
  const isInner = typeof first === 'number' && first !== 1;
  return isInner || isUsual(input, axis) || overrides.inputs[input.name]?.batchAxis === axis;
}

/**
 * The form in which each request runs alone.
 * @param joined one in which requests were to be joined: where config gives the shape of a row, it is one of its rows
 */
export function wholeForm(inputs: readonly ModelInput[], overrides: TensorOverrides, joined: Form | null): Form {
  return inputs.map((input, k) => {
    const override = overrides.inputs[input.name] ?? {};
    const row = joined?.[k];
    const whole = override.shape === undefined ? input.dims : dimsWith(input, override.shape);
    const dims = whole ?? (typeof row?.axis === 'number' ? row.dims : null);
    if (dims === null)
      throw new Error(
        `inputs.${input.name}.shape: [${override.shape}] has ${override.shape?.length} dimensions, but ${input.name} has ${input.dims.length} ([${input.dims}]), and no batch axis that could be left out`,
      );
    return { input, axis: 'none', dims, hasRows: false };
  });
}

function choicesOf(input: ModelInput, override: InputOverride): readonly Choice[] {
  const { batchAxis } = override;
  checkOverride(input, override);
  const axes = [...input.dims.keys()].filter((axis) => batchAxis === undefined || batchAxis === axis);
  const joined = axes.flatMap((axis) => choiceAlong(input, axis, override));
  const dims = override.shape === undefined ? input.dims : dimsWith(input, override.shape);
  const isShareable = (batchAxis ?? 'shared') === 'shared' && dims !== null && !isLarge(input, dims);
  const shared: readonly Choice[] =
    isShareable && dims !== null
      ? [{ input, axis: 'shared', dims, hasRows: false, unlikely: dims.some(isDynamic) ? 12 : 0 }]
      : [];
  return [...joined, ...shared].sort((a, b) => a.unlikely - b.unlikely);
}

const isDynamic = (dim: Dim): dim is string => typeof dim === 'string';

function isLarge({ dtype }: ModelInput, dims: readonly Dim[]): boolean {
  if (dtype === 'string' || dims.some(isDynamic)) return false;
  return elementsIn(dims as readonly number[]) * dtypes[dtype].bytes > mostSharedBytes;
}

function checkOverride(input: ModelInput, { batchAxis, shape }: InputOverride): void {
  const { name, dims } = input;
  const written = `${name} is [${dims}]`;
  if (typeof batchAxis === 'number') {
    const dim = dims[batchAxis];
    if (dim === undefined) throw new Error(`inputs.${name}.batchAxis: there is no axis ${batchAxis}: ${written}`);
    if (!isDynamic(dim))
      throw new Error(`inputs.${name}.batchAxis: axis ${batchAxis} has a fixed size of ${dim}: ${written}`);
  }
  if (shape === undefined) return;
  const fits = dimsWith(input, shape) !== null || dims.some((_, axis) => rowDimsWith(input, axis, shape) !== null);
  if (!fits) throw new Error(`inputs.${name}.shape: [${shape}] does not fit the model: ${written}`);
}

/** The dimensions of the input as config has them; null when they contradict the model. */
function dimsWith({ dims }: ModelInput, shape: NonNullable<InputOverride['shape']>): readonly Dim[] | null {
  if (shape.length !== dims.length) return null;
  const merged = dims.map((dim, axis) => mergedDim(dim, shape[axis] ?? null));
  return merged.includes(null) ? null : (merged as readonly Dim[]);
}

/** The dimensions of one row, with 1 along the axis, where config gives those of a row alone; null: that is no row. */
function rowDimsWith(
  { dims }: ModelInput,
  axis: number,
  shape: NonNullable<InputOverride['shape']>,
): readonly Dim[] | null {
  if (shape.length !== dims.length - 1 || !isDynamic(dims[axis] as Dim)) return null;
  const merged = dims.map((dim, i) => (i === axis ? 1 : mergedDim(dim, shape[i < axis ? i : i - 1] ?? null)));
  return merged.includes(null) ? null : (merged as readonly Dim[]);
}

function mergedDim(dim: Dim, wanted: number | string | null): Dim | null {
  if (typeof wanted === 'number' && wanted >= 0) return isDynamic(dim) || dim === wanted ? wanted : null;
  return isDynamic(dim) && typeof wanted === 'string' ? wanted : dim;
}

function choiceAlong(input: ModelInput, axis: number, { shape, batchAxis }: InputOverride): readonly Choice[] {
  const dim = input.dims[axis] as Dim;
  if (!isDynamic(dim)) return [];
  const unlikely = batchAxis === axis ? 0 : unlikelihoodOf(input, axis, dim);
  if (shape === undefined) {
    const dims = input.dims.map((own, i) => (i === axis ? 1 : own));
    return [{ input, axis, dims, hasRows: false, unlikely }];
  }
  const row = rowDimsWith(input, axis, shape);
  if (row !== null) return [{ input, axis, dims: row, hasRows: false, unlikely }];
  const whole = dimsWith(input, shape);
  const size = whole?.[axis];
  if (whole === null || size === undefined || (typeof size === 'number' && size !== 1)) return [];
  const dims = whole.map((own, i) => (i === axis ? 1 : own));
  return [{ input, axis, dims, hasRows: isDynamic(size), unlikely }];
}

const namesABatch = /batch|^(n|b|bs)$/i;

/** Whether an axis is where most models have their batch. */
export const isUsual = ({ dims }: ModelInput, axis: number): boolean =>
  axis === 0 || namesABatch.test(String(dims[axis]));

/** For messages: along which axes requests were joined; empty where it is the first of all. */
export function describeForm(form: Form): string {
  const unusual = form.filter(({ axis }) => typeof axis === 'number' && axis > 0);
  return unusual.map(({ input, axis }) => `axis ${axis} of ${input.name}`).join(', ');
}

function unlikelihoodOf({ name, dims }: ModelInput, axis: number, dim: string): number {
  if (namesABatch.test(dim)) return axis / 8;
  const isFirst = dims.findIndex(isDynamic) === axis;
  const isOwnName = dim !== `${name}_${axis}` && isNamed(dim);
  return (axis === 0 ? 1 : isFirst ? 2 : 4) + axis / 8 + (isOwnName && axis > 0 ? 1 : 0);
}

function unlikelihood(form: readonly Choice[]): number {
  const chosen = new Set(form.flatMap(({ input, axis }) => (typeof axis === 'number' ? [input.dims[axis]] : [])));
  let sum = 0;
  for (const { input, axis, unlikely } of form) {
    sum += unlikely;
    const left = input.dims.filter((dim, i) => i !== axis && chosen.has(dim)).length;
    sum += (typeof axis === 'number' ? 1 : 5) * left;
  }
  return sum;
}

/** The names of the dynamic dimensions of a request, each once. */
export const namesIn = (form: Form): readonly string[] => [
  ...new Set(form.flatMap(({ dims }) => dims.filter(isDynamic))),
];
