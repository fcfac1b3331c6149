// Bytes for the frame decoder: whatever they are and however they are cut, it finds the frames that a plain reading of
// the whole finds, and memory that it shares with others never shows through.

import { BufferPool } from '../../dist/protocol/buffer-pool.js';
import { FrameDecoder } from '../../dist/protocol/frames.js';

const maxPayloadBytes = 8192;
const pool = new BufferPool(1 << 20);

/** The frames of `bytes`, read in one go, and how they end. */
function plainly(bytes, size) {
  const frames = [];
  let at = 0;
  for (;;) {
    if (bytes.length - at < size) return { frames, end: 'incomplete' };
    let length = 0;
    for (let i = 0; i < size; i++) length = length * 256 + bytes[at + i];
    if (length > maxPayloadBytes) return { frames, end: 'too-large' };
    if (bytes.length - at - size < length) return { frames, end: 'incomplete' };
    frames.push(bytes.subarray(at + size, at + size + length));
    at += size + length;
  }
}

export function fuzz(data) {
  if (data.length < 3) return;
  const size = [2, 4, 8][data[0] % 3];
  const cutEvery = 1 + data[1] * (data[2] & 15);
  // Like a connection that may not take more for now: the rest is pulled later.
  const pulls = data[2] >> 4 || Number.POSITIVE_INFINITY;
  const bytes = data.subarray(3);
  const decoder = new FrameDecoder(size, maxPayloadBytes, pool);
  const frames = [];
  let end = 'incomplete';
  const pull = (most) => {
    for (let i = 0; i < most; i++) {
      end = decoder.next();
      if (end !== 'frame') return;
      frames.push(Buffer.from(decoder.source.subarray(decoder.start, decoder.end)));
    }
  };
  for (let at = 0; at < bytes.length && end !== 'too-large'; at += cutEvery) {
    const chunk = Buffer.from(bytes.subarray(at, at + cutEvery));
    decoder.push(chunk);
    pull(pulls);
    decoder.retain();
    chunk.fill(0xdd);
  }
  pull(Number.POSITIVE_INFINITY);
  decoder.close();
  const wanted = plainly(bytes, size);
  const isSame =
    end === wanted.end &&
    frames.length === wanted.frames.length &&
    frames.every((frame, i) => frame.equals(wanted.frames[i]));
  if (!isSame) throw new Error(`frames differ: length field ${size}, cut every ${cutEvery} bytes`);
}

export const covers = (url) => url.includes('/dist/protocol/');
export const seeds = [
  Buffer.from('01000000000161000000026161', 'hex'),
  Buffer.from('000105000161', 'hex'),
  Buffer.from('020301000000000000000161', 'hex'),
];
