import { expect } from 'chai';
import fc from 'fast-check';
import { Batch, type Replies, type ReplyDims, singleRow } from '#src/inference/batch.js';
import { SharedRunError } from '#src/inference/model.js';
import { packReplies, packRows, unpackReplies, unpackRows } from '#src/inference/threads/packing.js';
import { repliesOf, rowsOf } from '../../support/rows.js';

const bytes = fc.uint8Array({ maxLength: 50 }).map((array) => Buffer.from(array));

describe('what crosses to a thread', () => {
  it('is the rows as they were, of one size or of many', () => {
    fc.assert(
      fc.property(fc.array(bytes, { minLength: 1, maxLength: 20 }), fc.integer({ min: 1, max: 9 }), (rows, size) => {
        const crossed = unpackRows(packRows(rowsOf(rows), null));
        expect(Array.from({ length: crossed.rows }, (_, i) => crossed.payload(i))).to.deep.equal(rows);
        const even = rows.map((_, i) => Buffer.alloc(size, i));
        const evenCrossed = unpackRows(packRows(rowsOf(even), size));
        expect(Buffer.from(evenCrossed.packed as ArrayBuffer)).to.deep.equal(Buffer.concat(even));
        const copy = Buffer.alloc(size + 2);
        evenCrossed.copyRow(rows.length - 1, copy, 1, 0, size);
        expect(copy).to.deep.equal(Buffer.concat([Buffer.alloc(1), even.at(-1) as Buffer, Buffer.alloc(1)]));
      }),
    );
  });

  it('is rows in the memory of their batch, which cannot be read until it is given back', () => {
    const batch = new Batch(3);
    const rows = [Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6])];
    for (const row of rows) batch.add(row, 0, 3);
    const { packed: memory } = batch;
    const packed = packRows(batch, 3);
    expect(packed).to.include({ isLent: true, bytes: memory });
    const crossed = structuredClone(packed, { transfer: [packed.bytes] });
    const there = unpackRows(crossed);
    expect([there.payload(0), there.payload(1)]).to.deep.equal(rows);
    expect(batch.memory).to.have.length(0);
    batch.giveBack(crossed.bytes);
    expect([batch.payload(0), batch.payload(1)]).to.deep.equal(rows);
    const retried = packRows(singleRow(batch, 1), 3);
    expect(retried.isLent).to.equal(false);
    expect(unpackRows(retried).payload(0)).to.deep.equal(rows[1]);
  });

  it('is the replies as they were, failed ones too', () => {
    const reply = fc.oneof(
      bytes,
      fc.string().map((message) => new Error(message)),
      fc.string().map((message) => new SharedRunError(new Error(message))),
    );
    fc.assert(
      fc.property(fc.array(reply, { minLength: 1, maxLength: 20 }), (rows) => {
        const replies: Replies = { kind: 'rows', rows };
        const { packed, transfer } = packReplies(replies);
        const crossed = unpackReplies(structuredClone(packed, { transfer }));
        expect(repliesOf(crossed, rows.length)).to.deep.equal(repliesOf(replies, rows.length));
      }),
    );
  });

  it('is what the model tells of the dimensions of its outputs', () => {
    const crossed = (replies: Replies): Replies => {
      const { packed, transfer } = packReplies(replies);
      return unpackReplies(structuredClone(packed, { transfer }));
    };
    const one: ReplyDims = [[1, 2], []];
    const rows = [Buffer.from([1, 2]), new Error('bad'), Buffer.alloc(0)];
    expect(crossed({ kind: 'rows', rows, dims: [one, null, [[0]]] }).dims).to.deep.equal([one, null, [[0]]]);
    expect(crossed({ kind: 'rows', rows })).to.not.have.property('dims');
    const uniform = (dims: object): Replies => ({
      kind: 'uniform',
      bytes: new Uint8Array(4),
      rowBytes: 2,
      stride: 2,
      ...dims,
    });
    expect(crossed(uniform({ dims: one })).dims).to.deep.equal(one);
    expect(crossed(uniform({}))).to.not.have.property('dims');
  });

  it('is handed over, not copied; what is shared or part of something larger is copied', () => {
    const whole = new Uint8Array(12);
    const handed = packReplies({ kind: 'uniform', bytes: whole, rowBytes: 4, stride: 4 });
    expect(handed.transfer).to.deep.equal([whole.buffer]);
    expect(handed.transfer[0]).to.equal(whole.buffer);
    for (const replies of [
      { kind: 'uniform', bytes: whole, rowBytes: 12, stride: 0 },
      { kind: 'uniform', bytes: whole.subarray(4), rowBytes: 4, stride: 4 },
    ] satisfies Replies[]) {
      expect(packReplies(replies).transfer[0]).not.to.equal(whole.buffer);
    }
  });
});
