import { expect } from 'chai';
import fc from 'fast-check';
import { Deadlines } from '#src/serving/deadlines.js';
import { withClock } from '../../support/clock.js';

describe('deadlines of requests', () => {
  const clock = withClock();

  it('are never early, and late by 1 ms or 1/32 of the time at the most, whichever are removed', () => {
    const request = fc.record({ spanMs: fc.integer({ min: 1, max: 100_000 }), isRemoved: fc.boolean() });
    fc.assert(
      fc.property(fc.array(request, { maxLength: 50 }), (requests) => {
        const deadlines = new Deadlines();
        const expired = new Map<number, number>();
        const begun = performance.now();
        const items = requests.map(({ spanMs }, i) => {
          const item = { expire: () => void expired.set(i, performance.now() - begun) };
          return { item, expiry: deadlines.add(item, begun + spanMs, spanMs) };
        });
        for (const [i, { isRemoved }] of requests.entries()) {
          const { item, expiry } = items[i] as (typeof items)[0];
          if (isRemoved) expiry.remove(item);
        }
        clock().tick(110_000);
        for (const [i, { spanMs, isRemoved }] of requests.entries()) {
          const at = expired.get(i);
          if (isRemoved) expect(at).to.equal(undefined);
          else expect(at).to.be.within(spanMs, spanMs + Math.max(1, spanMs / 32) + 1);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('do not come for what another has removed at the same moment', () => {
    const deadlines = new Deadlines();
    const expired: string[] = [];
    const at = performance.now() + 10;
    const second = { expire: () => void expired.push('second') };
    const first = {
      expire: () => {
        expired.push('first');
        expiry.remove(second);
      },
    };
    deadlines.add(first, at, 10);
    const expiry = deadlines.add(second, at, 10);
    clock().tick(100);
    expect(expired).to.deep.equal(['first']);
  });

  it('come in time, whatever longer one was waited for before', () => {
    const deadlines = new Deadlines();
    const expired: number[] = [];
    const begun = performance.now();
    for (const span of [50_000, 10]) {
      deadlines.add({ expire: () => void expired.push(span) }, begun + span, span);
    }
    clock().tick(20);
    expect(expired).to.deep.equal([10]);
    clock().tick(60_000);
    expect(expired).to.deep.equal([10, 50_000]);
  });
});
