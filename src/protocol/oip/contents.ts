// The typed form of a tensor's data in protobuf (InferTensorContents), as the bytes that all other forms have. Numbers of
// 32 and 64 bits that came as one packed field lie there as they should, and are not copied.

import { InvalidMessage } from '../invalid-message.js';
import { type WireReader, wireTypes } from '../protobuf/reader.js';
import { type DatatypeName, datatypes } from './datatypes.js';
import { type InferTensor, inputNamed, type TensorSpec } from './infer.js';

const fieldNames = [
  '',
  'bool_contents',
  'int_contents',
  'int64_contents',
  'uint_contents',
  'uint64_contents',
  'fp32_contents',
  'fp64_contents',
  'bytes_contents',
] as const;

/** The data of an input, from its contents `[start, end)` of what the reader reads. Throws InvalidMessage. */
export function readContents(reader: WireReader, start: number, end: number, spec: TensorSpec): InferTensor {
  const { contents, bytes } = datatypes[spec.datatype];
  if (contents === 0)
    throw new InvalidMessage(
      `${inputNamed(spec.name)} is ${spec.datatype}, which has no typed contents: send it in raw_input_contents`,
    );
  reader.goTo(start, end);
  if (contents === 8) return readTexts(reader, start, end, spec);
  if (contents === 6 || contents === 7) return readFloats(reader, spec, contents, bytes);
  return readIntegers(reader, end - start, spec, contents, bytes);
}

/** Moves to the next field with data of this kind; unknown fields are skipped. */
function nextData(reader: WireReader, spec: TensorSpec, field: number): boolean {
  while (reader.next()) {
    if (reader.field === field) return true;
    const other = fieldNames[reader.field];
    if (other !== undefined)
      throw new InvalidMessage(
        `${inputNamed(spec.name)} is ${spec.datatype}, whose contents are ${fieldNames[field]}, and has ${other}`,
      );
    reader.skip();
  }
  return false;
}

function readFloats(reader: WireReader, spec: TensorSpec, field: number, bytes: number): InferTensor {
  const { source } = reader;
  let packed = { start: 0, end: 0 };
  const pieces: { start: number; end: number }[] = [];
  while (nextData(reader, spec, field)) {
    const isPacked = reader.wireType === wireTypes.bytes;
    if (!isPacked) reader.expect(bytes === 4 ? wireTypes.fixed32 : wireTypes.fixed64);
    const length = isPacked ? reader.length() : bytes;
    if (length > reader.end - reader.at) reader.fail(`it ends within ${fieldNames[field]}`);
    if (length % bytes !== 0) reader.fail(`${fieldNames[field]} has ${length} bytes`);
    packed = { start: reader.at, end: reader.at + length };
    // Only what is left over of several pieces is worth a copy, and only as much as the shape takes.
    if (pieces.length <= spec.elements) pieces.push(packed);
    reader.at = packed.end;
  }
  if (pieces.length <= 1) {
    checkCount(spec, (packed.end - packed.start) / bytes, field);
    return { spec, source, start: packed.start, end: packed.end };
  }
  const joined = Buffer.concat(pieces.map(({ start, end }) => source.subarray(start, end)));
  checkCount(spec, joined.length / bytes, field);
  return { spec, source: joined, start: 0, end: joined.length };
}

function readIntegers(reader: WireReader, length: number, spec: TensorSpec, field: number, bytes: number): InferTensor {
  // An element takes a byte at least: a shape alone reserves nothing.
  const data = Buffer.allocUnsafe(Math.min(spec.elements, length) * bytes);
  let count = 0;
  const take = (): void => {
    reader.varint64();
    if (count < spec.elements) writeInteger(reader, data, count, spec, bytes);
    count++;
  };
  while (nextData(reader, spec, field)) {
    if (reader.wireType === wireTypes.bytes) {
      const outer = reader.enter();
      while (reader.at < reader.end) take();
      reader.end = outer;
    } else {
      reader.expect(wireTypes.varint);
      take();
    }
  }
  checkCount(spec, count, field);
  return { spec, source: data, start: 0, end: data.length };
}

/** Of those that travel as 32 bits and have fewer. */
const ranges: Readonly<Partial<Record<DatatypeName, readonly [number, number]>>> = {
  INT8: [-0x80, 0x7f],
  INT16: [-0x8000, 0x7fff],
  UINT8: [0, 0xff],
  UINT16: [0, 0xffff],
};

/** The varint that was read last, as element `index`. */
function writeInteger(reader: WireReader, data: Buffer, index: number, spec: TensorSpec, bytes: number): void {
  const { low, high } = reader;
  const at = index * bytes;
  const { datatype } = spec;
  if (bytes === 8) {
    data.writeInt32LE(low, at);
    data.writeInt32LE(high, at + 4);
  } else if (bytes === 4) data.writeInt32LE(low, at);
  else if (datatype === 'BOOL') data[at] = (low | high) === 0 ? 0 : 1;
  else {
    const [min, max] = ranges[datatype] as readonly [number, number];
    // As in protobuf itself, only 32 bits of it count.
    const value = min < 0 ? low : low >>> 0;
    if (value < min || value > max)
      throw new InvalidMessage(
        `element ${index} of ${inputNamed(spec.name)} is ${value}, and ${datatype} goes from ${min} to ${max}`,
      );
    data[at] = value;
    if (bytes === 2) data[at + 1] = value >> 8;
  }
}

function readTexts(reader: WireReader, start: number, end: number, spec: TensorSpec): InferTensor {
  const { source } = reader;
  let size = 0;
  let count = 0;
  while (nextData(reader, spec, 8)) {
    const length = reader.length();
    reader.at += length;
    size += 4 + length;
    count++;
  }
  checkCount(spec, count, 8);
  const data = Buffer.allocUnsafe(size);
  let at = 0;
  reader.goTo(start, end);
  while (nextData(reader, spec, 8)) {
    const length = reader.length();
    at = data.writeUInt32LE(length, at);
    at += source.copy(data, at, reader.at, reader.at + length);
    reader.at += length;
  }
  return { spec, source: data, start: 0, end: size };
}

function checkCount(spec: TensorSpec, count: number, field: number): void {
  if (count !== spec.elements)
    throw new InvalidMessage(
      `${inputNamed(spec.name)} should have ${spec.elements} elements for ${spec.datatype}[${spec.shape}], and has ${count} in ${fieldNames[field]}`,
    );
}
