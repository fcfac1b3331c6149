import { expect } from 'chai';
import fc from 'fast-check';
import protobuf from 'protobufjs';
import * as calls from '#src/protocol/calls/messages.js';
import { InvalidMessage } from '#src/protocol/invalid-message.js';
import * as oip from '#src/protocol/oip/messages.js';
import {
  decode,
  encode,
  type Field,
  type MessageType,
  many,
  message,
  optional,
  type Type,
} from '#src/protocol/protobuf/messages.js';
import { WireReader } from '#src/protocol/protobuf/reader.js';
import { varintBytes, WireWriter, writeVarint } from '#src/protocol/protobuf/writer.js';
import * as reflection from '#src/protocol/reflection/messages.js';
import { damaged, damages, unknownFields } from '../../support/bytes.js';
import { decodeByOthers, encodeByOthers, normalOf, protoRoot } from '../../support/protos.js';

const isMessage = (one: unknown): one is MessageType => typeof one === 'object' && one !== null && 'fields' in one;

/** These, and all that they hold. */
function withInner(types: readonly MessageType[], known = new Map<string, MessageType>()): readonly MessageType[] {
  for (const type of types) {
    if (known.has(type.name)) continue;
    known.set(type.name, type);
    withInner(
      Object.values(type.fields)
        .map((field) => field.type)
        .filter(isMessage),
      known,
    );
  }
  return [...known.values()];
}
const described = withInner([oip, calls, reflection].flatMap((all) => Object.values(all)).filter(isMessage));

const texts = fc.string({ unit: 'grapheme', maxLength: 12 });
const safe = fc.maxSafeInteger();
const scalars = {
  string: texts,
  bytes: fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes)),
  bool: fc.boolean(),
  int32: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
  uint32: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  int64: fc.oneof(safe, fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
  uint64: fc.oneof(safe.map(Math.abs), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
  float: fc.float(),
  double: fc.double(),
} as const;

function valuesOf(type: Type): fc.Arbitrary<unknown> {
  if (typeof type === 'string') return scalars[type];
  if ('enum' in type) return fc.constantFrom(...Object.keys(type.enum));
  const members = Object.entries(type.fields).map(([name, field]) =>
    fc.option(fieldValues(field), { nil: undefined }).map((value) => [name, value] as const),
  );
  return fc.tuple(...members).map((entries) => {
    // Of a oneof, the last that is set.
    const kept = entries.filter(([name, value], i) => {
      const group = type.fields[name]?.oneof;
      const isLater = ([other, set]: readonly [string, unknown]): boolean =>
        set !== undefined && group !== undefined && type.fields[other]?.oneof === group;
      return value !== undefined && !entries.slice(i + 1).some(isLater);
    });
    return Object.fromEntries(kept);
  });
}

function fieldValues({ type, cardinality }: Field): fc.Arbitrary<unknown> {
  if (cardinality === 'many') return fc.array(valuesOf(type), { maxLength: 3 });
  if (cardinality === 'map') return fc.dictionary(texts, valuesOf(type), { maxKeys: 3, noNullPrototype: true });
  return valuesOf(type);
}

/** For protobufjs, which takes integers of 64 bits as text. */
function forOthers(value: unknown): unknown {
  if (typeof value === 'bigint') return String(value);
  if (Array.isArray(value)) return value.map(forOthers);
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, forOthers(one)]));
}

const read = (type: MessageType, bytes: Buffer): unknown => normalOf(type, decode(type, bytes));
const refusal = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    if (error instanceof InvalidMessage) return error.message;
    throw error;
  }
  return 'it was read';
};

