// The data of a tensor in JSON: a flat list, or lists that are nested as its shape says. It goes straight into the memory
// that a model takes. Numbers are those that JSON.parse reads; whole numbers are exact in 64 bits.

import { type Dtype, typedView } from '../../../tensors/dtypes.js';
import { lengthBytes } from '../../../tensors/strings.js';
import { InvalidMessage } from '../../invalid-message.js';
import { datatypes } from '../datatypes.js';
import { type InferTensor, inputNamed, type TensorSpec } from '../infer.js';
import type { JsonReader } from './reader.js';

/** Reads the next value as the data of an input. Throws InvalidMessage. */
export function readData(reader: JsonReader, spec: TensorSpec): InferTensor {
  const { dtype, contents } = datatypes[spec.datatype];
  if (contents === 0 || dtype === null)
    throw new InvalidMessage(
      `${inputNamed(spec.name)} is ${spec.datatype}, which JSON cannot say: send it as binary data`,
    );
  const room = Math.min(spec.elements, mostElements(reader));
  const { take, finish } = dtype === 'string' ? texts(reader, spec, room) : numbers(reader, spec, dtype, room);
  if (spec.shape.length === 0 && !reader.isList) take(0);
  else readLists(reader, spec, take);
  const source = finish();
  return { spec, source, start: 0, end: source.length };
}

/** An element takes two bytes of JSON at least, so that a shape alone reserves nothing. */
const mostElements = (reader: JsonReader): number => ((reader.end - reader.at) >> 1) + 1;

/**
 * Reads the next value as the element with this index, and it may be some that follow in the same list; returns the index
 * after them. Elements beyond those that there is room for are read and dropped.
 */
type Take = (index: number) => number;

interface Elements {
  readonly take: Take;
  readonly finish: () => Buffer;
}

function readLists(reader: JsonReader, spec: TensorSpec, takeElement: Take): void {
  const { name, datatype, shape, elements } = spec;
  const what = `the data of ${inputNamed(name)}`;
  let index = 0;
  const take = (): void => {
    index = takeElement(index);
  };
  const readLevel = (level: number): void => {
    const before = index;
    const isInner = level === shape.length - 1;
    const lists = reader.list(what, isInner ? take : () => readLevel(level + 1));
    const found = isInner ? index - before : lists;
    if (found !== shape[level])
      throw new InvalidMessage(
        `${inputNamed(name)} should have ${shape[level]} elements along dimension ${level} of ${datatype}[${shape}], and has ${found} in a list of its data`,
      );
  };
  const from = reader.at;
  const isNested = shape.length > 1 && startsWithList(reader);
  reader.at = from;
  if (isNested) {
    readLevel(0);
    return;
  }
  reader.list(what, take);
  if (index !== elements)
    throw new InvalidMessage(
      `${inputNamed(name)} should have ${elements} elements for ${datatype}[${shape}], and has ${index} in its data`,
    );
}

/** Whether the next value is a list whose first element is a list. */
function startsWithList(reader: JsonReader): boolean {
  if (!reader.isList) return false;
  reader.at++;
  return reader.isList;
}

