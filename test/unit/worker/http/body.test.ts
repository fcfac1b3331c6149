import { expect } from 'chai';
import fc from 'fast-check';
import { Body } from '#src/worker/http/body.js';

describe('the body of a request', () => {
  it('is the bytes that came, in whatever pieces, and begins anew when it was taken', () => {
    const piece = fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.uint8Array({ minLength: 1000, maxLength: 3000 }));
    const body = new Body();
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => {
        for (const one of pieces) body.push(Buffer.from(one));
        expect(body.take().equals(Buffer.concat(pieces))).to.equal(true);
        expect(body.pieces).to.equal(0);
      }),
    );
  });

  it('of one piece is that piece, and no copy', () => {
    const body = new Body();
    const piece = Buffer.from('all of it');
    body.push(piece);
    expect(body.take()).to.equal(piece);
  });

  it('takes some twenty pieces of memory, not a million, however small those are that came', () => {
    const body = new Body();
    for (let i = 0; i < 1_000_000; i++) body.push(Buffer.from([i]));
    expect(body.pieces).to.be.below(30);
    expect(body.take()).to.have.length(1_000_000);
  });
});