describe('messages of Protocol Buffers', () => {
  it('are described as the .proto files of the package say', () => {
    const ofFiles = (type: protobuf.ReflectionObject): readonly protobuf.Type[] => [
      ...(type instanceof protobuf.Type ? [type] : []),
      ...(type instanceof protobuf.Namespace ? type.nestedArray.flatMap(ofFiles) : []),
    ];
    const inFiles = ofFiles(protoRoot).map((type) => ({
      name: type.fullName.slice(1),
      fields: type.fieldsArray.map((field) => ({
        name: field.name,
        number: field.id,
        type:
          field.resolvedType instanceof protobuf.Enum
            ? { ...field.resolvedType.values }
            : (field.resolvedType?.fullName.slice(1) ?? field.type),
        isMany: field.repeated,
        isMap: field.map,
        oneof: field.partOf?.name,
      })),
    }));
    const inCode = described.map(({ name, fields }) => ({
      name,
      fields: Object.entries(fields).map(([fieldName, { number, type, cardinality, oneof }]) => ({
        name: fieldName,
        number,
        type: typeof type === 'string' ? type : 'enum' in type ? type.enum : type.name,
        isMany: cardinality === 'many',
        isMap: cardinality === 'map',
        oneof,
      })),
    }));
    expect(inCode.map(({ name }) => name).toSorted()).to.deep.equal(inFiles.map(({ name }) => name).toSorted());
    const files = new Map(inFiles.map((one) => [one.name, one]));
    for (const one of inCode) expect(one, one.name).to.deep.equal(files.get(one.name));
    expect(inCode).to.have.length.greaterThan(40);
  });

  it('are written so that protobufjs reads what was meant, and read as it writes them', () => {
    for (const type of described) {
      fc.assert(
        fc.property(valuesOf(type), (value) => {
          const bytes = encode(type, value as object);
          const meant = read(type, bytes);
          expect(decodeByOthers(type.name, bytes)).to.deep.equal(meant);
          expect(read(type, encodeByOthers(type.name, forOthers(value) as object as never))).to.deep.equal(meant);
        }),
        { numRuns: 30 },
      );
    }
  });

  it('are read whatever unknown fields they have as well', () => {
    const types = described.filter(({ fields }) => Object.keys(fields).length > 0);
    fc.assert(
      fc.property(
        fc.constantFrom(...types).chain((type) => fc.tuple(fc.constant(type), valuesOf(type), valuesOf(type))),
        unknownFields,
        ([type, value, more], unknown) => {
          const bytes = Buffer.concat([
            unknown,
            encode(type, value as object),
            unknown,
            encode(type, more as object),
            unknown,
          ]);
          expect(read(type, bytes)).to.deep.equal(decodeByOthers(type.name, bytes));
        },
      ),
      { numRuns: 300 },
    );
  });

  it('that are damaged are refused, or read as protobufjs reads them', () => {
    let readable = 0;
    for (const type of described.filter(({ fields }) => Object.keys(fields).length > 0)) {
      fc.assert(
        fc.property(valuesOf(type), damages, (value, all) => {
          const bytes = damaged(encode(type, value as object), all);
          let ours: unknown;
          try {
            ours = read(type, bytes);
          } catch (error) {
            expect(error).to.be.instanceOf(InvalidMessage);
            return;
          }
          readable++;
          expect(ours).to.deep.equal(decodeByOthers(type.name, bytes));
        }),
        { numRuns: 30 },
      );
    }
    expect(readable).to.be.greaterThan(100);
  });

  it('are read when a field comes again: numbers last, messages together, of a oneof the last', () => {
    const inner = message('inner', { a: many(1, 'int32'), b: optional(2, 'string') });
    const outer = message('outer', { inner: optional(1, inner), n: optional(2, 'int64') });
    const twice = Buffer.concat([
      encode(outer, { inner: { a: [1], b: 'x' }, n: 1 }),
      encode(outer, { inner: { a: [2] }, n: 2n ** 62n }),
    ]);
    expect(decode(outer, twice)).to.deep.equal({ inner: { a: [1, 2], b: 'x' }, n: 2n ** 62n });
    const body = Buffer.concat([encode(calls.call, { ping: {} }), encode(calls.call, { cancel: {} })]);
    expect(decode(calls.call, body)).to.deep.equal({ call: 0, timeout_us: 0, secret: '', cancel: {} });
  });

  it('are refused with what is wrong, and where', () => {
    const refused = (hex: string): string => refusal(() => decode(oip.serverMetadataResponse, Buffer.from(hex, 'hex')));
    expect(refused('0a')).to.equal('it ends within a number (byte 1 of the message)');
    expect(refused('0a05616263')).to.equal('5 bytes should follow, and there are 3 (byte 2 of the message)');
    expect(refused('0affffffffffffffffff01')).to.equal(
      '18446744073709552000 bytes should follow, and there are 0 (byte 11 of the message)',
    );
    expect(refused('0a02c328')).to.equal('a text is not UTF-8 (byte 2 of the message)');
    expect(refused('0801')).to.equal('field 1 has wire type 0, not 2 (byte 1 of the message)');
    expect(refused('2bac')).to.equal('a field is a group, or nothing known (byte 1 of the message)');
    expect(refused('0001')).to.equal('no field has the number 0 (byte 0 of the message)');
    expect(refused('30ffffffffffffffffffff01')).to.equal('a number has more than 10 bytes (byte 1 of the message)');
    expect(refused('25010203')).to.equal('4 bytes should follow, and there are 3 (byte 1 of the message)');
    expect(refusal(() => decode(oip.healthCheckResponse, Buffer.of(8, 99)))).to.equal('an enum has no value 99');
  });

  it('take no more memory than their bytes allow', () => {
    const empty = Buffer.alloc(400_000, Buffer.of(0x22, 0));
    expect(refusal(() => decode(oip.modelMetadataResponse, empty))).to.match(/^a message has more than 65536 fields/);
    const numbers = message('numbers', { n: many(1, 'int32') });
    const packed = new WireWriter();
    packed.tag(1, 2);
    packed.bytes(Buffer.alloc(70_000));
    expect(refusal(() => decode(numbers, packed.finish()))).to.match(/^field 1 has more than 65536 elements/);
  });

  it('keep what is read apart from what a client calls it', () => {
    const parameters = { ['__proto__']: { bool_param: true } };
    const bytes = encode(oip.modelInferRequest, { parameters });
    const { parameters: found } = decode(oip.modelInferRequest, bytes);
    expect(Object.getPrototypeOf(found)).to.equal(null);
    expect(Object.keys(found)).to.deep.equal(Object.keys(parameters));
  });
});

describe('numbers of Protocol Buffers', () => {
  it('are read as they were written, whatever their size', () => {
    const reader = new WireReader();
    fc.assert(
      fc.property(safe.map(Math.abs), fc.nat({ max: 5 }), (value, offset) => {
        const out = Buffer.alloc(offset + 10);
        const end = writeVarint(out, offset, value);
        expect(end - offset).to.equal(varintBytes(value));
        reader.open(out, offset, end);
        expect(reader.integer(false)).to.equal(value);
        expect(reader.at).to.equal(end);
      }),
    );
  });

  it('take as many bytes at the edges as they should', () => {
    const edges = Array.from({ length: 7 }, (_, i) => 2 ** (7 * (i + 1)));
    expect(edges.map((edge) => [varintBytes(edge - 1), varintBytes(edge)])).to.deep.equal(
      edges.map((_, i) => [i + 1, i + 2]),
    );
  });
});
