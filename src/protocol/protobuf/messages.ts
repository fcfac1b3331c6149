// A codec for messages that are rare: it walks a description of the message, which is data. Values are plain objects
// whose keys are the names in the .proto file; enums are the names of their values. So they are as well what the HTTP API
// answers as JSON.

import { InvalidMessage } from '../invalid-message.js';
import { WireReader, wireTypes } from './reader.js';
import { WireWriter } from './writer.js';

export type ScalarType = 'string' | 'bytes' | 'bool' | 'int32' | 'uint32' | 'int64' | 'uint64' | 'float' | 'double';

export interface EnumType {
  readonly enum: Readonly<Record<string, number>>;
}

export interface MessageType<F extends Fields = Fields> {
  /** As in the .proto file, with its package. */
  readonly name: string;
  readonly fields: F;
}

export type Type = ScalarType | EnumType | MessageType;

/**
 * plain: the default value is not sent. optional: sent whenever it is set, as messages and members of a oneof are. many:
 * repeated. map: with texts as keys.
 */
type Cardinality = 'plain' | 'optional' | 'many' | 'map';

export interface Field<T extends Type = Type, C extends Cardinality = Cardinality> {
  readonly number: number;
  readonly type: T;
  readonly cardinality: C;
  /** Of the fields of one message with the same name here, at most one is set. */
  readonly oneof?: string;
}

export type Fields = Readonly<Record<string, Field>>;

type Single<T extends Type> = T extends 'string'
  ? string
  : T extends 'bytes'
    ? Uint8Array
    : T extends 'bool'
      ? boolean
      : T extends 'int64' | 'uint64'
        ? number | bigint
        : T extends ScalarType
          ? number
          : T extends { readonly enum: infer E }
            ? keyof E
            : T extends MessageType<infer F>
              ? Value<F>
              : never;

type ValueOf<F> =
  F extends Field<infer T, infer C>
    ? C extends 'many'
      ? readonly Single<T>[]
      : C extends 'map'
        ? Readonly<Record<string, Single<T>>>
        : Single<T>
    : never;

/** A message: what is left out has its default value, or is not there. */
export type Value<F extends Fields> = { readonly [N in keyof F]?: ValueOf<F[N]> };

type IsOptional<F> = F extends Field<Type, 'optional'> ? true : false;

/** A message that was decoded: only what is optional may be missing. */
export type Decoded<F extends Fields> = {
  readonly [N in keyof F as IsOptional<F[N]> extends true ? never : N]: DecodedOf<F[N]>;
} & { readonly [N in keyof F as IsOptional<F[N]> extends true ? N : never]?: DecodedOf<F[N]> };

type DecodedSingle<T extends Type> = T extends MessageType<infer F> ? Decoded<F> : Single<T>;

type DecodedOf<F> =
  F extends Field<infer T, infer C>
    ? C extends 'many'
      ? readonly DecodedSingle<T>[]
      : C extends 'map'
        ? Readonly<Record<string, DecodedSingle<T>>>
        : DecodedSingle<T>
    : never;

export const message = <const F extends Fields>(name: string, fields: F): MessageType<F> => ({ name, fields });
export const plain = <const T extends ScalarType | EnumType>(number: number, type: T): Field<T, 'plain'> => ({
  number,
  type,
  cardinality: 'plain',
});
export const optional = <const T extends Type>(number: number, type: T): Field<T, 'optional'> => ({
  number,
  type,
  cardinality: 'optional',
});
export const oneof = <const T extends Type>(name: string, number: number, type: T): Field<T, 'optional'> => ({
  number,
  type,
  cardinality: 'optional',
  oneof: name,
});
export const many = <const T extends Type>(number: number, type: T): Field<T, 'many'> => ({
  number,
  type,
  cardinality: 'many',
});
export const map = <const T extends Type>(number: number, type: T): Field<T, 'map'> => ({
  number,
  type,
  cardinality: 'map',
});

/** Messages with more fields, or more numbers in one, are refused: empty elements take far more memory than bytes. */
const maxFields = 65_536;

