// The replies of one connection on their way out: those that are counted and leave soon, and those that were written to
// the socket and may not have left it. Buffers that the kernel has taken go back to the pool.

import type { Duplex } from 'node:stream';
import { unsentBytes } from '../../net/raw-handle.js';
import type { BufferPool } from '../../protocol/buffer-pool.js';

interface Written {
  readonly bytes: Buffer;
  readonly isPooled: boolean;
}

export class ReplyWriter {
  readonly #socket: Duplex;
  readonly #pool: BufferPool;
  #leaving: Buffer[] = [];
  #leavingBytes = 0;
  /** Their last bytes are unsent. */
  #written: Written[] = [];
  #writtenBytes = 0;
  /** All bytes ever written, how many of them the client's side had taken, and when it took the last of these. */
  #sentBytes = 0;
  #takenBytes = 0;
  #takenAt = 0;

  constructor(socket: Duplex, pool: BufferPool) {
    this.#socket = socket;
    this.#pool = pool;
  }

  /** Bytes that wait to be written, or for the client to take them. */
  get bytes(): number {
    return this.#leavingBytes + this.#socket.writableLength;
  }

  /** Whether some have not been written to the socket yet. */
  get isLeaving(): boolean {
    return this.#leavingBytes > 0;
  }

  /** A buffer for replies, to be handed to `post`. */
  take(bytes: number): Buffer {
    return this.#pool.takeBriefly(bytes);
  }

  /** Keeps replies until `leave`. */
  post(replies: Buffer): void {
    this.#leavingBytes += replies.length;
    // `[one]` allocates room for one element; a push to an empty array allocates room for seventeen.
    if (this.#leaving.length > 0) this.#leaving.push(replies);
    else this.#leaving = [replies];
  }

  /** Writes what was posted, in one piece. */
  leave(): void {
    const leaving = this.#leaving;
    this.#leaving = [];
    this.#leavingBytes = 0;
    if (this.#socket.destroyed) return;
    const isJoined = leaving.length > 1;
    this.#write(isJoined ? Buffer.concat(leaving) : (leaving[0] as Buffer), !isJoined);
    if (isJoined) for (const bytes of leaving) this.#pool.give(bytes);
  }

  /** Writes replies that another worker made. */
  attach(unsent: Buffer): void {
    if (unsent.length > 0) this.#write(unsent, false);
  }

  /** The last `count` bytes that were written. */
  lastWritten(count: number): Buffer {
    const written = Buffer.concat(this.#written.map(({ bytes }) => bytes));
    return written.subarray(written.length - count);
  }

  /** Whether the client has taken nothing for `timeoutMs` although bytes wait for it; call it regularly. */
  isStuck(now: number, timeoutMs: number): boolean {
    const unsent = this.#socket.writableLength === 0 ? 0 : unsentBytes(this.#socket);
    const taken = this.#sentBytes - unsent;
    if (unsent === 0 || taken > this.#takenBytes || this.#takenAt === 0) {
      this.#takenBytes = taken;
      this.#takenAt = now;
    }
    return now - this.#takenAt >= timeoutMs;
  }

  /** @param isPooled whether the bytes go back to the pool when the kernel has taken them */
  #write(bytes: Buffer, isPooled: boolean): void {
    this.#socket.write(bytes);
    this.#sentBytes += bytes.length;
    const { writableLength } = this.#socket;
    if (writableLength === 0 && this.#writtenBytes === 0) {
      if (isPooled) this.#pool.give(bytes);
      return;
    }
    this.#writtenBytes += bytes.length;
    this.#written.push({ bytes, isPooled });
    for (;;) {
      const [first] = this.#written;
      if (first === undefined || this.#writtenBytes - first.bytes.length < writableLength) return;
      this.#written.shift();
      this.#writtenBytes -= first.bytes.length;
      if (first.isPooled) this.#pool.give(first.bytes);
    }
  }
}
