// What config says of a model's tensors, where it says more than the model does. Plain data: it is sent to threads.

import type { Literal } from '../tensors/literal.js';
import type { BatchAxis } from './plan.js';

export interface InputOverride {
  readonly batchAxis?: BatchAxis;
  /**
   * A number is fixed; null, -1 and a name are dynamic. One dimension less than the input has: it is the shape of a row,
   * without the batch axis.
   */
  readonly shape?: readonly (number | string | null)[];
}

export interface OutputOverride {
  readonly batchAxis?: BatchAxis;
  readonly returned?: boolean;
}

/** Requests of differing lengths share a run: each is padded up to the next of the buckets. */
export interface PadSettings {
  /** The axis of the inputs, and of a request's tensor, along which requests differ. */
  readonly axis: number;
  readonly inputs: readonly string[];
  /** An input that the server makes: 1 for what is real, 0 for what is padding. It is not in the payload. */
  readonly mask?: string;
  /** Ascending. */
  readonly buckets: readonly number[];
  /** What is added; 0 by default. */
  readonly value?: number;
  /** The axis along which outputs are cut back, by their names. */
  readonly outputs: Readonly<Record<string, number>>;
}

export interface TensorOverrides {
  readonly inputs: Readonly<Record<string, InputOverride>>;
  /** The names of the outputs that are returned, or settings by name; empty: all are returned. */
  readonly outputs: readonly string[] | Readonly<Record<string, OutputOverride>>;
  /** Values of inputs that payloads leave out. */
  readonly constants: Readonly<Record<string, Literal>>;
  readonly pad: PadSettings | null;
}

export const noOverrides: TensorOverrides = { inputs: {}, outputs: {}, constants: {}, pad: null };

/** Throws Error, with the names that there are, when config names an input or an output that the model has not. */
export function checkNames(
  { inputs, outputs, constants, pad }: TensorOverrides,
  inputNames: readonly string[],
  outputNames: readonly string[],
): void {
  const check = (key: string, names: readonly string[], what: string, known: readonly string[]): void => {
    const unknown = names.find((name) => !known.includes(name));
    if (unknown !== undefined)
      throw new Error(`${key}: the model has no ${what} ${JSON.stringify(unknown)}: it has ${listed(known)}`);
  };
  check('inputs', Object.keys(inputs), 'input', inputNames);
  check('outputs', isList(outputs) ? outputs : Object.keys(outputs), 'output', outputNames);
  if (pad !== null) {
    check('pad.inputs', pad.inputs, 'input', inputNames);
    check('pad.mask', pad.mask === undefined ? [] : [pad.mask], 'input', inputNames);
    check('pad.outputs', Object.keys(pad.outputs), 'output', outputNames);
  }
  // With padding, the mask is a constant too.
  check('constants', Object.keys(constants), 'input', inputNames);
}

/** Whether config wants this output in replies. */
export function isReturned({ outputs }: Pick<TensorOverrides, 'outputs'>, name: string): boolean {
  if (isList(outputs)) return outputs.length === 0 || outputs.includes(name);
  return outputs[name]?.returned ?? true;
}

const isList = (outputs: TensorOverrides['outputs']): outputs is readonly string[] => Array.isArray(outputs);

/** A model may have hundreds of outputs. */
const mostListed = 20;

function listed(names: readonly string[]): string {
  const more = names.length - mostListed;
  return `${names.slice(0, mostListed).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
