import { expect } from 'chai';
import fc from 'fast-check';
import { isSameOrigin, normalOrigin } from '#src/aggregator/origin.js';

describe('the origin of a page', () => {
  for (const [origin, host] of [
    ['http://h', 'h'],
    ['http://h', 'h:80'],
    ['http://h:80', 'h'],
    ['https://h', 'h:443'],
    ['https://h:443', 'h'],
    ['https://h', 'h'],
    ['http://h:8080', 'h:8080'],
    ['http://ops.example', 'OPS.Example'],
    ['http://[::1]:8080', '[::1]:8080'],
    ['http://[::1]', '[0:0:0:0:0:0:0:1]:80'],
    ['https://[fd00::a]', '[FD00::A]'],
  ] as const) {
    it(`${origin} is that of ${host}`, () => expect(isSameOrigin(origin, host)).to.equal(true));
  }

  for (const [origin, host] of [
    ['http://h', 'h:443'],
    ['https://h', 'h:80'],
    ['http://h:8080', 'h'],
    ['https://h:8443', 'h'],
    ['http://h', 'h.evil.example'],
    ['http://evil.example', 'h'],
    ['http://evil.example', 'evil.example@h'],
    ['http://evil.example', 'evil.example/h'],
    ['http://evil.example', 'evil.example#h'],
    ['http://h', ''],
    ['null', 'null'],
    ['file://', ''],
    ['ws://h', 'h'],
    ['http://[::1]', '[::2]'],
    ['', ''],
  ] as const) {
    it(`${JSON.stringify(origin)} is not that of ${JSON.stringify(host)}`, () =>
      expect(isSameOrigin(origin, host)).to.equal(false));
  }

  it('is compared by scheme, host and port alone, however they are written', () => {
    const port = fc.option(fc.integer({ min: 1, max: 65_535 }), { nil: undefined });
    const name = fc.domain();
    fc.assert(
      fc.property(fc.constantFrom('http', 'https'), name, port, name, port, (scheme, a, portA, b, portB) => {
        const own = scheme === 'http' ? 80 : 443;
        const written = (host: string, given: number | undefined): string => (given ? `${host}:${given}` : host);
        const isSame = a.toLowerCase() === b.toLowerCase() && (portA ?? own) === (portB ?? own);
        expect(isSameOrigin(`${scheme}://${written(a, portA)}`, written(b, portB))).to.equal(isSame);
        expect(isSameOrigin(`${scheme}://${written(a, portA)}`, written(a.toUpperCase(), portA ?? own))).to.equal(true);
      }),
    );
  });

  it('may be any text, which then is none', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (origin, host) => {
        expect(normalOrigin(origin) === null || /^https?:\/\//.test(normalOrigin(origin) ?? '')).to.equal(true);
        isSameOrigin(origin, host);
      }),
    );
  });
});
