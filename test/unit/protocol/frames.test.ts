import { expect } from 'chai';
import fc from 'fast-check';
import { BufferPool } from '#src/protocol/buffer-pool.js';
import { emptyFrame, encodeFrame, FrameDecoder, type LengthFieldSize, maxFrameLength } from '#src/protocol/frames.js';

const lengthFieldSizes = fc.constantFrom<LengthFieldSize>(2, 4, 8);
const payloads = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 });

/** Cuts `bytes` at the given places (any numbers; taken modulo the length). */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const at = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...at].map((begin, i) => Buffer.from(bytes.subarray(begin, at[i] ?? bytes.length)));
}

function decodeAll(decoder: FrameDecoder, chunks: readonly Buffer[]): { frames: Buffer[]; status: string } {
  const frames: Buffer[] = [];
  let status = 'incomplete';
  for (const chunk of chunks) {
    decoder.push(chunk);
    for (status = decoder.next(); status === 'frame'; status = decoder.next()) {
      frames.push(Buffer.from(decoder.source.subarray(decoder.start, decoder.end)));
    }
  }
  return { frames, status };
}

describe('frames', () => {
  it('come out as they went in, wherever the stream is cut', () => {
    fc.assert(
      fc.property(lengthFieldSizes, payloads, fc.array(fc.nat()), (size, sent, places) => {
        const stream = Buffer.concat(sent.map((payload) => encodeFrame(payload, size)));
        const { frames } = decodeAll(new FrameDecoder(size, 1000), cut(stream, places));
        expect(frames).to.deep.equal(sent.map((payload) => Buffer.from(payload)));
      }),
    );
  });

  it('come out of every single cut of one stream, and a byte at a time', () => {
    for (const size of [2, 4, 8] as const) {
      const sent = ['', 'a', 'hello', ''].map((text) => Buffer.from(text));
      const stream = Buffer.concat(sent.map((payload) => encodeFrame(payload, size)));
      for (let i = 0; i <= stream.length; i++) {
        expect(decodeAll(new FrameDecoder(size, 10), cut(stream, [i])).frames).to.deep.equal(sent);
      }
      const bytes = [...stream].map((byte) => Buffer.from([byte]));
      expect(decodeAll(new FrameDecoder(size, 10), bytes).frames).to.deep.equal(sent);
    }
  });

  it('come out as they went in when many decoders share memory', () => {
    const large = fc.array(fc.uint8Array({ minLength: 3000, maxLength: 20_000 }), { maxLength: 6 });
    fc.assert(
      fc.property(large, large, fc.array(fc.nat()), (first, second, places) => {
        const pool = new BufferPool(1 << 20);
        const streams = [first, second].map((sent) => ({
          chunks: cut(Buffer.concat(sent.map((payload) => encodeFrame(payload, 4))), places),
          decoder: new FrameDecoder(4, 1 << 16, pool),
          frames: [] as Buffer[],
        }));
        for (let i = 0; i < Math.max(...streams.map(({ chunks }) => chunks.length)); i++) {
          for (const { chunks, decoder, frames } of streams) {
            const chunk = chunks[i];
            if (chunk === undefined) continue;
            decoder.push(chunk);
            while (decoder.next() === 'frame')
              frames.push(Buffer.from(decoder.source.subarray(decoder.start, decoder.end)));
            decoder.retain();
          }
        }
        expect(streams.map(({ frames }) => frames)).to.deep.equal(
          [first, second].map((sent) => sent.map((p) => Buffer.from(p))),
        );
        for (const { decoder } of streams) decoder.close();
        expect(pool.keptBytes).to.be.at.most(1 << 20);
      }),
      { numRuns: 50 },
    );
  });

  it('can be pulled some at a time while more arrives', () => {
    fc.assert(
      fc.property(payloads, fc.array(fc.nat()), fc.array(fc.nat({ max: 3 })), (sent, places, pulls) => {
        const decoder = new FrameDecoder(4, 1000);
        const frames: Buffer[] = [];
        const pull = (most: number): void => {
          for (let i = 0; i < most && decoder.next() === 'frame'; i++) {
            frames.push(Buffer.from(decoder.source.subarray(decoder.start, decoder.end)));
          }
        };
        cut(Buffer.concat(sent.map((payload) => encodeFrame(payload, 4))), places).forEach((chunk, i) => {
          decoder.push(chunk);
          pull(pulls[i] ?? 0);
          decoder.retain();
          chunk.fill(0xdd); // the chunk is reused for the next read
        });
        pull(Number.POSITIVE_INFINITY);
        expect(frames).to.deep.equal(sent.map((payload) => Buffer.from(payload)));
      }),
    );
  });

  it('that are not read yet can be handed to another decoder without loss', () => {
    fc.assert(
      fc.property(payloads, fc.array(fc.nat()), fc.nat({ max: 20 }), fc.nat(), (sent, places, pulled, handover) => {
        const chunks = cut(Buffer.concat(sent.map((payload) => encodeFrame(payload, 4))), places);
        const first = new FrameDecoder(4, 1000);
        const split = handover % (chunks.length + 1);
        const frames: Buffer[] = [];
        for (const chunk of chunks.slice(0, split)) {
          first.push(chunk);
          for (let i = 0; i < pulled && first.next() === 'frame'; i++) {
            frames.push(Buffer.from(first.source.subarray(first.start, first.end)));
          }
        }
        const rest = decodeAll(new FrameDecoder(4, 1000), [first.unread(), ...chunks.slice(split)]);
        expect([...frames, ...rest.frames]).to.deep.equal(sent.map((payload) => Buffer.from(payload)));
      }),
    );
  });

  it('of the limit pass, one byte more is too large, and nothing is read behind it', () => {
    const limit = encodeFrame(Buffer.alloc(100), 4);
    const over = encodeFrame(Buffer.alloc(101), 4);
    const decoder = new FrameDecoder(4, 100);
    const { frames, status } = decodeAll(decoder, [Buffer.concat([limit, over, limit])]);
    expect(frames).to.have.lengthOf(1);
    expect(status).to.equal('too-large');
    decoder.push(limit);
    expect(decoder.next()).to.equal('too-large');
  });

  it('are refused by their length alone, before any payload has come', () => {
    for (const [size, header] of [
      [2, 'ffff'],
      [4, 'ffffffff'],
      [8, 'ffffffffffffffff'],
      [8, '0020000000000000'], // 2^53
      [8, '0020000000000001'], // 2^53 + 1, which a double cannot tell from 2^53
    ] as const) {
      const decoder = new FrameDecoder(size, size === 2 ? 0xfffe : size === 4 ? 0xfffffffe : Number.MAX_SAFE_INTEGER);
      decoder.push(Buffer.from(header, 'hex'));
      expect(decoder.next(), header).to.equal('too-large');
    }
  });

  it('reserve no memory for a length that was only announced', () => {
    const decoders = Array.from({ length: 1000 }, () => {
      const decoder = new FrameDecoder(4, 0xffffffff);
      decoder.push(Buffer.from('7fffffff0102', 'hex'));
      decoder.next();
      return decoder;
    });
    expect(process.memoryUsage().arrayBuffers).to.be.below(256 * 2 ** 20);
    expect(decoders.every((decoder) => decoder.isMidFrame && decoder.bufferedBytes === 6)).to.equal(true);
  });

  it('survive any bytes: every stream is frames, unfinished, or too large', () => {
    fc.assert(
      fc.property(lengthFieldSizes, fc.array(fc.uint8Array({ maxLength: 64 })), (size, chunks) => {
        const decoder = new FrameDecoder(size, 1000);
        const { frames } = decodeAll(
          decoder,
          chunks.map((chunk) => Buffer.from(chunk)),
        );
        const framed = frames.reduce((sum, frame) => sum + frame.length + size, 0);
        const total = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
        if (decoder.next() === 'incomplete') expect(framed + decoder.bufferedBytes).to.equal(total);
        else expect(framed).to.be.below(total);
      }),
    );
  });

  it('write lengths big-endian in 2, 4 and 8 bytes', () => {
    expect(encodeFrame(Buffer.alloc(258), 2).subarray(0, 2).toString('hex')).to.equal('0102');
    expect(encodeFrame(Buffer.alloc(258), 4).subarray(0, 4).toString('hex')).to.equal('00000102');
    expect(encodeFrame(Buffer.alloc(258), 8).subarray(0, 8).toString('hex')).to.equal('0000000000000102');
    expect(emptyFrame(8)).to.deep.equal(Buffer.alloc(8));
  });

  it('that do not fit the length field are refused by the encoder', () => {
    expect(() => encodeFrame(Buffer.alloc(0x10000), 2)).to.throw(RangeError, 'length field of 2 bytes');
    expect(maxFrameLength(8)).to.equal(Number.MAX_SAFE_INTEGER);
  });
});
