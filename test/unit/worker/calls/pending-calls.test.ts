// The calls of a connection that are in flight: a client chooses their numbers, so that they may meet in the table.

import { expect } from 'chai';
import fc from 'fast-check';
import type { CallNumber } from '#src/protocol/calls/call.js';
import { PendingCalls } from '#src/worker/calls/pending-calls.js';
import type { PendingCall } from '#src/worker/oip/service.js';

const calls = (): PendingCall => ({ cancel: () => {} });

/** Some meet in a table of any size, some only look alike: 2^53 and the bigint, numbers beyond 32 bits. */
const numbers: fc.Arbitrary<CallNumber> = fc.oneof(
  fc.nat(40).map((i) => i + 1),
  fc.nat(40).map((i) => (i + 1) * 4096),
  fc.nat(40).map((i) => 2 ** 32 + i),
  fc.nat(40).map((i) => 2n ** 53n + BigInt(i)),
);

describe('calls in flight', () => {
  it('are found by their numbers, whatever others came and went', () => {
    fc.assert(
      fc.property(fc.array(numbers, { maxLength: 400 }), (asked) => {
        const pending = new PendingCalls();
        const expected = new Map<CallNumber, PendingCall>();
        for (const number of asked) {
          expect(pending.has(number)).to.equal(expected.has(number));
          const known = expected.get(number);
          if (known === undefined) {
            const call = calls();
            expected.set(number, call);
            pending.add(number, call);
          } else {
            expected.delete(number);
            expect(pending.take(number)).to.equal(known);
          }
        }
        for (const [number, call] of expected) expect(pending.take(number)).to.equal(call);
        for (const number of asked) expect(pending.take(number)).to.equal(null);
      }),
    );
  });
});
