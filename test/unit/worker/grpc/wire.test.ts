// What gRPC adds to HTTP/2: messages in a stream of bytes, statuses and times in headers, descriptions of services.

import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import fc from 'fast-check';
import { frameOf, MessageReader } from '#src/worker/grpc/messages.js';
import { percentEncoded, statusOf, trailersOf } from '#src/worker/grpc/status.js';
import { timeoutUs } from '#src/worker/grpc/timeout.js';
import { root } from '../../../support/processes.js';

describe('messages of gRPC', () => {
  const read = (chunks: readonly Buffer[], maxBytes = 1000): string[] => {
    const reader = new MessageReader(maxBytes);
    const found: string[] = [];
    for (const chunk of chunks) {
      // As the memory of a socket is: another read overwrites it.
      const memory = Buffer.from(chunk);
      reader.push(memory);
      let next = reader.next();
      for (; next === 'message'; next = reader.next())
        found.push(`${reader.isCompressed}:${reader.source.toString('hex', reader.start, reader.end)}`);
      if (next !== 'incomplete') found.push(next);
      reader.retain();
      memory.fill(0xee);
    }
    return found;
  };

  it('are the same however they come', () => {
    const message = fc.record({ bytes: fc.uint8Array({ maxLength: 700 }), isCompressed: fc.boolean() });
    fc.assert(
      fc.property(fc.array(message, { maxLength: 8 }), fc.array(fc.integer({ min: 1, max: 900 })), (messages, cuts) => {
        const all = Buffer.concat(messages.map(({ bytes, isCompressed }) => frameOf(bytes, isCompressed)));
        const chunks: Buffer[] = [];
        let at = 0;
        for (const cut of [...cuts, all.length]) {
          if (at < all.length) chunks.push(all.subarray(at, at + cut));
          at += cut;
        }
        const expected = messages.map(
          ({ bytes, isCompressed }) => `${isCompressed}:${Buffer.from(bytes).toString('hex')}`,
        );
        expect(read(chunks)).to.deep.equal(expected);
        expect(read([...all].map((byte) => Buffer.from([byte])))).to.deep.equal(expected);
      }),
    );
  });

  it('are refused by their first bytes when they are too large, or none', () => {
    expect(read([frameOf(Buffer.alloc(1000))])).to.have.lengthOf(1);
    expect(read([frameOf(Buffer.alloc(1001)).subarray(0, 5)])).to.deep.equal(['too-large']);
    expect(read([Buffer.from([2, 0, 0, 0, 0])])).to.deep.equal(['malformed']);
  });

  it('take no more memory than has come', () => {
    const reader = new MessageReader(1 << 30);
    reader.push(frameOf(Buffer.alloc(0)));
    expect(reader.next()).to.equal('message');
    reader.push(Buffer.from([0, 0x3f, 0xff, 0xff, 0xff, 1, 2, 3]));
    expect(reader.next()).to.equal('incomplete');
    reader.retain();
    expect(reader.heldBytes).to.equal(8);
    expect(reader.source.length).to.be.lessThan(1024);
  });
});

describe('the status of gRPC', () => {
  it('has any text, as its clients decode it', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => {
        const encoded = percentEncoded(text);
        expect(encoded).to.match(/^[ -~]*$/);
        expect(decodeURIComponent(encoded)).to.equal(Buffer.from(text).toString());
      }),
    );
    expect(percentEncoded('x'.repeat(5000)).length).to.be.lessThan(1100);
  });

  it('says why, and when to try again', () => {
    const failure = { reason: 'QUEUE_FULL', message: 'full: 100 %', retryAfterMs: 12.3 } as const;
    expect(trailersOf(statusOf(failure))).to.deep.equal({
      'grpc-status': '14',
      'grpc-message': 'full: 100 %25',
      'mltcp-reason': 'QUEUE_FULL',
      'grpc-retry-pushback-ms': '13',
    });
  });
});

it('grpc-timeout is read in each unit, and refused when it is no time', () => {
  const times = { '1H': 3.6e9, '2M': 1.2e8, '3S': 3e6, '99999999m': 99_999_999_000, '5u': 5, '1500n': 1, '0m': 1 };
  for (const [text, us] of Object.entries(times)) expect(timeoutUs(text), text).to.equal(us);
  expect(timeoutUs(undefined)).to.equal(0);
  for (const text of ['', '1', 'm', '-1m', '1.5S', '123456789m', '1s', ' 1m'])
    expect(timeoutUs(text), text).to.equal(null);
});

it('server reflection describes what the .proto files say now', async () => {
  const path = `${root}scripts/descriptors.mjs`;
  const { descriptors, target } = (await import(path)) as { descriptors(): string; readonly target: string };
  expect(readFileSync(target, 'utf8'), 'run node scripts/descriptors.mjs').to.equal(descriptors());
});
