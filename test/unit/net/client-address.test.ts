import { isIP } from 'node:net';
import { expect } from 'chai';
import fc from 'fast-check';
import { isAddressRange } from '#src/config/formats.js';
import { AddressFilter, addressBehind, clientKey, plainAddress } from '#src/net/client-address.js';

describe('who may connect', () => {
  it('is everybody, unless somebody is named', () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (address) => {
        expect(new AddressFilter([], []).admits(address)).to.equal(true);
      }),
    );
  });

  it('is who is allowed and not denied, by address or by range', () => {
    const filter = new AddressFilter(['10.0.0.0/8', 'fd00::/8', '192.0.2.7'], ['10.1.0.0/16', 'fd00::1']);
    const judged = ['10.0.0.1', '10.1.0.1', '11.0.0.1', '192.0.2.7', '192.0.2.8', 'fd00::2', 'fd00::1', '2001:db8::1'];
    expect(judged.filter((address) => filter.admits(address))).to.deep.equal(['10.0.0.1', '192.0.2.7', 'fd00::2']);
  });

  it('goes by the IPv4 address of a client that comes through an IPv6 socket', () => {
    expect(plainAddress('::ffff:10.0.0.1')).to.equal('10.0.0.1');
    expect(plainAddress('::1')).to.equal('::1');
  });

  it('counts an IPv4 address, or the /64 of an IPv6 one, as one client', () => {
    expect(clientKey('10.0.0.1')).to.equal('10.0.0.1');
    const same = ['2001:db8:0:1::1', '2001:0db8:0000:0001:ffff:1:2:3', '2001:db8::1:0:0:0:9', '2001:DB8:0:1::'];
    expect(new Set(same.map(clientKey)), 'one network').to.have.property('size', 1);
    const others = ['2001:db8:0:2::1', '2001:db8::1', '::1', 'fe80::1%eth0', '1::'];
    expect(new Set([...same, ...others].map(clientKey))).to.have.property('size', 1 + others.length);
  });

  it('is told in addresses and CIDR ranges', () => {
    for (const right of ['10.0.0.1', '10.0.0.0/8', '0.0.0.0/0', '::1', 'fd00::/8', '::/0', '::1/128']) {
      expect(isAddressRange(right), right).to.equal(true);
    }
    for (const wrong of ['', 'localhost', '10.0.0', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', '::/129', '::1/-1']) {
      expect(isAddressRange(wrong), wrong).to.equal(false);
    }
    fc.assert(fc.property(fc.string(), (text) => void isAddressRange(text)));
  });
});

describe('a client behind proxies', () => {
  const isTrusted = (address: string): boolean => address.startsWith('10.') || address === '::1';
  const behind = (peer: string, forwardedFor: string): string => addressBehind(peer, forwardedFor, isTrusted);

  it('is the last address that is no trusted proxy; what it has claimed itself is not believed', () => {
    expect(behind('10.0.0.1', '203.0.113.9')).to.equal('203.0.113.9');
    expect(behind('10.0.0.1', '1.1.1.1, 203.0.113.9, 10.0.0.2')).to.equal('203.0.113.9');
    expect(behind('::ffff:10.0.0.1', '203.0.113.9:4711')).to.equal('203.0.113.9');
    expect(behind('::1', '[2001:db8::7]:4711')).to.equal('2001:db8::7');
    expect(behind('::1', '::ffff:203.0.113.9')).to.equal('203.0.113.9');
  });

  it('is who connects when that is no trusted proxy, or the proxy does not say', () => {
    expect(behind('203.0.113.9', '1.1.1.1')).to.equal('203.0.113.9');
    for (const header of ['', 'unknown', ',', '1.1.1.1, nonsense'])
      expect(behind('10.0.0.1', header)).to.equal('10.0.0.1');
  });

  it('is an address, or the peer, whatever the header says', () => {
    const hop = fc.oneof(fc.string(), fc.ipV4(), fc.ipV6());
    fc.assert(
      fc.property(fc.array(hop, { maxLength: 6 }), (hops) => {
        const client = behind('10.0.0.1', hops.join(','));
        expect(isIP(client)).to.be.above(0);
      }),
    );
  });
});