export function encode<F extends Fields>(type: MessageType<F>, value: Value<F>): Buffer {
  const writer = new WireWriter();
  for (const [name, field] of Object.entries(type.fields)) {
    const given = (value as Readonly<Record<string, unknown>>)[name];
    if (given !== undefined) writeField(writer, field, given);
  }
  return writer.finish();
}

function writeField(writer: WireWriter, field: Field, given: unknown): void {
  const { number, type, cardinality } = field;
  if (cardinality === 'map') {
    for (const [key, value] of Object.entries(given as Readonly<Record<string, unknown>>)) {
      const entry = new WireWriter();
      writeOne(entry, 1, 'string', key);
      writeOne(entry, 2, type, value);
      writer.tag(number, wireTypes.bytes);
      writer.bytes(entry.finish());
    }
  } else if (cardinality === 'many') writeMany(writer, number, type, given as readonly unknown[]);
  else if (cardinality === 'optional' || !isDefault(type, given)) writeOne(writer, number, type, given);
}

function writeMany(writer: WireWriter, number: number, type: Type, values: readonly unknown[]): void {
  if (!isPackable(type)) {
    for (const value of values) writeOne(writer, number, type, value);
    return;
  }
  if (values.length === 0) return;
  const packed = new WireWriter();
  for (const value of values) writeContent(packed, type, value);
  writer.tag(number, wireTypes.bytes);
  writer.bytes(packed.finish());
}

function writeOne(writer: WireWriter, number: number, type: Type, value: unknown): void {
  writer.tag(number, wireTypeOf(type));
  writeContent(writer, type, value);
}

function writeContent(writer: WireWriter, type: Type, value: unknown): void {
  if (typeof type === 'object') {
    if ('enum' in type) writer.varint(type.enum[value as string] as number);
    else writer.bytes(encode(type, value as Value<Fields>));
    return;
  }
  switch (type) {
    case 'string':
      writer.text(value as string);
      return;
    case 'bytes':
      writer.bytes(value as Uint8Array);
      return;
    case 'bool':
      writer.varint(value === true ? 1 : 0);
      return;
    case 'float':
      writer.float(value as number);
      return;
    case 'double':
      writer.double(value as number);
      return;
    default:
      writer.varint(value as number | bigint);
  }
}

function wireTypeOf(type: Type): number {
  if (typeof type === 'object') return 'enum' in type ? wireTypes.varint : wireTypes.bytes;
  if (type === 'string' || type === 'bytes') return wireTypes.bytes;
  if (type === 'float') return wireTypes.fixed32;
  return type === 'double' ? wireTypes.fixed64 : wireTypes.varint;
}

const isPackable = (type: Type): boolean => wireTypeOf(type) !== wireTypes.bytes;

function isDefault(type: Type, value: unknown): boolean {
  if (typeof type === 'object') return 'enum' in type && type.enum[value as string] === 0;
  if (type === 'bytes') return (value as Uint8Array).length === 0;
  // Of the zeros, the one below 0 is sent.
  return value === '' || value === false || value === 0n || Object.is(value, 0);
}

/** Reads the message `source[start, end)`; bytes in it are views of `source`. Throws InvalidMessage, and nothing else. */
export function decode<F extends Fields>(
  type: MessageType<F>,
  source: Buffer,
  start = 0,
  end: number = source.length,
): Decoded<F> {
  const reader = new WireReader();
  reader.open(source, start, end);
  return readMessage(reader, type, {}) as Decoded<F>;
}

type Draft = Record<string, unknown>;

/** The fields of a description by number. */
const known = new WeakMap<MessageType, ReadonlyMap<number, readonly [string, Field]>>();

function byNumber(type: MessageType): ReadonlyMap<number, readonly [string, Field]> {
  let fields = known.get(type);
  if (fields === undefined) {
    fields = new Map(Object.entries(type.fields).map((entry) => [entry[1].number, entry]));
    known.set(type, fields);
  }
  return fields;
}

