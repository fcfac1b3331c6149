// Bytes ⇄ frames. A frame is a big-endian unsigned length of 2, 4 or 8 bytes, then that many bytes of payload.
//
//   ┌ length ┬ payload ─────┐┌ length ┬ payload ──┐
//   │ 2|4|8  │ length bytes ││ 2|4|8  │ …         │
//
// The decoder is a cursor that its owner pulls: `push` hands it a chunk, `next` moves to the next whole frame. Pulling
// lets a connection stop between any two frames (too many in flight) and leave the rest where it is.
// A frame that lies inside one chunk is never copied: (source, start, end) point into the chunk. Only a frame that
// crosses chunks is gathered, in a buffer that grows with the bytes received: the length that a client announces
// reserves nothing. This module uses no sockets and no timers.

import { BufferPool } from './buffer-pool.js';

export type LengthFieldSize = 2 | 4 | 8;

/** The largest payload length that a field of this size can announce; for 8 bytes, the largest safe integer. */
export function maxFrameLength(lengthFieldSize: LengthFieldSize): number {
  return lengthFieldSize === 2 ? 0xffff : lengthFieldSize === 4 ? 0xffffffff : Number.MAX_SAFE_INTEGER;
}

/** Writes `length` at `at`, big-endian, and returns the offset after it. */
export function writeLength(out: Buffer, at: number, length: number, lengthFieldSize: LengthFieldSize): number {
  if (lengthFieldSize === 8) {
    out.writeUInt32BE(Math.floor(length / 0x1_0000_0000), at);
    at += 4;
  }
  if (lengthFieldSize !== 2) {
    out[at++] = length >>> 24;
    out[at++] = length >>> 16;
  }
  out[at++] = length >>> 8;
  out[at++] = length;
  return at;
}

/** One frame as bytes. Throws RangeError when the payload is longer than the length field can express. */
export function encodeFrame(payload: Uint8Array, lengthFieldSize: LengthFieldSize): Buffer {
  if (payload.length > maxFrameLength(lengthFieldSize)) {
    throw new RangeError(
      `a payload of ${payload.length} bytes does not fit a length field of ${lengthFieldSize} bytes`,
    );
  }
  const frame = Buffer.allocUnsafe(lengthFieldSize + payload.length);
  frame.set(payload, writeLength(frame, 0, payload.length, lengthFieldSize));
  return frame;
}

/** An empty frame: in this protocol, the reply to a request that failed. */
export function emptyFrame(lengthFieldSize: LengthFieldSize): Buffer {
  return Buffer.alloc(lengthFieldSize);
}

/** `incomplete`: more bytes are needed. `too-large`: the bytes are invalid, and the stream cannot continue. */
export type FrameStatus = 'frame' | 'incomplete' | 'too-large';

const nothing: Buffer = Buffer.alloc(0);
const noPool = new BufferPool(0);

export class FrameDecoder {
  /** After `next` returned `frame`: its payload is `source[start, end)`. */
  source: Buffer = nothing;
  start = 0;
  end = 0;

  /** A frame that announces more makes this and every later `next` return `too-large`. */
  maxPayloadBytes: number;
  readonly #lengthFieldSize: LengthFieldSize;
  #chunk: Buffer = nothing;
  #at = 0;
  #partial: Buffer = nothing;
  #partialLength = 0;
  /** The buffer of a gathered frame that `source` currently points to. */
  #lent: Buffer = nothing;
  #isBroken = false;
  #announcedBytes = 0;
  readonly #pool: BufferPool;

  /** @param pool for frames that arrive in pieces; by default no buffers are reused */
  constructor(lengthFieldSize: LengthFieldSize, maxPayloadBytes: number, pool: BufferPool = noPool) {
    this.#pool = pool;
    this.#lengthFieldSize = lengthFieldSize;
    this.maxPayloadBytes = maxPayloadBytes;
  }

  /** Takes the next bytes; `chunk` must not change before `retain`. */
  push(chunk: Buffer): void {
    this.#takeBack();
    const rest = this.#chunk.length - this.#at;
    this.#chunk = rest === 0 ? chunk : Buffer.concat([this.#chunk.subarray(this.#at), chunk]);
    this.#at = 0;
  }

