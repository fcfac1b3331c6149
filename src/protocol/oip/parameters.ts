// A parameter as an entry of a protobuf map: its key, and an InferParameter that is one of five kinds.

import { type WireReader, wireTypes } from '../protobuf/reader.js';
import type { ParameterValue } from './infer.js';

export interface Parameter {
  readonly name: string;
  readonly value: ParameterValue;
}

/** Reads the entry that the reader has entered, up to its end. Throws InvalidMessage. */
export function readParameter(reader: WireReader): Parameter {
  let name = '';
  let value: ParameterValue = '';
  while (reader.next()) {
    if (reader.field === 1) name = reader.text();
    else if (reader.field === 2) {
      const outer = reader.enter();
      value = readValue(reader, value);
      reader.end = outer;
    } else reader.skip();
  }
  return { name, value };
}

function readValue(reader: WireReader, before: ParameterValue): ParameterValue {
  let value = before;
  while (reader.next()) {
    if (reader.field === 1) {
      reader.expect(wireTypes.varint);
      reader.varint64();
      value = (reader.low | reader.high) !== 0;
    } else if (reader.field === 2) {
      reader.expect(wireTypes.varint);
      value = reader.integer(true);
    } else if (reader.field === 3) value = reader.text();
    else if (reader.field === 4) {
      reader.expect(wireTypes.fixed64);
      const { at } = reader;
      reader.move(8);
      value = reader.source.readDoubleLE(at);
    } else if (reader.field === 5) {
      reader.expect(wireTypes.varint);
      value = reader.integer(false);
    } else reader.skip();
  }
  return value;
}
