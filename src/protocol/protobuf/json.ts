// A message that is described as data, as JSON: all fields that are always there, with their default values, so that
// clients need not know these; and whole numbers in full, however large.

import type { Fields, MessageType, Type, Value } from './messages.js';

export function jsonOf<F extends Fields>(type: MessageType<F>, value: Value<F>): string {
  const given = value as Readonly<Record<string, unknown>>;
  const members: string[] = [];
  for (const [name, { type: inner, cardinality }] of Object.entries(type.fields)) {
    const member = given[name];
    const key = `${JSON.stringify(name)}:`;
    if (cardinality === 'many')
      members.push(`${key}[${((member ?? []) as readonly unknown[]).map((item) => oneAsJson(inner, item)).join(',')}]`);
    else if (cardinality === 'map') {
      const entries = Object.entries((member ?? {}) as Readonly<Record<string, unknown>>);
      members.push(`${key}{${entries.map(([k, item]) => `${JSON.stringify(k)}:${oneAsJson(inner, item)}`).join(',')}}`);
    } else if (member !== undefined) members.push(key + oneAsJson(inner, member));
    else if (cardinality === 'plain') members.push(key + defaultAsJson(inner));
  }
  return `{${members.join(',')}}`;
}

function oneAsJson(type: Type, value: unknown): string {
  if (typeof type === 'object' && 'fields' in type) return jsonOf(type, value as Value<Fields>);
  if (typeof value === 'bigint') return String(value);
  if (value instanceof Uint8Array) return JSON.stringify(Buffer.from(value).toString('base64'));
  return JSON.stringify(value);
}

function defaultAsJson(type: Type): string {
  if (typeof type === 'object') return 'enum' in type ? JSON.stringify(Object.keys(type.enum)[0]) : '{}';
  if (type === 'bool') return 'false';
  return type === 'string' || type === 'bytes' ? '""' : '0';
}