  /** Copies what it still needs of the last chunk, so that the chunk and the last `source` may be reused. */
  retain(): void {
    this.#takeBack();
    if (this.#at === this.#chunk.length) this.#chunk = nothing;
    else this.#chunk = Buffer.concat([this.#chunk.subarray(this.#at)]);
    this.#at = 0;
  }

  /** Moves to the next whole frame, if there is one. */
  next(): FrameStatus {
    if (this.#isBroken) return 'too-large';
    if (this.#partialLength > 0) return this.#finishPartial();
    const begin = this.#at + this.#lengthFieldSize;
    const available = this.#chunk.length;
    if (begin > available) return this.#keepPartial();
    const length = this.#readLength(this.#chunk, this.#at);
    if (length > this.maxPayloadBytes) return this.#break(length);
    if (begin + length > available) return this.#keepPartial();
    this.source = this.#chunk;
    this.start = begin;
    this.end = begin + length;
    this.#at = this.end;
    return 'frame';
  }

  /** After `next` returned `too-large`: how many bytes the frame announced; infinite: 2^53 and more. */
  get announcedBytes(): number {
    return this.#announcedBytes;
  }

  /** Whether the bytes pulled so far end within a frame. */
  get isMidFrame(): boolean {
    return this.#partialLength > 0;
  }

  /** How many bytes of the incomplete frame are still to come, as far as that is known; 0 where none is. */
  get missingBytes(): number {
    const header = this.#lengthFieldSize;
    if (this.#partialLength < header) return 0;
    return header + this.#readLength(this.#partial, 0) - this.#partialLength;
  }

  /** How many buffered bytes have not been pulled yet. */
  get bufferedBytes(): number {
    return this.#partialLength + this.#chunk.length - this.#at;
  }

  /** To be called when no more bytes will arrive, or be pulled: returns the buffers to the pool. */
  close(): void {
    this.#takeBack();
    this.#pool.give(this.#partial);
    this.#partial = nothing;
    this.#partialLength = 0;
  }

  /** The bytes after the last frame, in order: another decoder needs them to continue in this one's place. */
  unread(): Buffer {
    return Buffer.concat([this.#partial.subarray(0, this.#partialLength), this.#chunk.subarray(this.#at)]);
  }

  #takeBack(): void {
    if (this.#lent === nothing) return;
    this.#pool.give(this.#lent);
    this.source = this.#lent = nothing;
  }

  #readLength(bytes: Buffer, at: number): number {
    if (this.#lengthFieldSize === 4) return bytes.readUInt32BE(at);
    if (this.#lengthFieldSize === 2) return bytes.readUInt16BE(at);
    const high = bytes.readUInt32BE(at);
    return high > 0x1f_ffff ? Number.POSITIVE_INFINITY : high * 0x1_0000_0000 + bytes.readUInt32BE(at + 4);
  }

  #break(length: number): FrameStatus {
    this.#isBroken = true;
    this.#announcedBytes = length;
    this.#chunk = this.#partial = nothing;
    this.#at = this.#partialLength = 0;
    return 'too-large';
  }

  /** Copies the incomplete frame out, so that a few waiting bytes do not keep a whole chunk in memory. */
  #keepPartial(): FrameStatus {
    const rest = this.#chunk.length - this.#at;
    if (rest > 0) this.#gather(rest);
    return 'incomplete';
  }

  #finishPartial(): FrameStatus {
    const header = this.#lengthFieldSize;
    this.#gatherUpTo(header);
    if (this.#partialLength < header) return 'incomplete';
    const length = this.#readLength(this.#partial, 0);
    if (length > this.maxPayloadBytes) return this.#break(length);
    this.#gatherUpTo(header + length);
    if (this.#partialLength < header + length) return 'incomplete';
    this.source = this.#lent = this.#partial;
    this.start = header;
    this.end = header + length;
    this.#partial = nothing;
    this.#partialLength = 0;
    return 'frame';
  }

  #gatherUpTo(wanted: number): void {
    const missing = Math.min(wanted - this.#partialLength, this.#chunk.length - this.#at);
    if (missing > 0) this.#gather(missing);
  }

  /** Moves `count` bytes from the chunk to the incomplete frame. Capacity doubles, so single bytes cost no more. */
  #gather(count: number): void {
    const length = this.#partialLength + count;
    if (length > this.#partial.length) {
      const grown = this.#pool.take(Math.max(length, 2 * this.#partial.length, 64));
      this.#partial.copy(grown, 0, 0, this.#partialLength);
      this.#pool.give(this.#partial);
      this.#partial = grown;
    }
    this.#chunk.copy(this.#partial, this.#partialLength, this.#at, this.#at + count);
    this.#partialLength = length;
    this.#at += count;
    if (this.#at === this.#chunk.length) {
      this.#chunk = nothing;
      this.#at = 0;
    }
  }
}
