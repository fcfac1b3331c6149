// The .proto files of the package as protobufjs reads them, and what it makes of bytes: the other opinion on our codecs.

import protobuf from 'protobufjs';
import type { Field, Fields, MessageType, Type } from '#src/protocol/protobuf/messages.js';
import { root as repository } from './processes.js';

export const protoRoot = new protobuf.Root();
protoRoot.resolvePath = (_, file) => `${repository}src/protocol/proto/${file}`;
protoRoot.loadSync(['inference.proto', 'mltcp.proto', 'health.proto', 'reflection.proto'], { keepCase: true });
protoRoot.resolveAll();

export type Plain = Readonly<Record<string, unknown>>;

/** A message as protobufjs writes it. */
export function encodeByOthers(name: string, value: Plain): Buffer {
  const type = protoRoot.lookupType(name);
  return Buffer.from(type.encode(type.fromObject(value)).finish());
}

/** A message as protobufjs reads it: 64-bit integers as text, enums by name, and no members that are not there. */
export function decodeByOthers(name: string, bytes: Uint8Array): Plain {
  const type = protoRoot.lookupType(name);
  const value = type.toObject(type.decode(bytes), { longs: String, enums: String, defaults: true });
  return normal(value) as Plain;
}

/** Without members that are not there, integers of 64 bits as text, bytes as buffers: as `decodeByOthers` has it. */
export function normalOf<F extends Fields>(type: MessageType<F>, value: object): Plain {
  const given = value as Plain;
  return Object.fromEntries(
    Object.entries(type.fields).flatMap(([name, field]) =>
      given[name] === undefined ? [] : [[name, normalField(field, given[name])]],
    ),
  );
}

function normalField({ type, cardinality }: Field, value: unknown): unknown {
  if (cardinality === 'many') return (value as unknown[]).map((one) => normalValue(type, one));
  if (cardinality !== 'map') return normalValue(type, value);
  return Object.fromEntries(Object.entries(value as Plain).map(([key, one]) => [key, normalValue(type, one)]));
}

function normalValue(type: Type, value: unknown): unknown {
  if (type === 'int64' || type === 'uint64') return String(value);
  if (typeof type === 'object' && 'fields' in type) return normalOf(type, value as object);
  return normal(value);
}

function normal(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (Array.isArray(value)) return value.map(normal);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).flatMap(([key, one]) => (one === null ? [] : [[key, normal(one)]])));
}
