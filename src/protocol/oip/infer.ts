// What is asked of a model and what it answers, however it travels: protobuf in frames or over gRPC, JSON, or JSON with
// binary tensors. The bytes of tensors are alike in all of them: C order, little-endian, each string with its length in
// front (32 bits), as payloads of raw frames have them.

import { lengthBytes } from '../../tensors/strings.js';
import { InvalidMessage, quoted } from '../invalid-message.js';
import { type DatatypeName, datatypes, isDatatype } from './datatypes.js';

/** A tensor without its data. Decoders give the same object again for a tensor that looks as in the last request. */
export interface TensorSpec {
  readonly name: string;
  readonly datatype: DatatypeName;
  readonly shape: readonly number[];
  readonly elements: number;
}

/** A tensor whose bytes are `source[start, end)`: a view into a message, valid as long as that is. */
export interface InferTensor {
  readonly spec: TensorSpec;
  readonly source: Uint8Array;
  readonly start: number;
  readonly end: number;
}

export interface WantedOutput {
  readonly name: string;
  /** Whether a JSON answer has it in binary form. */
  readonly isBinary: boolean;
}

/** Which sequence of requests a request belongs to. */
export interface Sequence {
  /** A bigint and a text are never the same sequence. */
  readonly id: bigint | string;
  readonly isStart: boolean;
  readonly isEnd: boolean;
}

export interface InferCall {
  /** Empty: the default model. */
  readonly model: string;
  /** Empty: whichever the server chooses. */
  readonly version: string;
  /** The client's own; the answer repeats it. */
  readonly id: string;
  /** The time in which it is wanted, in microseconds; 0: no such time. */
  readonly timeoutUs: number;
  /** 0: that of the model. */
  readonly priority: number;
  readonly sequence: Sequence | null;
  /** Whether a stream ends its answers to a request with one that is marked as the last. */
  readonly wantsFinalResponse: boolean;
  /** Each name once. */
  readonly inputs: readonly InferTensor[];
  /** Each name once; empty: all that the model has. */
  readonly outputs: readonly WantedOutput[];
  /** Whether a JSON answer has those in binary form that `outputs` does not name. */
  readonly isBinary: boolean;
}

export type ParameterValue = boolean | number | bigint | string;

export interface InferAnswer {
  readonly model: string;
  readonly version: string;
  readonly id: string;
  readonly outputs: readonly InferTensor[];
  /** A whole number travels as one. */
  readonly parameters?: Readonly<Record<string, ParameterValue>>;
}

/** More than any model has: a message of empty tensors would otherwise take far more memory than it has bytes. */
export const maxTensors = 1024;
/** NumPy has no more, and no runtime takes more. */
export const maxRank = 64;

/** Throws InvalidMessage. */
export function checkCount(count: number, what: string): void {
  if (count >= maxTensors) throw new InvalidMessage(`there are more than ${maxTensors} ${what}`);
}

/** For messages. */
export const inputNamed = (name: string): string => `input ${quoted(name)}`;

/** An input as a client says it. Throws InvalidMessage. */
export function inputSpec(name: string, datatype: string, shape: readonly number[]): TensorSpec {
  if (!isDatatype(datatype))
    throw new InvalidMessage(
      `${inputNamed(name)} has the datatype ${quoted(datatype)}, which is none of ${Object.keys(datatypes).join(', ')}`,
    );
  if (shape.some((size) => size < 0))
    throw new InvalidMessage(`${inputNamed(name)} has the shape [${shape}], and each size must be 0 or more`);
  return tensorSpec(name, datatype, shape, inputNamed(name));
}

/** Throws InvalidMessage when there are too many elements. */
export function tensorSpec(
  name: string,
  datatype: DatatypeName,
  shape: readonly number[],
  what: string = quoted(name),
): TensorSpec {
  // Sizes of 0 are left out at first: with one of them, the others still have to be counted without losing exactness.
  const elements = shape.reduce((product, size) => product * (size || 1), 1);
  if (elements > Number.MAX_SAFE_INTEGER)
    throw new InvalidMessage(`${what} has the shape [${shape}], which has more elements than any message holds`);
  return { name, datatype, shape, elements: shape.includes(0) ? 0 : elements };
}

/** Throws InvalidMessage unless the bytes of a tensor are as many as its shape takes, and its strings end where they should. */
export function checkData(tensor: InferTensor): void {
  const { spec, start, end } = tensor;
  const { bytes } = datatypes[spec.datatype];
  if (bytes === 0) checkStrings(tensor);
  else if (end - start !== spec.elements * bytes)
    throw new InvalidMessage(
      `${inputNamed(spec.name)} should have ${spec.elements * bytes} bytes for ${spec.datatype}[${spec.shape}], and has ${end - start}`,
    );
}

function checkStrings({ spec, source, start, end }: InferTensor): void {
  const { elements } = spec;
  const what = inputNamed(spec.name);
  let at = start;
  let found = 0;
  for (; found < elements && at + lengthBytes <= end; found++) {
    const [a, b, c, d] = [source[at], source[at + 1], source[at + 2], source[at + 3]] as [
      number,
      number,
      number,
      number,
    ];
    const length = a + b * 0x100 + c * 0x1_0000 + d * 0x100_0000;
    at += lengthBytes;
    if (length > end - at)
      throw new InvalidMessage(`element ${found} of ${what} should have ${length} bytes, and ${end - at} are left`);
    at += length;
  }
  if (found < elements || at < end)
    throw new InvalidMessage(
      `${what} should have ${elements} strings for BYTES[${spec.shape}], each behind its length in 4 bytes; ${found < elements ? `${found} are there` : `${end - at} bytes are left`}`,
    );
}

const few = 8;

/** Throws InvalidMessage when two have the same name. @param what they are: inputs, outputs */
export function checkNames<T>(items: readonly T[], nameOf: (item: T) => string, what: string): void {
  if (items.length < 2) return;
  const twice = items.length <= few ? firstOfFew(items, nameOf) : firstOfMany(items, nameOf);
  if (twice !== null) throw new InvalidMessage(`two ${what} have the name ${quoted(twice)}`);
}

function firstOfFew<T>(items: readonly T[], nameOf: (item: T) => string): string | null {
  for (let i = 1; i < items.length; i++) {
    const name = nameOf(items[i] as T);
    for (let k = 0; k < i; k++) if (nameOf(items[k] as T) === name) return name;
  }
  return null;
}

function firstOfMany<T>(items: readonly T[], nameOf: (item: T) => string): string | null {
  const names = new Set<string>();
  for (const item of items) {
    const name = nameOf(item);
    if (names.has(name)) return name;
    names.add(name);
  }
  return null;
}
