// Finds how requests may share a run of a model, and proves it before the model serves. Each way is tried in turn, the
// likeliest first (forms.ts): sizes are found that the model runs with, dynamic dimensions that must be equal are tied to
// one another, and the proof (proof.ts) compares requests alone and together: at two sizes of each dynamic dimension,
// and with several values of what requests share. Nothing is taken from names alone. Where no way is proved, each
// request runs alone, and the plan says why.
//
//   form ─▶ sizes that run ─▶ proof ─▶ other sizes, ties ─▶ proof at those ─▶ other shared values ─▶ proof ─▶ plan
//     └── the next form ◀────── a difference anywhere ──────────────┘
//
// It takes milliseconds for small models; of slow ones fewer forms and sizes are tried.

import { elementsIn, filled, type Tensor } from '../../tensors/axis.js';
import type { TensorOverrides } from '../overrides.js';
import type { BatchAxis, InputPlan, ModelPlan, OutputPlan } from '../plan.js';
import { describeForm, type Form, isUsual, joinedForms, namesIn, wholeForm } from './forms.js';
import {
  type Alone,
  briefly,
  type JoinedInput,
  type OutputTensor,
  type ProofSettings,
  type Provable,
  proveTogether,
  runAlone,
  runRequests,
  varyingIn,
} from './proof.js';
import { type Reach, sampleRequest, usualNumbers } from './samples.js';
import { type Dim, isNamed, type ModelInput, type ModelOutput, type Signature } from './signature.js';

/** A model that can be run. */
export interface Runnable extends Signature {
  /** Runs the model; resolves to the outputs that are returned, in the order of the model. */
  run(inputs: Readonly<Record<string, Tensor>>): Promise<readonly OutputTensor[]>;
  /** Whether it has an operator that takes one scale for a whole batch: that of dynamic quantisation does. */
  hasBatchScale(): boolean;
}

export interface FoundPlan {
  readonly plan: ModelPlan;
  /** A request that the model accepts, and that looks like data; null when none was found. */
  readonly sample: readonly Tensor[] | null;
  /** How far the values of its inputs reach; empty without one. */
  readonly reachOf: readonly Reach[];
}

type Sizes = ReadonlyMap<string, number>;

/** Sizes of dynamic dimensions that are tried, until the model runs. */
const tried = [4, 8, 16, 32, 64, 128, 2, 1, 3, 48, 80, 96, 160, 224, 256, 320, 512, 576, 640, 1024, 16_000] as const;
/** The second size of a dimension: an odd one where its first is even, else a multiple of the first, or near it. */
const second = (size: number): readonly number[] => [size * 3 + 1, size * 2, size * 3, size + 1, size + 2, size + 32];
/** The most elements of an input that is made to try the model. */
const mostElements = 1 << 23;
/** How long sizes are looked for: together, and for one form. */
const searchMs = 1500;
const sizesMs = 400;
/** A single run that is not needed for the proof may take this long. */
const longMs = 300;

export async function findPlan(
  model: Runnable,
  overrides: TensorOverrides,
  settings: ProofSettings,
): Promise<FoundPlan> {
  const hasOverrides = Object.keys(overrides.inputs).length > 0;
  const fixed = hasOverrides ? null : await findFixedBatch(model, settings);
  if (fixed !== null) return fixed;
  const found = await new Search(model, overrides, settings).find();
  if (found.sample !== null || Object.keys(overrides.inputs).length > 0) return found;
  const inputs = withOwnNames(model.inputs);
  if (inputs === null) return found;
  const apart = await new Search({ ...model, inputs }, overrides, settings).find();
  return apart.sample === null ? found : apart;
}