/** Reads up to the end of the message. @param into what was read of the same message before, which is added to */
function readMessage(reader: WireReader, type: MessageType, into: Draft): Draft {
  for (const [name, field] of Object.entries(type.fields)) {
    const { cardinality } = field;
    if (cardinality !== 'optional') into[name] ??= emptyOf(field);
  }
  const fields = byNumber(type);
  for (let count = 0; reader.next(); count++) {
    if (count === maxFields) reader.fail(`a message has more than ${maxFields} fields`);
    const found = fields.get(reader.field);
    if (found === undefined) reader.skip();
    else {
      if (found[1].oneof !== undefined) clearOthers(type, found[0], found[1].oneof, into);
      readField(reader, found[0], found[1], into);
    }
  }
  return into;
}

function clearOthers(type: MessageType, name: string, oneofName: string, into: Draft): void {
  for (const [other, field] of Object.entries(type.fields))
    if (field.oneof === oneofName && other !== name) delete into[other];
}

function emptyOf({ type, cardinality }: Field): unknown {
  if (cardinality === 'many') return [];
  // Without a prototype: keys are a client's.
  if (cardinality === 'map') return Object.create(null);
  return defaultOf(type);
}

function defaultOf(type: Type): unknown {
  if (typeof type === 'object') return 'enum' in type ? nameIn(type, 0) : readMessage(new WireReader(), type, {});
  if (type === 'string') return '';
  if (type === 'bytes') return Buffer.alloc(0);
  return type === 'bool' ? false : 0;
}

function readField(reader: WireReader, name: string, field: Field, into: Draft): void {
  const { type, cardinality } = field;
  if (cardinality === 'many') {
    const list = into[name] as unknown[];
    if (reader.wireType === wireTypes.bytes && isPackable(type)) {
      const outer = reader.enter();
      while (reader.at < reader.end) push(reader, list, readContent(reader, type));
      reader.end = outer;
    } else {
      reader.expect(wireTypeOf(type));
      push(reader, list, readContent(reader, type));
    }
  } else if (cardinality === 'map') readEntry(reader, type, into[name] as Draft);
  else {
    reader.expect(wireTypeOf(type));
    // A message that comes in several parts is all of them together.
    into[name] = readContent(reader, type, into[name] as Draft | undefined);
  }
}

function push(reader: WireReader, list: unknown[], value: unknown): void {
  if (list.length === maxFields) reader.fail(`field ${reader.field} has more than ${maxFields} elements`);
  list.push(value);
}

function readEntry(reader: WireReader, type: Type, into: Draft): void {
  const outer = reader.enter();
  let key = '';
  let value: unknown;
  while (reader.next()) {
    if (reader.field === 1) key = reader.text();
    else if (reader.field === 2) {
      reader.expect(wireTypeOf(type));
      value = readContent(reader, type, value as Draft | undefined);
    } else reader.skip();
  }
  reader.end = outer;
  into[key] = value ?? defaultOf(type);
}

function readContent(reader: WireReader, type: Type, before?: Draft): unknown {
  if (typeof type === 'object') {
    if ('enum' in type) {
      reader.varint64();
      return nameIn(type, reader.low);
    }
    const outer = reader.enter();
    const value = readMessage(reader, type, before ?? {});
    reader.end = outer;
    return value;
  }
  const { source } = reader;
  switch (type) {
    case 'string':
      return reader.text();
    case 'bytes': {
      const length = reader.length();
      reader.at += length;
      return source.subarray(reader.at - length, reader.at);
    }
    case 'float':
      reader.move(4);
      return source.readFloatLE(reader.at - 4);
    case 'double':
      reader.move(8);
      return source.readDoubleLE(reader.at - 8);
    case 'bool':
      reader.varint64();
      return (reader.low | reader.high) !== 0;
    case 'int32':
      reader.varint64();
      return reader.low;
    case 'uint32':
      reader.varint64();
      return reader.low >>> 0;
    default:
      return reader.integer(type === 'int64');
  }
}

/** The name of a value of an enum. Throws InvalidMessage when it has none: a newer client means something by it. */
function nameIn(type: EnumType, value: number): string {
  const found = Object.keys(type.enum).find((name) => type.enum[name] === value);
  if (found === undefined) throw new InvalidMessage(`an enum has no value ${value}`);
  return found;
}
