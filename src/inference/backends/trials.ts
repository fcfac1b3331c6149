// Requests of sizes that the model runs with. A model seldom says which: sizes of its dynamic dimensions are found by
// trying, then a second size of each, and the dimensions that must be equal are tied to one another.

import { elementsIn, filled, type Tensor } from '../../tensors/axis.js';
import { type Form, namesIn } from './forms.js';
import {
  type Alone,
  isSlow,
  type JoinedInput,
  type OutputTensor,
  type Provable,
  runAlone,
  runRequests,
} from './proof.js';
import { type Reach, sampleRequest, usualNumbers } from './samples.js';
import type { Dim, Signature } from './signature.js';

/** A model that can be run. */
export interface Runnable extends Signature {
  /** Runs the model; resolves to the outputs that are returned, in the order of the model. */
  run(inputs: Readonly<Record<string, Tensor>>): Promise<readonly OutputTensor[]>;
  /** Whether it has an operator that takes one scale for a whole batch: that of dynamic quantisation does. */
  hasBatchScale(): boolean;
}

export type Sizes = ReadonlyMap<string, number>;

/** Requests of some sizes that the model has run alone. */
export interface Trial {
  readonly sizes: Sizes;
  readonly provable: Provable;
  readonly alone: Alone;
}

/** The outputs of one run. */
export interface Observation {
  readonly sizes: Sizes;
  readonly outputs: readonly OutputTensor[];
}

/** Sizes of dynamic dimensions that are tried, until the model runs. */
const tried = [4, 8, 16, 32, 64, 128, 2, 1, 3, 48, 80, 96, 160, 224, 256, 320, 512, 576, 640, 1024, 16_000] as const;
/** The second size of a dimension: an odd one where its first is even, else a multiple of the first, or near it. */
const second = (size: number): readonly number[] => [size * 3 + 1, size * 2, size * 3, size + 1, size + 2, size + 32];
/** The most elements of an input that is made to try the model. */
const mostElements = 1 << 23;
/** How long sizes are looked for in one form. */
const sizesMs = 400;
/** A single run that is not needed for the proof may take this long. */
const longMs = 300;

export class Trials {
  readonly #model: Runnable;
  /** Sizes that have run, by the names of dimensions, over all forms. */
  readonly #known = new Map<string, number>();
  #error: unknown = null;

  constructor(model: Runnable) {
    this.#model = model;
  }

  /** The first error of a run that failed; null when none did. */
  get error(): unknown {
    return this.#error;
  }

  /** Has this size of a dimension tried first. */
  prefer(name: string, size: number): void {
    this.#known.set(name, size);
  }

  /** Requests of the first sizes that the model runs with; null when there are none. */
  async first(form: Form): Promise<Trial | null> {
    const names = namesIn(form);
    const startedAt = performance.now();
    let tries = 0;
    for (const sizes of this.#sizesToTry(names)) {
      if (tries++ > 3 && performance.now() - startedAt > sizesMs) break;
      const provable = this.provable(form, sizes);
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

  provable(form: Form, sizes: Sizes): Provable | null {
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
  async otherSizes(
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
      const provable = this.provable(form, sizes);
      if (provable === null) continue;
      const attempt = await runRequests(provable, base.alone.reachOf, 4);
      if ('requests' in attempt) return { sizes, provable, alone: attempt };
    }
    return null;
  }

  /** Trials with other values of small inputs that requests share: a mode, for example, may change what is computed. */
  async otherShared(form: Form, base: Trial): Promise<readonly Trial[]> {
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

  /**
   * The outputs at sizes that are many times as large: many models pad small ones, so that an output seems to have a
   * constant size. Null when the model does not run there, or when it would take too long.
   */
  async muchLarger(form: Form, base: Trial): Promise<Observation | null> {
    const names = namesIn(form);
    for (const factor of [16, 10, 4, 2]) {
      if (base.alone.oneMs * factor ** names.length > longMs) continue;
      const sizes = new Map([...base.sizes].map(([name, size]) => [name, size * factor]));
      const provable = this.provable(form, sizes);
      if (provable === null) continue;
      const outputs = await provable.run(sampleRequest(provable.inputs, base.alone.reachOf, 0)).catch(() => null);
      if (outputs !== null) return { sizes, outputs };
    }
    return null;
  }
}

/** A trial with numbers around 0: beside the largest ones, a difference between them would seem to be rounding. */
export async function nearer(base: Trial): Promise<readonly Trial[]> {
  const { reachOf, oneMs } = base.alone;
  const isFar = (k: number): boolean =>
    (reachOf[k] === 'wide' || reachOf[k] === 'far') && base.provable.inputs[k]?.dtype.startsWith('float') === true;
  const near = reachOf.map((reach, k): Reach => (isFar(k) ? 'data' : reach));
  if (near.every((reach, k) => reach === reachOf[k])) return [];
  const attempt = await runRequests(base.provable, near, isSlow(oneMs) ? 2 : 3);
  return 'requests' in attempt ? [{ ...base, alone: attempt }] : [];
}

const sizeOf = (dim: Dim, sizes: Sizes): number => (typeof dim === 'number' ? dim : (sizes.get(dim) ?? 1));

const sameSizes = (sizes: Sizes, names: readonly string[]): boolean =>
  names.every((name) => sizes.get(name) === sizes.get(names[0] as string));

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
