// Where Redis is, read from texts that people write.

import { expect } from 'chai';
import fc from 'fast-check';
import { formatAddress, parseHostPort, parseRedisUrl } from '#src/metrics/transport/redis-address.js';
import { problemOf } from '#src/metrics/transport/redis-problems.js';

const port = fc.integer({ min: 1, max: 65_535 });

describe('an address of Redis', () => {
  it('is read back as it was written, whether a name, IPv4 or IPv6', () => {
    fc.assert(
      fc.property(fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6()), port, (host, number) => {
        const address = { host, port: number };
        expect(parseHostPort(formatAddress(address))).to.deep.equal(address);
      }),
    );
  });

  it('is refused when it is anything else', () => {
    for (const text of [
      '',
      'a',
      'a:',
      ':1',
      'a:0',
      'a:65536',
      '::1:26379',
      '[::1]',
      '[a]:1',
      'a b:1',
      'u@a:1',
      '[::1:1',
    ])
      expect(parseHostPort(text), text).to.equal(null);
    fc.assert(
      fc.property(fc.string(), (text) => {
        const address = parseHostPort(text);
        if (address !== null) expect(address.port).to.be.within(1, 65_535);
      }),
    );
  });
});

describe('a URL of Redis', () => {
  it('gives back whatever user, password, host, port and database it was made of', () => {
    const host = fc.oneof(
      fc.domain(),
      fc.ipV4(),
      // Addresses that can be written in several ways come back in one of them.
      fc.constantFrom('::1', 'fd00::7', '2001:db8::1'),
    );
    const secret = fc.string({ minLength: 1 });
    fc.assert(
      fc.property(
        fc.boolean(),
        secret,
        secret,
        host,
        port,
        fc.nat(9999),
        (isTls, username, password, name, number, db) => {
          const login = `${encodeURIComponent(username)}:${encodeURIComponent(password)}`;
          const place = formatAddress({ host: name, port: number });
          const found = parseRedisUrl(`redis${isTls ? 's' : ''}://${login}@${place}/${db}`);
          expect(found).to.deep.equal({ isTls, username, password, host: name, port: number, db, family: 0 });
        },
      ),
    );
  });

  it('is refused with a sentence that does not repeat it, when it is none', () => {
    fc.assert(
      fc.property(fc.string(), fc.constantFrom('', 'redis://', 'rediss://h/', 'redis://u:%@'), (text, start) => {
        const url = `${start}SECRET${text}`;
        try {
          parseRedisUrl(url);
        } catch (error) {
          expect((error as Error).message)
            .to.match(/^(must|may|has)/)
            .and.not.to.include('SECRET');
        }
      }),
    );
    for (const url of [
      'redis://h:99999',
      'redis://h/x',
      'redis://u:a%ss@h',
      'redis://h?db=1',
      'redis://h?family=5',
      'http://h',
    ])
      expect(() => parseRedisUrl(url), url).to.throw();
    expect(parseRedisUrl('redis://h?family=6').family).to.equal(6);
  });
});

describe('a problem with Redis', () => {
  it('has words of a bounded length, whatever was thrown', () => {
    fc.assert(
      fc.property(fc.anything(), fc.string(), (thrown, message) => {
        for (const one of [thrown, new Error(message), Object.assign(new Error(message), { name: 'ReplyError' })]) {
          const { code, reason } = problemOf(one);
          expect(reason.length).to.be.at.most(300);
          expect(code).to.match(/^[A-Z]+$/);
        }
      }),
    );
  });
});
