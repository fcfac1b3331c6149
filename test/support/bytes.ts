// Bytes that are nearly right: what decoders meet when a client is wrong, or means harm.

import fc from 'fast-check';

export interface Damage {
  readonly kind: 'cut' | 'set' | 'insert' | 'remove' | 'repeat';
  readonly place: number;
  readonly length: number;
  readonly byte: number;
}

const damage: fc.Arbitrary<Damage> = fc.record({
  kind: fc.constantFrom('cut', 'set', 'insert', 'remove', 'repeat'),
  place: fc.nat(),
  length: fc.integer({ min: 1, max: 12 }),
  byte: fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)),
});

/** Half of them are one byte that is another: enough that some are no damage to the form. */
export const damages: fc.Arbitrary<readonly Damage[]> = fc.oneof(
  damage.map((one) => [{ ...one, kind: 'set' as const }]),
  fc.array(damage, { minLength: 1, maxLength: 4 }),
);

const tagOf = (field: number, wireType: number): readonly number[] => {
  const tag = field * 8 + wireType;
  return [(tag & 0x7f) | 0x80, ((tag >> 7) & 0x7f) | 0x80, tag >> 14];
};

/** Fields of Protocol Buffers that nobody knows, encoded in each of the ways that there are. */
export const unknownFields: fc.Arbitrary<Buffer> = fc
  .array(
    fc
      .tuple(fc.integer({ min: 100, max: 100_000 }), fc.constantFrom(0, 1, 2, 5), fc.uint8Array({ maxLength: 200 }))
      .map(([field, wireType, bytes]) => {
        const tag = tagOf(field, wireType);
        if (wireType === 1) return [...tag, ...Buffer.alloc(8, 0xff)];
        if (wireType === 5) return [...tag, ...Buffer.alloc(4, 0xff)];
        if (wireType === 0) return [...tag, ...bytes.subarray(0, 9).map((byte) => byte | 0x80), 1];
        const { length } = bytes;
        return [...tag, ...(length < 0x80 ? [length] : [(length & 0x7f) | 0x80, length >> 7]), ...bytes];
      }),
    { minLength: 1, maxLength: 3 },
  )
  .map((fields) => Buffer.from(fields.flat()));

export function damaged(bytes: Buffer, all: readonly Damage[]): Buffer {
  let result = bytes;
  for (const { kind, place, length, byte } of all) {
    const at = place % (result.length + 1);
    const rest = result.subarray(at);
    if (kind === 'cut') result = result.subarray(0, at);
    else if (kind === 'set') result = Buffer.concat([result.subarray(0, at), Buffer.of(byte), rest.subarray(1)]);
    else if (kind === 'insert') result = Buffer.concat([result.subarray(0, at), Buffer.of(byte), rest]);
    else if (kind === 'remove') result = Buffer.concat([result.subarray(0, at), rest.subarray(length)]);
    else result = Buffer.concat([result.subarray(0, at), rest.subarray(0, length), rest]);
  }
  return Buffer.from(result);
}
