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

import type { TensorOverrides } from '../overrides.js';
import type { BatchAxis } from '../plan.js';
import { findFixedBatch } from './fixed-batch.js';
import { describeForm, type Form, isUsual, joinedForms, namesIn, wholeForm } from './forms.js';
import { areCoarse, type FoundPlan, foundPlan, oneScale, type Tested } from './found-plan.js';
import { briefly, type OutputTensor, type ProofSettings, type Provable, proveTogether, runRequests } from './proof.js';
import type { Dim, ModelInput } from './signature.js';
import { nearer, type Runnable, type Sizes, type Trial, Trials } from './trials.js';

/** How long forms are looked for. */
const searchMs = 1500;

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

class Search {
  readonly #model: Runnable;
  readonly #inputs: readonly ModelInput[];
  readonly #overrides: TensorOverrides;
  readonly #settings: ProofSettings;
  readonly #trials: Trials;
  readonly #notes: string[] = [];
  readonly #deadline = performance.now() + searchMs;

  constructor(model: Runnable, overrides: TensorOverrides, settings: ProofSettings) {
    this.#model = model;
    this.#inputs = model.inputs.filter(({ constant }) => constant === null);
    this.#overrides = overrides;
    this.#settings = settings;
    this.#trials = new Trials(model);
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
    const base = await this.#trials.first(form);
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
    const { others, ties, single } = await this.#trials.otherSizes(form, base);
    if (single !== null) return failed(this.#oneSizeOnly(form, single, base.sizes.get(single) as number));
    const trials = [...(await nearer(base)), ...others, ...(await this.#trials.otherShared(form, base))];
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
    const larger = namesIn(form).length === 0 ? null : await this.#trials.muchLarger(form, base);
    const provable = larger === null ? base.provable : (this.#trials.provable(form, larger.sizes) as Provable);
    const attempt = await runRequests(provable, base.alone.reachOf);
    if (!('requests' in attempt)) return null;
    return (await proveTogether(provable, attempt, this.#settings)).difference;
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
    const why = nearest?.difference ?? `the model does not run like that: ${briefly(this.#trials.error)}`;
    throw new Error(`${key} is refused, since answers would be wrong: ${why}; leave it out, or set it to "none"`);
  }

  #whyAlone(forms: readonly Form[], nearest: Tested | null): string {
    if (nearest !== null) {
      const along = describeForm(nearest.form);
      return `${nearest.difference}${along === '' ? '' : ` (with requests joined along ${along})`}`;
    }
    const forced = Object.entries(this.#overrides.inputs).find(([, { batchAxis }]) => batchAxis === 'none');
    if (forced !== undefined) return `inputs.${forced[0]}.batchAxis is "none" in config`;
    if (forms.length > 0) return `requests could not be joined to try it: ${briefly(this.#trials.error)}`;
    const dynamic = this.#inputs.find(({ dims }) => dims.some((dim) => typeof dim === 'string'));
    const fixed = this.#inputs.find(({ dims }) => dims.length > 0 && !dims.some((dim) => typeof dim === 'string'));
    if (dynamic === undefined || fixed === undefined)
      return 'no input has a dynamic dimension along which requests could be joined';
    return `the input ${fixed.name} has the fixed shape [${fixed.dims}], so it cannot be joined, and is too large to be shared`;
  }

  async #alone(because: string, nearest: Tested | null): Promise<FoundPlan> {
    let form = wholeForm(this.#inputs, this.#overrides, nearest?.form ?? null);
    for (const { input, axis } of nearest?.form ?? [])
      if (typeof axis === 'number' && isUsual(input, axis)) this.#trials.prefer(input.dims[axis] as string, 1);
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
      if (namesIn(form).length === 0) throw this.#trials.error;
      this.#notes.push(
        `no request was found that the model accepts, so nothing is known of it before it serves; the first try ended with: ${briefly(this.#trials.error)}; give shapes or values in inputs.${form[0]?.input.name}.shape or constants`,
      );
    }
    const outputAxes = this.#model.outputs.map(() => null);
    return this.#found({ form, trials, ties, outputAxes, difference: because });
  }

  /** What is known of requests that run alone: no trials when none was found that runs. */
  async #sizesAlone(form: Form): Promise<Pick<Tested, 'trials' | 'ties'>> {
    const base = await this.#trials.first(form);
    if (base === null) return { trials: [], ties: new Map() };
    const { others, ties } = await this.#trials.otherSizes(form, base);
    return { trials: [base, ...others], ties };
  }

  async #found(tested: Tested): Promise<FoundPlan> {
    const { form, trials } = tested;
    const [base] = trials;
    const larger = base === undefined || namesIn(form).length === 0 ? null : await this.#trials.muchLarger(form, base);
    return foundPlan(this.#model, tested, larger, this.#notes);
  }
}

const isDynamic = (dim: Dim): boolean => typeof dim === 'string';

const sizesText = (sizes: Sizes): string =>
  sizes.size === 0 ? '' : ` with ${[...sizes].map(([name, size]) => `${name} ${size}`).join(', ')}`;

/** What config says of the axis of an output. */
function outputOverride({ outputs }: TensorOverrides, name: string): BatchAxis | undefined {
  return Array.isArray(outputs)
    ? undefined
    : (outputs as Readonly<Record<string, { batchAxis?: BatchAxis }>>)[name]?.batchAxis;
}
