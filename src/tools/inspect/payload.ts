// What the bytes of a payload and of a reply are, as the plan of a model says: each tensor one after another, in C order,
// little-endian. A dynamic dimension that is left is told by the length of the payload.

import { sizeOfOpen } from '../../inference/payload.js';
import type { ModelPlan, TensorPlan } from '../../inference/plan.js';
import { dtypes } from '../../tensors/dtypes.js';

/** The bytes of one tensor: a factor times the sizes of dynamic dimensions. */
export interface Part {
  readonly name: string;
  readonly dtype: TensorPlan['dtype'];
  readonly dims: TensorPlan['requestDims'];
  /** Elements, without the dynamic dimensions. */
  readonly elements: number;
  /** The dynamic dimensions, in order; one that occurs twice is here twice. */
  readonly dynamic: readonly string[];
  /** Bytes of an element; null for strings, each of which is a u32 length (little-endian) and that many bytes. */
  readonly elementBytes: number | null;
}

export interface Layout {
  readonly parts: readonly Part[];
  /** Names of the dynamic dimensions that are left, each once. */
  readonly dynamic: readonly string[];
  readonly hasStrings: boolean;
  /** Bytes in all; null when they depend on dynamic dimensions or strings. */
  readonly bytes: number | null;
}

/** Of a payload: the inputs that are not constant. */
export const payloadLayout = ({ inputs }: Pick<ModelPlan, 'inputs'>): Layout =>
  layoutOf(inputs.filter(({ isConstant }) => !isConstant));

/** Of a reply: the outputs that are returned. */
export const replyLayout = ({ outputs }: Pick<ModelPlan, 'outputs'>): Layout =>
  layoutOf(outputs.filter(({ isReturned }) => isReturned));

function layoutOf(tensors: readonly TensorPlan[]): Layout {
  const parts = tensors.map(partOf);
  const dynamic = [...new Set(parts.flatMap((part) => part.dynamic))];
  const hasStrings = parts.some(({ elementBytes }) => elementBytes === null);
  const bytes =
    dynamic.length > 0 || hasStrings ? null : parts.reduce((sum, part) => sum + (partBytes(part, {}) ?? 0), 0);
  return { parts, dynamic, hasStrings, bytes };
}

function partOf({ name, dtype, requestDims }: TensorPlan): Part {
  return {
    name,
    dtype,
    dims: requestDims,
    elements: requestDims.reduce<number>((product, dim) => (typeof dim === 'number' ? product * dim : product), 1),
    dynamic: requestDims.filter((dim) => typeof dim === 'string'),
    elementBytes: dtype === 'string' ? null : dtypes[dtype].bytes,
  };
}

/** Sizes of dynamic dimensions, by name. */
export type Sizes = Readonly<Record<string, number>>;

/** Null for strings, and where a size is missing. */
export function partBytes({ elements, elementBytes, dynamic }: Part, sizes: Sizes): number | null {
  if (elementBytes === null) return null;
  return dynamic.reduce<number | null>((product, name) => {
    const size = sizes[name];
    return product === null || size === undefined ? null : product * size;
  }, elements * elementBytes);
}

/**
 * The size of the only dynamic dimension in a payload of this length. Null when there is another number of dynamic
 * dimensions, when there are strings, or when no size gives this length.
 */
export function sizesFor({ parts, dynamic, hasStrings }: Layout, length: number): Sizes | null {
  const [name] = dynamic;
  if (name === undefined || dynamic.length > 1 || hasStrings) return null;
  const powers = parts.map(({ dynamic: own, ...part }) => ({
    power: own.length,
    bytes: partBytes({ ...part, dynamic: [] }, {}) ?? 0,
  }));
  const fixed = powers.reduce((sum, { power, bytes }) => sum + (power === 0 ? bytes : 0), 0);
  const size = sizeOfOpen(
    powers.filter(({ power }) => power > 0),
    length - fixed,
  );
  return Number.isNaN(size) ? null : { [name]: size };
}

/** As `8 + 16 × seq`; parts with the same dynamic dimensions are added up. */
export function formula(parts: readonly Part[]): string {
  const factors = new Map<string, number>();
  for (const { elements, elementBytes, dynamic } of parts) {
    const unit = [...(elementBytes === null ? ['bytes of strings'] : []), ...dynamic].join(' × ');
    factors.set(unit, (factors.get(unit) ?? 0) + elements * (elementBytes ?? 1));
  }
  const terms = [...factors].sort(([a], [b]) => a.length - b.length);
  return terms.map(([unit, factor]) => (unit === '' ? String(factor) : `${factor} × ${unit}`)).join(' + ') || '0';
}
