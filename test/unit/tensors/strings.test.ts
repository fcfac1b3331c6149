import { expect } from 'chai';
import fc from 'fast-check';
import { encodeStrings, readStrings, stringEnd } from '#src/tensors/strings.js';

const text = fc.string({ unit: 'binary', maxLength: 20 }).map((string) => string.replaceAll('\0', '0'));
const lengthOf = (bytes: Uint8Array): Buffer => {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return length;
};

describe('strings in a payload', () => {
  it('of any text without NUL are read as they were encoded, wherever they lie', () => {
    fc.assert(
      fc.property(fc.array(text, { maxLength: 8 }), fc.uint8Array({ maxLength: 5 }), (strings, before) => {
        const bytes = Buffer.concat([before, encodeStrings(strings), Buffer.from([1, 2])]);
        let at = before.length;
        for (const _ of strings) at = stringEnd(bytes, at, bytes.length - 2);
        expect(at).to.equal(bytes.length - 2);
        expect(readStrings(bytes, before.length, strings.length)).to.deep.equal(strings);
      }),
    );
  });

  it('of any bytes are either not valid, or read back to these bytes', () => {
    const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    const isText = (bytes: Uint8Array): boolean => {
      try {
        return !utf8.decode(bytes).includes('\0');
      } catch {
        return false;
      }
    };
    // Pieces that are valid, nearly valid or not at all: overlong forms, surrogates, beyond U+10FFFF, cut ones.
    const piece = fc.oneof(
      fc.constantFrom(
        [0xc0, 0x80],
        [0xed, 0xa0, 0x80],
        [0xf4, 0x90, 0x80, 0x80],
        [0xe2, 0x82],
        [0xef, 0xbb, 0xbf],
        [0],
      ),
      text.map((string) => [...Buffer.from(string)]),
      fc.uint8Array({ maxLength: 6 }).map((bytes) => [...bytes]),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 4 }), (pieces) => {
        const bytes = Buffer.from(pieces.flat());
        const source = Buffer.concat([lengthOf(bytes), bytes]);
        const end = stringEnd(source, 0, source.length);
        expect(end).to.equal(isText(bytes) ? source.length : -1);
        if (end >= 0) expect(encodeStrings(readStrings(source, 0, 1))).to.deep.equal(source);
      }),
    );
  });

  it('that are cut anywhere are not valid', () => {
    const bytes = encodeStrings(['héllo']);
    for (let end = 0; end < bytes.length; end++) expect(stringEnd(bytes, 0, end), String(end)).to.equal(-1);
    const huge = Buffer.from([0xff, 0xff, 0xff, 0xff, 1]);
    expect(stringEnd(huge, 0, huge.length)).to.equal(-1);
  });
});
