import { expect } from 'chai';
import fc from 'fast-check';
import { BufferPool } from '#src/protocol/buffer-pool.js';

/** Sizes on both sides of the smallest that is kept, and few, so that they come again. */
const size = fc.constantFrom(0, 8, 9, 64, 4095, 4096, 4097, 10_000);

describe('the buffer pool', () => {
  it('hands memory to one owner at a time', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ bytes: size, isBrief: fc.boolean(), back: fc.nat() }), { minLength: 30, maxLength: 60 }),
        (steps) => {
          const pool = new BufferPool(20_000);
          const taken: { readonly buffer: Buffer; readonly mark: number }[] = [];
          for (const [i, { bytes, isBrief, back }] of steps.entries()) {
            const mark = i % 256;
            const buffer = isBrief ? pool.takeBriefly(bytes) : pool.take(bytes);
            if (isBrief) expect(buffer.length).to.equal(bytes);
            else expect(buffer.length).to.be.at.least(bytes);
            taken.push({ buffer: buffer.fill(mark), mark });
            if (back % 3 === 0) continue;
            const [{ buffer: given, mark: its }] = taken.splice(back % taken.length, 1) as [(typeof taken)[0]];
            expect(given.equals(Buffer.alloc(given.length, its))).to.equal(true);
            pool.give(given);
          }
          for (const { buffer, mark } of taken) expect(buffer.equals(Buffer.alloc(buffer.length, mark))).to.equal(true);
        },
      ),
    );
  });

  it('hands out again what came back, large or small', () => {
    const pool = new BufferPool(20_000);
    for (const bytes of [8, 8192]) {
      const first = pool.takeBriefly(bytes);
      pool.give(first);
      const second = pool.takeBriefly(bytes);
      expect(second.buffer).to.equal(first.buffer);
      expect(second.byteOffset).to.equal(first.byteOffset);
    }
  });

  it('keeps no more unused bytes than it may', () => {
    const pool = new BufferPool(10_000);
    for (const buffer of [pool.take(8192), pool.take(8192)]) pool.give(buffer);
    expect(pool.keptBytes).to.equal(8192);
  });
});
