import { expect } from 'chai';
import fc from 'fast-check';
import { createRows, type Rows } from '#src/inference/rows.js';

/** Adds rows from chunks that are overwritten right after `retain`. */
function addAll(rows: Rows, chunks: readonly (readonly Buffer[])[], gap: number): void {
  for (const payloads of chunks) {
    const chunk = Buffer.concat(payloads.flatMap((payload) => [Buffer.alloc(gap, 0xee), payload]));
    let at = 0;
    for (const { length } of payloads) {
      rows.add(chunk, at + gap, at + gap + length);
      at += gap + length;
    }
    rows.retain();
    chunk.fill(0xdd);
  }
}

function expectRows(rows: Rows, payloads: readonly Buffer[]): void {
  expect(rows.count).to.equal(payloads.length);
  payloads.forEach((payload, i) => {
    expect(rows.payload(i)).to.deep.equal(payload);
    const from = payload.length >> 1;
    const copy = Buffer.alloc(payload.length - from + 2);
    rows.copyRow(i, copy, 1, from, payload.length - from);
    expect(copy).to.deep.equal(Buffer.concat([Buffer.alloc(1), payload.subarray(from), Buffer.alloc(1)]));
  });
  expect(() => rows.payload(payloads.length)).to.throw(RangeError, `no row ${payloads.length}`);
}

const chunksOf = (payload: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Buffer[][]> =>
  fc.array(
    fc.array(
      payload.map((bytes) => Buffer.from(bytes)),
      { maxLength: 8 },
    ),
    { maxLength: 8 },
  );

const evenChunks = fc
  .integer({ min: 1, max: 40 })
  .chain((size) => chunksOf(fc.uint8Array({ minLength: size, maxLength: size })));

describe('the rows of a batch', () => {
  it('of any size, and of one size, stay as they were when they go on in another batch', () => {
    for (const [isEven, any] of [
      [false, chunksOf(fc.uint8Array({ maxLength: 200 }))],
      [true, evenChunks],
    ] as const)
      fc.assert(
        fc.property(any, any, fc.nat({ max: 8 }), fc.nat(), fc.nat(), (own, others, gap, a, b) => {
          const size = own.flat()[0]?.length ?? 1;
          const fits = (payloads: readonly Buffer[]) => payloads.filter(({ length }) => !isEven || length === size);
          const [to, from] = [own, others].map((chunks) => {
            const rows = createRows(isEven ? size : null, Buffer.allocUnsafeSlow(a % 300));
            addAll(rows, chunks.map(fits), gap);
            return rows;
          }) as [Rows, Rows];
          const moved = fits(others.flat());
          const first = a % Math.max(1, moved.length);
          const count = Math.min(moved.length - first, 1 + (b % 8));
          if (count > 0) to.append(from, first, count);
          addAll(to, own.map(fits), gap);
          expectRows(
            to,
            [own, [moved.slice(first, first + count)], own].flatMap((chunks) => fits(chunks.flat())),
          );
        }),
      );
  });

  it('of any size stay as they were when the chunks they came in are used again', () => {
    fc.assert(
      fc.property(
        chunksOf(fc.uint8Array({ maxLength: 200 })),
        fc.nat({ max: 8 }),
        fc.nat({ max: 500 }),
        (chunks, gap, reserved) => {
          const rows = createRows(null, Buffer.allocUnsafeSlow(reserved));
          addAll(rows, chunks, gap);
          expectRows(rows, chunks.flat());
          expect(rows.packed).to.equal(undefined);
        },
      ),
    );
  });

  it('of one size stay as they were, and lie side by side from the first byte of a buffer of their own', () => {
    fc.assert(
      fc.property(evenChunks, fc.nat({ max: 8 }), fc.nat({ max: 500 }), (chunks, gap, reserved) => {
        const payloads = chunks.flat();
        const rows = createRows(payloads[0]?.length ?? 1, Buffer.allocUnsafeSlow(reserved));
        addAll(rows, chunks, gap);
        expectRows(rows, payloads);
        expect(Buffer.from(rows.packed as ArrayBuffer, 0, rows.size)).to.deep.equal(Buffer.concat(payloads));
      }),
    );
  });
});