/** Some exporters give one name to dimensions that differ: each gets its own. Null when no name is given twice. */
function withOwnNames(inputs: readonly ModelInput[]): readonly ModelInput[] | null {
  const seen = new Map<string, number>();
  const renamed = inputs.map((input) => ({
    ...input,
    dims: input.dims.map((dim): Dim => {
      if (typeof dim === 'number') return dim;
      const times = (seen.get(dim) ?? 0) + 1;
      seen.set(dim, times);
      return times === 1 ? dim : `${dim}_${times}`;
    }),
  }));
  return [...seen.values()].some((times) => times > 1) ? renamed : null;
}

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
async function findFixedBatch(model: Runnable, settings: ProofSettings): Promise<FoundPlan | null> {
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

/** An output that is no part of replies, as the model states it. */
function notReturned({ name, dtype, dims: stated }: ModelOutput): OutputPlan {
  const dims = (stated ?? []).map((dim, i) => (dim === '' ? `${name}_${i}` : dim));
  return { name, dtype, dims, batchAxis: 'none', requestDims: dims, isReturned: false, labels: null };
}

/** Requests of some sizes that the model has run alone. */
interface Trial {
  readonly sizes: Sizes;
  readonly provable: Provable;
  readonly alone: Alone;
}

/** The outputs of one run. */
interface Observation {
  readonly sizes: Sizes;
  readonly outputs: readonly OutputTensor[];
}

/** What is known of a form: its trials, the dimensions that are equal, and why its requests may not share a run. */
interface Tested {
  readonly form: Form;
  readonly trials: readonly Trial[];
  readonly ties: ReadonlyMap<string, string>;
  readonly outputAxes: readonly (number | null)[];
  readonly difference: string | null;
}

class Search {
  readonly #model: Runnable;
  readonly #inputs: readonly ModelInput[];
  readonly #overrides: TensorOverrides;
  readonly #settings: ProofSettings;
  /** Sizes that have run, by the names of dimensions, over all forms. */
  readonly #known = new Map<string, number>();
  readonly #notes: string[] = [];
  readonly #deadline = performance.now() + searchMs;
  #error: unknown = null;

  constructor(model: Runnable, overrides: TensorOverrides, settings: ProofSettings) {
    this.#model = model;
    this.#inputs = model.inputs.filter(({ constant }) => constant === null);
    this.#overrides = overrides;
    this.#settings = settings;
  }

  async find(): Promise<FoundPlan> {
    const forms = joinedForms(this.#inputs, this.#overrides);
    let nearest: Tested | null = null;
    for (const [i, form] of forms.entries()) {
      if (i > 0 && performance.now() > this.#deadline) break;
      const tested = await this.#test(form);
      if (tested?.difference === null) return this.#found(tested);
      nearest ??= tested;
    }
    this.#refuseContradicted(nearest);
    return this.#alone(this.#whyAlone(forms, nearest), nearest);
  }

  async #test(form: Form): Promise<Tested | null> {
    const base = await this.#trial(form);
    if (base === null) return null;
    const failed = (difference: string): Tested => ({
      form,
      trials: [base],
      ties: new Map(),
      outputAxes: [],
      difference,
    });
    const proof = await proveTogether(base.provable, base.alone, this.#settings);
    const { axes: outputAxes } = proof;
    if (proof.difference !== null) return failed(proof.difference);
    const mistaken = this.#outputOverride(outputAxes);
    if (mistaken !== null) return failed(mistaken);
    const { others, ties, single } = await this.#otherSizes(form, base);
    if (single !== null) return failed(this.#oneSizeOnly(form, single, base.sizes.get(single) as number));
    const trials = [...(await nearer(base)), ...others, ...(await this.#otherShared(form, base))];
    for (const trial of trials) {
      const again = await proveTogether(trial.provable, trial.alone, this.#settings, true);
      const isSame = String(again.axes) === String(outputAxes);
      const difference = again.difference ?? (isSame ? null : 'the outputs have their batch along other axes');
      if (difference !== null) return failed(`${difference}${sizesText(trial.sizes)}`);
    }
    const hidden = await this.#hiddenIn(form, base);
    if (hidden !== null) return failed(hidden);
    return { form, trials: [base, ...trials], ties, outputAxes, difference: null };
  }

  /**
   * Classes hide small differences, until one of them tips a class over: outputs without fractions are tried with more
   * and larger requests, and are not trusted where the model takes one scale for a whole batch.
   */
  async #hiddenIn(form: Form, base: Trial): Promise<string | null> {
    const [outputs] = base.alone.references as [readonly OutputTensor[]];
    if (!areCoarse(outputs)) return null;
    if (this.#model.hasBatchScale()) return oneScale;
    const larger = namesIn(form).length === 0 ? null : await this.#muchLarger(form, base);
    const provable = larger === null ? base.provable : (this.#provable(form, larger.sizes) as Provable);
    const attempt = await runRequests(provable, base.alone.reachOf);
    if (!('requests' in attempt)) return null;
    return (await proveTogether(provable, attempt, this.#settings)).difference;
  }

  /** Requests of the first sizes that the model runs with; null when there are none. */
  async #trial(form: Form): Promise<Trial | null> {
    const names = namesIn(form);
    const startedAt = performance.now();
    let tries = 0;
    for (const sizes of this.#sizesToTry(names)) {
      if (tries++ > 3 && performance.now() - startedAt > sizesMs) break;
      const provable = this.#provable(form, sizes);
      if (provable === null || (names.length > 0 && !(await this.#runsOnce(provable)))) continue;
      const alone = await this.#runAlone(provable);
      if (alone === null) continue;
      for (const [name, size] of sizes) this.#known.set(name, size);
      return { sizes, provable, alone };
    }
    return null;
  }

  *#sizesToTry(names: readonly string[]): Generator<Sizes> {
    const all = (size: number): Sizes => new Map(names.map((name) => [name, size]));
    if (names.length === 0) return yield all(0);
    const known = new Map(names.map((name) => [name, this.#known.get(name) ?? tried[0]]));
    if (names.some((name) => this.#known.has(name))) yield known;
    for (const size of tried) yield all(size);
    for (const first of names)
      for (const size of tried)
        for (const rest of [1, 2, 4, 16, 64]) yield new Map(names.map((name) => [name, name === first ? size : rest]));
  }

  #provable(form: Form, sizes: Sizes): Provable | null {
    const inputs = form.map(({ input, axis, dims }): JoinedInput => {
      const { name, dtype } = input;
      return { name, dtype, axis: axis === 'none' ? 0 : axis, dims: dims.map((dim) => sizeOf(dim, sizes)) };
    });
    if (inputs.some(({ dims }) => elementsIn(dims) > mostElements)) return null;
    return { inputs, fixedBatch: null, run: (tensors) => this.#run(form, tensors) };
  }

  #run(form: Form, tensors: readonly Tensor[]): Promise<readonly OutputTensor[]> {
    const feeds: Record<string, Tensor> = {};
    const sizes = new Map<Dim, number>();
    form.forEach(({ input }, k) => {
      for (const [axis, dim] of input.dims.entries()) sizes.set(dim, tensors[k]?.dims[axis] as number);
    });
    for (const { name, dims, constant, isFilled } of this.#model.inputs) {
      if (constant === null) continue;
      const shape = dims.map((dim) => (typeof dim === 'number' ? dim : (sizes.get(dim) ?? 1)));
      feeds[name] = isFilled ? filled(constant, shape) : constant;
    }
    form.forEach(({ input }, k) => {
      feeds[input.name] = tensors[k] as Tensor;
    });
    return this.#model.run(feeds);
  }

  /** Whether the model takes these sizes: values are tried that most models accept. */
  async #runsOnce(provable: Provable): Promise<boolean> {
    for (const reachOf of firstReaches(provable)) {
      try {
        await provable.run(sampleRequest(provable.inputs, reachOf, 0));
        return true;
      } catch (error) {
        this.#error ??= error;
      }
    }
    return false;
  }

  async #runAlone(provable: Provable): Promise<Alone | null> {
    try {
      return await runAlone(provable);
    } catch (error) {
      this.#error ??= error;
    }
    for (const reachOf of firstReaches(provable)) {
      const attempt = await runRequests(provable, reachOf);
      if ('requests' in attempt) return attempt;
    }
    return null;
  }

  /** A trial at another size of each dimension, and which dimensions must be equal; `single` runs at one size only. */
  async #otherSizes(
    form: Form,
    base: Trial,
  ): Promise<{ others: readonly Trial[]; ties: ReadonlyMap<string, string>; single: string | null }> {
    const others: Trial[] = [];
    const ties = new Map<string, string>();
    let left: string[] = [];
    for (const name of namesIn(form)) {
      const trial = await this.#resized(form, base, [name]);
      if (trial === null) left.push(name);
      else others.push(trial);
    }
    while (left.length > 0) {
      const [first, ...rest] = left as [string, ...string[]];
      const groups = [...rest.map((name) => [first, name]), ...(rest.length > 1 ? [left] : [])];
      let tied: readonly string[] = [];
      for (const group of groups) {
        const trial = await this.#resized(form, base, group);
        if (trial === null) continue;
        others.push(trial);
        tied = group;
        break;
      }
      if (tied.length === 0) return { others, ties, single: first };
      for (const name of tied) ties.set(name, first);
      left = left.filter((name) => !tied.includes(name));
      // A third one may have to be equal too.
      for (const name of [...left]) {
        if (sameSizes(base.sizes, [first, name]) && (await this.#isTiedTo(form, base, tied, name))) {
          ties.set(name, first);
          left = left.filter((other) => other !== name);
        }
      }
    }
    return { others, ties, single: null };
  }

  /** Whether `name` can be changed together with `group`. */
  async #isTiedTo(form: Form, base: Trial, group: readonly string[], name: string): Promise<boolean> {
    return (await this.#resized(form, base, [...group, name])) !== null;
  }

  /** A trial in which these dimensions have another size, the same for all of them. */
  async #resized(form: Form, base: Trial, names: readonly string[]): Promise<Trial | null> {
    const size = base.sizes.get(names[0] as string) as number;
    if (!sameSizes(base.sizes, names)) return null;
    const startedAt = performance.now();
    for (const [i, other] of [...second(size), ...tried].entries()) {
      // 1 is broadcast to any size: it would hide that dimensions must be equal.
      if (other === size || other === 1 || (i > 1 && performance.now() - startedAt > sizesMs / 2)) continue;
      const sizes = new Map([...base.sizes, ...names.map((name) => [name, other] as const)]);
      const provable = this.#provable(form, sizes);
      if (provable === null) continue;
      const attempt = await runRequests(provable, base.alone.reachOf, 4);
      if ('requests' in attempt) return { sizes, provable, alone: attempt };
    }
    return null;
  }

  /** Trials with other values of small inputs that requests share: a mode, for example, may change what is computed. */
  async #otherShared(form: Form, base: Trial): Promise<readonly Trial[]> {
    const others: Trial[] = [];
    for (const [k, { axis }] of form.entries()) {
      const input = base.provable.inputs[k] as JoinedInput;
      if (axis !== 'shared' || !isWhole(input) || elementsIn(input.dims) !== 1) continue;
      for (const value of usualNumbers) {
        const reachOf = base.alone.reachOf.map((reach, i) => (i === k ? value : reach));
        const attempt = await runRequests(base.provable, reachOf, 3);
        if ('requests' in attempt) others.push({ ...base, alone: attempt });
      }
    }
    return others;
  }

  #oneSizeOnly(form: Form, name: string, size: number): string {
    const { input, dims } = form.find((one) => one.dims.includes(name)) as Form[number];
    const shape = dims.map((dim) => (dim === name ? size : typeof dim === 'string' ? null : dim));
    return `the dimension ${name} of the input ${input.name} ran at the size ${size} alone, of those that were tried: if it always has that size, set inputs.${input.name}.shape to ${JSON.stringify(shape)}`;
  }

  /** Why config is wrong about the axis of an output; null when it is not. */
  #outputOverride(axes: readonly (number | null)[]): string | null {
    const outputs = this.#model.outputs.filter(({ isReturned }) => isReturned);
    for (const [k, { name }] of outputs.entries()) {
      const wanted = outputOverride(this.#overrides, name);
      if (wanted !== undefined && wanted !== axes[k])
        return `outputs.${name}.batchAxis is ${wanted}, but its batch lies along axis ${axes[k]}`;
    }
    return null;
  }

  /** Config may not say what the proof contradicts: clients would get wrong answers. */
  #refuseContradicted(nearest: Tested | null): void {
    const axes = Object.entries(this.#overrides.inputs).filter(
      ([, { batchAxis }]) => batchAxis !== undefined && batchAxis !== 'none',
    );
    const [first] = axes;
    const outputs = this.#model.outputs.filter(({ name }) => {
      const axis = outputOverride(this.#overrides, name);
      return axis !== undefined && axis !== 'none';
    });
    const [output] = outputs;
    if (first === undefined && output === undefined) return;
    if (Object.values(this.#overrides.inputs).some(({ batchAxis }) => batchAxis === 'none')) return;
    const key = first === undefined ? `outputs.${output?.name}.batchAxis` : `inputs.${first[0]}.batchAxis`;
    const why = nearest?.difference ?? `the model does not run like that: ${briefly(this.#error)}`;
    throw new Error(`${key} is refused, since answers would be wrong: ${why}; leave it out, or set it to "none"`);
  }

  #whyAlone(forms: readonly Form[], nearest: Tested | null): string {
    if (nearest !== null) {
      const along = describeForm(nearest.form);
      return `${nearest.difference}${along === '' ? '' : ` (with requests joined along ${along})`}`;
    }
    const forced = Object.entries(this.#overrides.inputs).find(([, { batchAxis }]) => batchAxis === 'none');
    if (forced !== undefined) return `inputs.${forced[0]}.batchAxis is "none" in config`;
    if (forms.length > 0) return `requests could not be joined to try it: ${briefly(this.#error)}`;
    const dynamic = this.#inputs.find(({ dims }) => dims.some((dim) => typeof dim === 'string'));
    const fixed = this.#inputs.find(({ dims }) => dims.length > 0 && !dims.some((dim) => typeof dim === 'string'));
    if (dynamic === undefined || fixed === undefined)
      return 'no input has a dynamic dimension along which requests could be joined';
    return `the input ${fixed.name} has the fixed shape [${fixed.dims}], so it cannot be joined, and is too large to be shared`;
  }

  async #alone(because: string, nearest: Tested | null): Promise<FoundPlan> {
    let form = wholeForm(this.#inputs, this.#overrides, nearest?.form ?? null);
    for (const { input, axis } of nearest?.form ?? [])
      if (typeof axis === 'number' && isUsual(input, axis)) this.#known.set(input.dims[axis] as string, 1);
    // The length of a payload tells one size alone: with more, what is most likely the batch is 1.
    const tested = await this.#sizesAlone(form);
    let { ties, trials } = tested;
    if (nearest !== null && new Set(namesIn(form).map((name) => ties.get(name) ?? name)).size > 1) {
      const pinned = nearest.form.map((input, k) => ({
        ...input,
        axis: 'none' as const,
        dims:
          typeof input.axis === 'number' && isUsual(input.input, input.axis)
            ? input.dims
            : (form[k] as Form[number]).dims,
      }));
      const isUsualBatch = form.every(
        ({ dims }, k) => !dims.some(isDynamic) || String(dims) !== String(pinned[k]?.dims),
      );
      if (isUsualBatch) {
        form = pinned;
        ({ ties, trials } = await this.#sizesAlone(form));
        if (trials.length === 0) trials = nearest.trials;
        this.#notes.push(
          'requests have one row: with a second dynamic dimension, their length could not tell their shape',
        );
      }
    }
    const [base] = trials;
    if (base === undefined) {
      if (namesIn(form).length === 0) throw this.#error;
      this.#notes.push(
        `no request was found that the model accepts, so nothing is known of it before it serves; the first try ended with: ${briefly(this.#error)}; give shapes or values in inputs.${form[0]?.input.name}.shape or constants`,
      );
    }
    const outputAxes = this.#model.outputs.map(() => null);
    return this.#found({ form, trials, ties, outputAxes, difference: because });
  }

  /** What is known of requests that run alone: no trials when none was found that runs. */
  async #sizesAlone(form: Form): Promise<Pick<Tested, 'trials' | 'ties'>> {
    const base = await this.#trial(form);
    if (base === null) return { trials: [], ties: new Map() };
    const { others, ties } = await this.#otherSizes(form, base);
    return { trials: [base, ...others], ties };
  }

  /**
   * The outputs at sizes that are many times as large: many models pad small ones, so that an output seems to have a
   * constant size. Null when the model does not run there, or when it would take too long.
   */
  async #muchLarger(form: Form, base: Trial): Promise<Observation | null> {
    const names = namesIn(form);
    for (const factor of [16, 10, 4, 2]) {
      if (base.alone.oneMs * factor ** names.length > longMs) continue;
      const sizes = new Map([...base.sizes].map(([name, size]) => [name, size * factor]));
      const provable = this.#provable(form, sizes);
      if (provable === null) continue;
      const outputs = await provable.run(sampleRequest(provable.inputs, base.alone.reachOf, 0)).catch(() => null);
      if (outputs !== null) return { sizes, outputs };
    }
    return null;
  }

  async #found({ form, trials, ties, outputAxes, difference }: Tested): Promise<FoundPlan> {
    const [base] = trials;
    const larger = base === undefined || namesIn(form).length === 0 ? null : await this.#muchLarger(form, base);
    const tied = (dim: Dim): Dim => (typeof dim === 'string' ? (ties.get(dim) ?? dim) : dim);
    const left = new Set(namesIn(form).map(tied));
    const nameOfBatch = batchName(form, left);
    const hasRows = form.some((one) => one.hasRows);
    const inputs = this.#model.inputs.map((input): InputPlan => {
      const own = form.find((one) => one.input.name === input.name);
      const { name, dtype, constant } = input;
      if (own === undefined || constant !== null) {
        const { batchAxis, requestDims } = input.isFilled
          ? filledDims(input, form, tied, hasRows ? nameOfBatch : 1)
          : { batchAxis: 'shared' as const, requestDims: constant?.dims ?? [] };
        return { name, dtype, dims: input.dims, batchAxis, requestDims, isConstant: true };
      }
      const { axis } = own;
      const dims = own.dims.map((dim, i) =>
        i === axis ? nameOfBatch : dim === 1 ? (input.dims[i] as Dim) : tied(dim),
      );
      const requestDims = own.dims.map((dim, i) => (i === axis && hasRows ? nameOfBatch : tied(dim)));
      return { name, dtype, dims, batchAxis: axis, requestDims, isConstant: false };
    });
    const outputs = this.#outputs(trials, larger, tied, outputAxes, nameOfBatch, form, difference !== null);
    const plan: ModelPlan = { inputs, outputs, fixedBatch: null, runsAloneBecause: difference, notes: this.#notes };
    return { plan, sample: trials[0]?.alone.requests[0] ?? null, reachOf: trials[0]?.alone.reachOf ?? [] };
  }

  #outputs(
    trials: readonly Trial[],
    larger: Observation | null,
    tied: (dim: Dim) => Dim,
    axes: readonly (number | null)[],
    nameOfBatch: string,
    form: Form,
    runsAlone: boolean,
  ): readonly OutputPlan[] {
    const returned = this.#model.outputs.filter(({ isReturned }) => isReturned);
    const hasRows = form.some((input) => input.hasRows);
    const varying = trials.map(({ alone }) => varyingIn(alone)?.name);
    const observations: readonly Observation[] = [
      ...trials.map(({ sizes, alone }) => ({ sizes, outputs: alone.references[0] as readonly OutputTensor[] })),
      ...(larger === null ? [] : [larger]),
    ];
    const names = namesIn(form);
    return this.#model.outputs.map((output): OutputPlan => {
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
      const axis = axes[k] ?? null;
      const batchAxis: BatchAxis = runsAlone ? 'none' : (axis ?? 'shared');
      const dims = shape.map((dim, i) => (i === axis && !runsAlone ? nameOfBatch : dim));
      const requestDims = shape.map((dim, i) => (i !== axis || runsAlone ? dim : hasRows ? nameOfBatch : 1));
      return { name, dtype, dims, batchAxis, requestDims, isReturned, labels: null };
    });
  }
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

/** A trial with numbers around 0: beside the largest ones, a difference between them would seem to be rounding. */
async function nearer(base: Trial): Promise<readonly Trial[]> {
  const { reachOf } = base.alone;
  const isFar = (k: number): boolean =>
    (reachOf[k] === 'wide' || reachOf[k] === 'far') && base.provable.inputs[k]?.dtype.startsWith('float') === true;
  const near = reachOf.map((reach, k): Reach => (isFar(k) ? 'data' : reach));
  if (near.every((reach, k) => reach === reachOf[k])) return [];
  const attempt = await runRequests(base.provable, near, 3);
  return 'requests' in attempt ? [{ ...base, alone: attempt }] : [];
}

/** Whether no output has fractions. */
const areCoarse = (outputs: readonly OutputTensor[]): boolean =>
  !outputs.some(({ dtype }) => dtype.startsWith('float'));

const oneScale =
  'it takes one scale for all rows of a run (DynamicQuantizeLinear), and its outputs are too coarse to tell how little that changes them';

const isDynamic = (dim: Dim): boolean => typeof dim === 'string';

const sizeOf = (dim: Dim, sizes: Sizes): number => (typeof dim === 'number' ? dim : (sizes.get(dim) ?? 1));

const sameSizes = (sizes: Sizes, names: readonly string[]): boolean =>
  names.every((name) => sizes.get(name) === sizes.get(names[0] as string));

const sizesText = (sizes: Sizes): string =>
  sizes.size === 0 ? '' : ` with ${[...sizes].map(([name, size]) => `${name} ${size}`).join(', ')}`;

const isWhole = ({ dtype }: JoinedInput): boolean => dtype.startsWith('int') || dtype.startsWith('uint');

/** Values that most models accept, the widest first; a single integer may be a sample rate. */
function firstReaches({ inputs }: Provable): readonly (readonly Reach[])[] {
  const isSingle = (input: JoinedInput): boolean => isWhole(input) && elementsIn(input.dims) === 1;
  const plain: readonly Reach[] = ['wide', 'bits', 1, 0];
  const rates = inputs.some(isSingle) ? [16_000, 8000] : [];
  return [
    ...plain.map((reach) => inputs.map(() => reach)),
    ...rates.flatMap((rate) =>
      (['wide', 'bits'] as const).map((reach) => inputs.map((one) => (isSingle(one) ? rate : reach))),
    ),
  ];
}

/** What config says of the axis of an output. */
function outputOverride({ outputs }: TensorOverrides, name: string): BatchAxis | undefined {
  return Array.isArray(outputs)
    ? undefined
    : (outputs as Readonly<Record<string, { batchAxis?: BatchAxis }>>)[name]?.batchAxis;
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
