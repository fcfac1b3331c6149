import { expect } from 'chai';
import fc from 'fast-check';
import { arrivalFrame, FrameSplitter } from '#src/ipc/connection-frames.js';
import type { Arrival, Decision } from '#src/ipc/messages.js';

/** A message as it is sent: with a handle, which is a number here, or without. */
interface Sent {
  readonly bytes: Buffer;
  readonly arrival: Arrival | null;
  readonly handle: number | null;
}

interface Read {
  readonly bytes: Buffer;
  readonly handle: number | null;
}

/**
 * What a process reads of it on Linux, at most `sizes` bytes each time: a read never continues beyond a message whose
 * handle it has brought, and a handle comes with the first byte of its message.
 */
function readsOf(sent: readonly Sent[], sizes: readonly number[]): readonly Read[] {
  const reads: Read[] = [];
  let message = 0;
  let at = 0;
  for (let i = 0; message < sent.length; i++) {
    let room = sizes[i % sizes.length] as number;
    const parts: Buffer[] = [];
    let handle: number | null = null;
    while (room > 0 && message < sent.length) {
      const { bytes, handle: own } = sent[message] as Sent;
      if (at === 0) handle = own;
      const part = bytes.subarray(at, at + room);
      parts.push(part);
      room -= part.length;
      at += part.length;
      if (at < bytes.length) break;
      at = 0;
      message++;
      if (handle !== null) break;
    }
    reads.push({ bytes: Buffer.concat(parts), handle });
  }
  return reads;
}

const ofNode = fc.uint8Array({ maxLength: 40 }).map((body) => {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  return { bytes: Buffer.concat([length, body]), arrival: null };
});
const ours = fc
  .record({
    listener: fc.nat(0xfffe),
    decision: fc.constantFrom<Decision>('granted', 'refusedByLimit', 'refusedByAddressLimit', 'refusedByRate'),
    address: fc.constantFrom('10.0.0.7', 'fd00:1:2:3::/64', '', 'a'.repeat(45)),
  })
  .map((arrival) => ({ bytes: Buffer.from(arrivalFrame(arrival), 'latin1'), arrival }));

describe('connections beside the messages of Node', () => {
  it('are told from them however both are read, and each handle goes with what it was sent with', () => {
    const messages = fc.array(fc.tuple(fc.oneof(ofNode, ours), fc.boolean()), { maxLength: 12 });
    fc.assert(
      fc.property(messages, fc.array(fc.integer({ min: 1, max: 70 }), { minLength: 1 }), (drawn, sizes) => {
        const sent = drawn.map(([message, hasHandle], i) => ({ ...message, handle: hasHandle ? i : null }));
        const other: Buffer[] = [];
        const otherHandles: number[] = [];
        const arrivals: unknown[] = [];
        const splitter = new FrameSplitter<number>({
          onOther: (bytes, handle) => {
            other.push(Buffer.from(bytes));
            if (handle !== null) otherHandles.push(handle);
          },
          onArrival: (arrival, handle) => arrivals.push({ ...arrival, handle }),
        });
        for (const { bytes, handle } of readsOf(sent, sizes)) splitter.read(bytes, handle);
        const nodes = sent.filter(({ arrival }) => arrival === null);
        expect(Buffer.concat(other)).to.deep.equal(Buffer.concat(nodes.map(({ bytes }) => bytes)));
        expect(otherHandles).to.deep.equal(nodes.flatMap(({ handle }) => handle ?? []));
        expect(arrivals).to.deep.equal(
          sent.flatMap(({ arrival, handle }) => (arrival === null ? [] : { ...arrival, handle })),
        );
      }),
      { numRuns: 1000 },
    );
  });

  it('let Node have its handle with the message it belongs to, not with the one before', () => {
    const calls: [number, number | null][] = [];
    const splitter = new FrameSplitter<number>({
      onOther: ({ length }, handle) => calls.push([length, handle]),
      onArrival: () => {},
    });
    const [first, second] = [Buffer.from('\0\0\0\x01a', 'latin1'), Buffer.from('\0\0\0\x02bc', 'latin1')];
    splitter.read(first.subarray(0, 2), 1);
    splitter.read(Buffer.concat([first.subarray(2), second]), 2);
    expect(calls).to.deep.equal([
      [5, 1],
      [6, 2],
    ]);
  });
});
