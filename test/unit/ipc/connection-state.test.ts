import { deserialize, serialize } from 'node:v8';
import { expect } from 'chai';
import fc from 'fast-check';
import { type ConnectionState, decodeConnectionState, encodeConnectionState } from '#src/ipc/connection-state.js';

const bytes = fc.uint8Array({ maxLength: 100 }).map((array) => Buffer.from(array));
const time = fc.integer({ min: 1, max: 1_000_000_000 });
const state: fc.Arbitrary<ConnectionState> = fc.record({
  unread: bytes,
  unsent: bytes,
  arrivedAt: time,
  frameBegunAt: fc.oneof(fc.constant(0), time),
  activeAt: time,
  isTrusted: fc.boolean(),
});

describe('what moves with a connection', () => {
  it('arrives as it was, by the clock of the process that it comes to', () => {
    fc.assert(
      fc.property(state, time, time, (sent, fromOffsetMs, toOffsetMs) => {
        const travels: unknown = deserialize(serialize(encodeConnectionState(sent, fromOffsetMs)));
        const laterMs = fromOffsetMs - toOffsetMs;
        expect(decodeConnectionState(travels, toOffsetMs)).to.deep.equal({
          ...sent,
          arrivedAt: sent.arrivedAt + laterMs,
          frameBegunAt: sent.frameBegunAt === 0 ? 0 : sent.frameBegunAt + laterMs,
          activeAt: sent.activeAt + laterMs,
        });
      }),
    );
  });

  it('is refused when any part of it is not what it should be', () => {
    const junk = fc.oneof(
      fc.constantFrom(undefined, null, Number.NaN, Number.POSITIVE_INFINITY, '', 'x', {}, [], [1, 2], [1, 2, '3']),
      fc.anything({ maxDepth: 1 }),
    );
    const part = fc.constantFrom('unread', 'unsent', 'times', 'isTrusted' as const);
    fc.assert(
      fc.property(state, part, junk, (sent, name, value) => {
        const encoded = encodeConnectionState(sent);
        fc.pre(!isOfKind(encoded[name as keyof typeof encoded], value));
        expect(() => decodeConnectionState({ ...encoded, [name]: value })).to.throw('not the state of one');
      }),
    );
    for (const value of [undefined, null, 1, 'state', []])
      expect(() => decodeConnectionState(value)).to.throw('not the state of one');
  });
});

function isOfKind(right: unknown, value: unknown): boolean {
  if (typeof right === 'boolean') return typeof value === 'boolean';
  if (right instanceof Uint8Array) return value instanceof Uint8Array;
  return Array.isArray(value) && value.length === 3 && value.every((one) => Number.isFinite(one));
}
