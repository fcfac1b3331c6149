import { expect } from 'chai';
import fc from 'fast-check';
import { textOfThrown, toError } from '#src/thrown.js';

const unreadable = Object.defineProperty(new Error(''), 'message', {
  get() {
    throw new Error('not this one either');
  },
});
const odd: readonly unknown[] = [Object.create(null), Symbol('s'), { toString: () => ({}) }, unreadable, undefined];

describe('what was thrown', () => {
  it('is an Error with a text afterwards, whatever it was', () => {
    fc.assert(
      fc.property(fc.oneof(fc.anything(), fc.constantFrom(...odd)), (thrown) => {
        expect(textOfThrown(thrown)).to.be.a('string');
        expect(toError(thrown)).to.be.an('error');
        expect(toError(thrown).message).to.be.a('string');
      }),
    );
  });

  it('keeps its own text, and an Error itself', () => {
    const error = new Error('the reason');
    expect(toError(error)).to.equal(error);
    expect(textOfThrown(error)).to.equal('the reason');
    expect(toError('a word').message).to.equal('a word');
  });
});
