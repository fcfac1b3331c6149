// What a model says of its tensors, with what config says beside it: names and sizes of dimensions, constants.

import type { Tensor } from '../../tensors/axis.js';
import { type Dtype, dtypes, isDtype } from '../../tensors/dtypes.js';
import { type Literal, shapeOf, tensorOf } from '../../tensors/literal.js';
import { textOfThrown } from '../../thrown.js';
import { checkNames, isReturned, type TensorOverrides } from '../overrides.js';

/** As ONNX Runtime tells it; a dimension without a name is ''. */
export interface TensorMetadata {
  readonly name: string;
  readonly isTensor: boolean;
  readonly type?: string;
  readonly shape?: readonly (number | string)[];
}

/** A number is fixed, a string is the name of a dynamic dimension: the same name, the same size. */
export type Dim = number | string;

export interface ModelInput {
  readonly name: string;
  readonly dtype: Dtype | 'string';
  readonly dims: readonly Dim[];
  /** The value that config gives it. */
  readonly constant: Tensor | null;
  /** Whether one value fills the constant, in the shape that the dimensions of the same names have in other inputs. */
  readonly isFilled: boolean;
}

export interface ModelOutput {
  readonly name: string;
  readonly dtype: Dtype | 'string';
  /** '' for a dynamic dimension without a name; null when nothing is known, since a scalar looks alike. */
  readonly dims: readonly Dim[] | null;
  readonly isReturned: boolean;
}

export interface Signature {
  readonly inputs: readonly ModelInput[];
  readonly outputs: readonly ModelOutput[];
}

/** Throws an Error that names the tensor and says what mends it when the model has tensors that cannot be served. */
export function signatureOf(
  inputs: readonly TensorMetadata[],
  outputs: readonly TensorMetadata[],
  overrides: TensorOverrides,
): Signature {
  if (inputs.length === 0) throw new Error('the model has no input');
  checkNames(
    overrides,
    inputs.map(({ name }) => name),
    outputs.map(({ name }) => name),
  );
  const names = new Set(inputs.flatMap(({ shape = [] }) => shape.filter((dim) => typeof dim === 'string')));
  const known = inputs.map((input) => {
    const dtype = dtypeOf('input', input);
    const dims = (input.shape ?? []).map((dim, axis) => dimOf(dim, () => newName(`${input.name}_${axis}`, names)));
    const literal = overrides.constants[input.name];
    const isFilled = literal !== undefined && !Array.isArray(literal) && dims.some((dim) => typeof dim === 'string');
    const constant =
      literal === undefined ? null : constantOf(input.name, dtype, isFilled ? dims.map(() => 1) : dims, literal);
    return { name: input.name, dtype, dims, constant, isFilled };
  });
  if (known.every(({ constant }) => constant !== null))
    throw new Error('constants: all inputs have a constant value: at least one must be left for payloads');
  const answers = outputs.map((output) => ({
    name: output.name,
    isReturned: isReturned(overrides, output.name),
    dtype: isReturned(overrides, output.name) ? dtypeOf('output', output) : ((output.type ?? 'float32') as Dtype),
    dims:
      output.shape === undefined || output.shape.length === 0 ? null : output.shape.map((dim) => dimOf(dim, () => '')),
  }));
  if (!answers.some((output) => output.isReturned))
    throw new Error('outputs: none of them is returned: a reply needs at least one');
  return { inputs: fixedByConstants(known), outputs: answers };
}

/** What exporters write where there is no name. */
const noName = /^(|\?|none|-1|unk__\d+)$/i;

export const isNamed = (dim: string): boolean => !noName.test(dim);

function dimOf(dim: number | string, named: () => string): Dim {
  if (typeof dim === 'number' && dim >= 0) return dim;
  return typeof dim === 'string' && isNamed(dim) ? dim : named();
}

function newName(wanted: string, names: Set<string>): string {
  while (names.has(wanted)) wanted += '_';
  names.add(wanted);
  return wanted;
}

function dtypeOf(what: 'input' | 'output', { name, isTensor, type = 'none' }: TensorMetadata): Dtype | 'string' {
  if (!isTensor)
    throw new Error(
      `the ${what} ${name} is no tensor but a sequence or a map: export the model without it (skl2onnx: options={'zipmap': False})${what === 'output' ? ', or leave it out of models[].outputs' : ''}`,
    );
  if (type === 'string' || isDtype(type)) return type;
  throw new Error(
    `the ${what} ${name} has the dtype ${type}, which cannot be passed to ONNX Runtime from here: export it as one of ${Object.keys(dtypes).join(', ')} or string`,
  );
}

/** A dimension with the name of one of a constant has its size. */
function fixedByConstants(inputs: readonly ModelInput[]): readonly ModelInput[] {
  const sizes = new Map<string, number>();
  for (const { dims, constant, isFilled } of inputs)
    dims.forEach((dim, axis) => {
      if (typeof dim === 'string' && constant !== null && !isFilled) sizes.set(dim, constant.dims[axis] as number);
    });
  const fixed = (dim: Dim): Dim => (typeof dim === 'string' ? (sizes.get(dim) ?? dim) : dim);
  return inputs.map((input) => ({ ...input, dims: input.dims.map(fixed) }));
}

function constantOf(name: string, dtype: Dtype | 'string', dims: readonly Dim[], literal: Literal): Tensor {
  try {
    const shape = Array.isArray(literal) ? shapeOf(literal) : dims.map((dim) => (typeof dim === 'number' ? dim : 1));
    if (shape.length !== dims.length || dims.some((dim, i) => typeof dim === 'number' && dim !== shape[i]))
      throw new Error(`it has the shape [${shape}], and the model takes [${dims}]`);
    return tensorOf(literal, dtype, shape);
  } catch (error) {
    throw new Error(`constants.${name}: ${textOfThrown(error)}`);
  }
}
