// Whether the tensors of a request are those that a model takes, and what follows from their shapes: how many payloads
// they make, and the sizes of the dimensions that the model leaves open. Data is not looked at.

import type { InputPlan, ModelPlan } from '../../inference/plan.js';
import { quoted } from '../../protocol/invalid-message.js';
import { type DatatypeName, datatypeOf, datatypes } from '../../protocol/oip/datatypes.js';
import { inputNamed, type TensorSpec } from '../../protocol/oip/infer.js';
import { CallError } from './service.js';

/** A tensor as clients are told of it; -1 is a size that requests may choose. */
export interface SignatureTensor {
  readonly name: string;
  readonly datatype: DatatypeName;
  readonly shape: readonly number[];
}

/** A tensor of a request, of which nothing but its looks matter. */
export type Described = { readonly spec: TensorSpec };

export interface SignatureInput extends SignatureTensor {
  /** A number is fixed, a text names an open dimension; inputs agree on the size of each. */
  readonly dims: InputPlan['requestDims'];
  /** Along it a request may have several rows, each a payload of its own; -1: each payload has the whole tensor. */
  readonly rowAxis: number;
  /** Bytes of an element; 0 for strings. */
  readonly elementBytes: number;
}

/** What the shapes of a request's inputs tell. */
export interface CheckedShapes {
  /** Which of the request's inputs is each of the model's. */
  readonly order: readonly number[];
  readonly payloads: number;
  /** Of the open dimensions, by name. */
  readonly sizes: ReadonlyMap<string, number>;
}

/** The inputs that requests have: those of the plan whose value config does not give. */
export const inputsOf = ({ inputs }: ModelPlan): readonly SignatureInput[] =>
  inputs
    .filter(({ isConstant }) => !isConstant)
    .map(({ name, dtype, batchAxis, requestDims }) => {
      const isSplit = typeof batchAxis === 'number' && requestDims[batchAxis] === 1;
      const rowAxis = isSplit ? batchAxis : -1;
      const datatype = datatypeOf(dtype);
      const shape = requestDims.map((dim, axis) => (typeof dim === 'string' || axis === rowAxis ? -1 : dim));
      return { name, datatype, shape, dims: requestDims, rowAxis, elementBytes: datatypes[datatype].bytes };
    });

/** For messages: FP32[-1,64] */
export const looksOf = ({ datatype, shape }: Pick<TensorSpec, 'datatype' | 'shape'>): string =>
  `${datatype}[${shape.join()}]`;

const mostListed = 16;

/** For messages: "x" FP32[-1,64], "y" INT64[-1] */
export function listOf(tensors: readonly SignatureTensor[]): string {
  const listed = tensors.slice(0, mostListed).map((tensor) => `${quoted(tensor.name)} ${looksOf(tensor)}`);
  const more = tensors.length - mostListed;
  return `${listed.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

export const badInput = (message: string): CallError => new CallError('BAD_INPUT', message);

export const wrongLooks = (input: SignatureTensor, spec: TensorSpec): CallError =>
  badInput(`${inputNamed(input.name)} should be ${looksOf(input)}, and is ${looksOf(spec)}`);

export const tooManyRows = (rows: number, most: number): CallError =>
  badInput(`a request should have ${most} ${most === 1 ? 'row' : 'rows'} at the most, and has ${rows}: send several`);

export class ShapeCheck {
  readonly #inputs: readonly SignatureInput[];
  readonly #constants: ReadonlySet<string>;
  /** The open dimension that is the rows of a request, if there is one. */
  readonly #openRows: string | null;
  readonly #mostRows: number;

  /** @param mostRows that a request may have */
  constructor(plan: ModelPlan, inputs: readonly SignatureInput[], mostRows: number) {
    this.#inputs = inputs;
    this.#constants = new Set(plan.inputs.filter(({ isConstant }) => isConstant).map(({ name }) => name));
    this.#openRows = openRowsOf(plan);
    this.#mostRows = mostRows;
  }

  /** Throws CallError BAD_INPUT. */
  check(sent: readonly Described[]): CheckedShapes {
    const order = this.#orderOf(sent);
    const sizes = new Map<string, number>();
    /** The first input that has a dimension: others must agree with it. The rows have no name: ''. */
    const seenIn = new Map<string, TensorSpec>();
    const agree = (dim: string, size: number, spec: TensorSpec): void => {
      const known = sizes.get(dim);
      if (known === size) return;
      const areRows = dim === '' || dim === this.#openRows;
      const what = areRows ? 'the rows' : `the dimension ${quoted(dim)}`;
      if (known !== undefined) {
        const other = seenIn.get(dim) as TensorSpec;
        throw badInput(
          `${inputNamed(spec.name)} should agree with ${inputNamed(other.name)} on ${what}: they are ${known} in ${looksOf(other)}, and ${size} in ${looksOf(spec)}`,
        );
      }
      if (size < 1) throw badInput(`${what} of ${inputNamed(spec.name)} should be 1 or more: it is ${looksOf(spec)}`);
      if (areRows && size > this.#mostRows) throw tooManyRows(size, this.#mostRows);
      sizes.set(dim, size);
      seenIn.set(dim, spec);
    };
    for (const [k, input] of this.#inputs.entries()) {
      const { spec } = sent[order[k] as number] as Described;
      const { datatype, dims, shape, rowAxis } = input;
      if (spec.datatype !== datatype || spec.shape.length !== dims.length) throw wrongLooks(input, spec);
      for (const [axis, size] of spec.shape.entries()) {
        if (shape[axis] === -1) agree(axis === rowAxis ? '' : (dims[axis] as string), size, spec);
        else if (size !== shape[axis]) throw wrongLooks(input, spec);
      }
    }
    return { order, payloads: sizes.get('') ?? 1, sizes };
  }

  #orderOf(sent: readonly Described[]): readonly number[] {
    const order = this.#inputs.map((input) => {
      const index = sent.findIndex(({ spec }) => spec.name === input.name);
      if (index < 0) throw badInput(`${inputNamed(input.name)} ${looksOf(input)} is missing${among(sent)}`);
      return index;
    });
    if (sent.length === order.length) return order;
    const { spec } = sent.find((_, i) => !order.includes(i)) as Described;
    throw badInput(
      this.#constants.has(spec.name)
        ? `${inputNamed(spec.name)} has its value in the server's config: leave it out`
        : `there is no ${inputNamed(spec.name)}: the model takes ${listOf(this.#inputs)}`,
    );
  }
}

const among = (sent: readonly Described[]): string =>
  sent.length === 0 ? '' : `: the request has ${listOf(sent.map(({ spec }) => spec))}`;

/** The name of the open dimension that is the rows of a payload, if there is one. */
export function openRowsOf({ inputs }: ModelPlan): string | null {
  for (const { isConstant, batchAxis, requestDims } of inputs) {
    const rows = typeof batchAxis === 'number' && !isConstant ? requestDims[batchAxis] : null;
    if (typeof rows === 'string') return rows;
  }
  return null;
}