function wrong(reader: JsonReader, spec: TensorSpec, index: number, expected: string): InvalidMessage {
  const what = `element ${index} of ${inputNamed(spec.name)}`;
  const shown = reader.shown();
  if (!/^"-?(NaN|Inf)/.test(shown)) return reader.unexpected(what, expected);
  return new InvalidMessage(`${what} is ${shown}, which JSON does not have: send it as binary data`);
}

function numbers(reader: JsonReader, spec: TensorSpec, dtype: Dtype, room: number): Elements {
  const memory = new ArrayBuffer(room * datatypes[spec.datatype].bytes);
  const finish = (): Buffer => Buffer.from(memory);
  if (dtype === 'float32') return { take: float32s(reader, spec, new Float32Array(memory)), finish };
  if (dtype === 'float64') return { take: float64s(reader, spec, new Float64Array(memory)), finish };
  if (dtype === 'int64' || dtype === 'uint64')
    return { take: longIntegers(reader, spec, new Int32Array(memory), dtype === 'int64'), finish };
  if (dtype === 'bool') return { take: flags(reader, spec, new Uint8Array(memory)), finish };
  const viewOf = (buffer: ArrayBuffer, elements: number): Int32Array =>
    typedView(dtype, buffer, elements) as Int32Array;
  return { take: integers(reader, spec, viewOf(memory, room), viewOf(new ArrayBuffer(8), 1)), finish };
}

function readNumber(reader: JsonReader, spec: TensorSpec, index: number): void {
  if (!reader.isNumber) throw wrong(reader, spec, index, 'a number');
  reader.number();
}

/** Takes a number, and those that follow it. @param store takes the one that was read last */
function run(reader: JsonReader, spec: TensorSpec, store: (index: number) => void): Take {
  return (index) => {
    readNumber(reader, spec, index);
    store(index);
    for (index++; reader.nextNumber(); index++) {
      reader.number();
      store(index);
    }
    return index;
  };
}

function float32s(reader: JsonReader, spec: TensorSpec, into: Float32Array): Take {
  return run(reader, spec, (index) => {
    const value = reader.float32;
    if (!Number.isFinite(value)) throw outOfRange(reader, spec, index);
    into[index] = value;
  });
}

function float64s(reader: JsonReader, spec: TensorSpec, into: Float64Array): Take {
  const takeOnes = run(reader, spec, (index) => {
    const { value } = reader;
    if (!Number.isFinite(value)) throw outOfRange(reader, spec, index);
    into[index] = value;
  });
  // Where all 17 digits count, V8's own parser is quicker. It is tried until it fails: then this says what is wrong.
  let isTried = true;
  return (index) => {
    const values = isTried ? reader.numbersLeft() : null;
    if (values === null || values.length === 0) {
      isTried = false;
      return takeOnes(index);
    }
    for (const value of values) into[index++] = value;
    return index;
  };
}

/** Of 8 to 32 bits: a value that is in range is the same after it was stored. */
function integers(reader: JsonReader, spec: TensorSpec, into: Int32Array, probe: Int32Array): Take {
  return run(reader, spec, (index) => {
    const value = Number(wholeNumber(reader, spec, index));
    probe[0] = value;
    if (probe[0] !== value) throw outOfRange(reader, spec, index);
    into[index] = value;
  });
}

/** Of 64 bits, as two halves. */
function longIntegers(reader: JsonReader, spec: TensorSpec, into: Int32Array, isSigned: boolean): Take {
  const [min, max] = isSigned ? [-(2n ** 63n), 2n ** 63n - 1n] : [0n, 2n ** 64n - 1n];
  return run(reader, spec, (index) => {
    const value = wholeNumber(reader, spec, index);
    if (isSigned ? typeof value === 'bigint' && (value < min || value > max) : value < 0 || value > max)
      throw outOfRange(reader, spec, index);
    if (typeof value === 'number') {
      into[2 * index] = value % 0x1_0000_0000;
      into[2 * index + 1] = Math.floor(value / 0x1_0000_0000);
    } else {
      into[2 * index] = Number(BigInt.asIntN(32, value));
      into[2 * index + 1] = Number(BigInt.asIntN(32, value >> 32n));
    }
  });
}

function wholeNumber(reader: JsonReader, spec: TensorSpec, index: number): number | bigint {
  const value = reader.integer;
  if (value === null)
    throw new InvalidMessage(
      `element ${index} of ${inputNamed(spec.name)} should be a whole number for ${spec.datatype}, without fraction and exponent, and is ${reader.numberShown()}`,
    );
  return value;
}

/** As clients write them: true and false, or 1 and 0. */
function flags(reader: JsonReader, spec: TensorSpec, into: Uint8Array): Take {
  return (index) => {
    const word = reader.word();
    if (typeof word === 'boolean') {
      into[index] = word ? 1 : 0;
      return index + 1;
    }
    if (word === null || !reader.isNumber) throw wrong(reader, spec, index, 'true or false');
    reader.number();
    const value = reader.integer;
    if (value !== 0 && value !== 1) throw outOfRange(reader, spec, index);
    into[index] = value;
    return index + 1;
  };
}

function outOfRange(reader: JsonReader, spec: TensorSpec, index: number): InvalidMessage {
  return new InvalidMessage(
    `element ${index} of ${inputNamed(spec.name)} is ${reader.numberShown()}, which ${spec.datatype} does not have`,
  );
}

/** Each text behind its length. They grow as they come: how long they are, no shape says. */
function texts(reader: JsonReader, spec: TensorSpec, room: number): Elements {
  let bytes = Buffer.allocUnsafe(Math.min(256, 1 + lengthBytes * room));
  let at = 0;
  const take = (index: number): number => {
    if (!reader.isText) throw wrong(reader, spec, index, 'a text');
    const text = reader.text();
    if (index >= room) return index + 1;
    // A character takes three bytes of UTF-8 at the most.
    const needed = at + lengthBytes + 3 * text.length;
    if (needed > bytes.length) {
      const grown = Buffer.allocUnsafe(Math.max(needed, 2 * bytes.length));
      bytes.copy(grown, 0, 0, at);
      bytes = grown;
    }
    const length = bytes.write(text, at + lengthBytes);
    bytes.writeUInt32LE(length, at);
    at += lengthBytes + length;
    return index + 1;
  };
  return { take, finish: () => bytes.subarray(0, at) };
}
