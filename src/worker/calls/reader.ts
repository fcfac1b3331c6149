// Turns the bytes of one connection into calls, as many as may be in flight. The rest waits here, and so does an
// incomplete frame. Where there is a shared secret, the first call must have it.

import type { BufferPool } from '../../protocol/buffer-pool.js';
import { type Call, CallDecoder } from '../../protocol/calls/call.js';
import { FrameDecoder, type LengthFieldSize } from '../../protocol/frames.js';
import { InvalidMessage } from '../../protocol/invalid-message.js';
import type { FrameReader, ReadEnd, ReaderState } from '../framed/dialect.js';
import type { ClientCalls } from '../oip/service.js';

export interface CallReaderContext {
  readonly lengthFieldSize: LengthFieldSize;
  readonly maxPayloadBytes: number;
  readonly pool: BufferPool;
}

/** Who takes the calls. */
export interface CallTaker {
  trusts(call: Call): boolean;
  /** False: the call breaks the protocol. */
  take(call: Call, arrivedAt: number): boolean;
  refuse(reason: 'PAYLOAD_TOO_LARGE' | 'MALFORMED', message: string): void;
}

/**
 * How many calls one connection may make in a turn of the event loop, and their bytes: clients with few must not wait for
 * thousands.
 */
const maxCallsATurn = 256;
const maxBytesATurn = 32 * 1024;

export class CallReader implements FrameReader {
  readonly #calls: ClientCalls;
  readonly #taker: CallTaker;
  readonly #frames: FrameDecoder;
  readonly #decoder = new CallDecoder();
  /** What is wrong with the last call; empty: nothing. */
  #mistake = '';
  #isTrusted: boolean;
  #arrivedAt: number;
  #frameBegunAt: number;

  constructor(
    { lengthFieldSize, maxPayloadBytes, pool }: CallReaderContext,
    calls: ClientCalls,
    taker: CallTaker,
    { isTrusted, unread, arrivedAt = 0, frameBegunAt = 0 }: Partial<ReaderState> & Pick<ReaderState, 'isTrusted'>,
  ) {
    this.#calls = calls;
    this.#taker = taker;
    this.#isTrusted = isTrusted;
    this.#arrivedAt = arrivedAt;
    this.#frameBegunAt = frameBegunAt;
    this.#frames = new FrameDecoder(lengthFieldSize, maxPayloadBytes, pool);
    if (unread !== undefined && unread.length > 0) this.#frames.push(unread);
  }

  get isTrusted(): boolean {
    return this.#isTrusted;
  }

  get frameBegunAt(): number {
    return this.#frameBegunAt;
  }

  get bufferedBytes(): number {
    return this.#frames.bufferedBytes;
  }

  get missingBytes(): number {
    return this.#frames.missingBytes;
  }

  get state(): ReaderState {
    return {
      unread: this.#frames.unread(),
      arrivedAt: this.#arrivedAt,
      frameBegunAt: this.#frameBegunAt,
      isTrusted: this.#isTrusted,
    };
  }

  push(chunk: Buffer, now: number): void {
    this.#arrivedAt = now;
    this.#frames.push(chunk);
  }

  retain(): void {
    this.#frames.retain();
  }

  read(): ReadEnd {
    const frames = this.#frames;
    let taken = 0;
    let bytes = 0;
    if (this.#mistake !== '') return 'malformed';
    for (;;) {
      if (this.#calls.places <= 0) return this.#stopped('pausedByInFlight', taken);
      if (this.#calls.room <= 0) return this.#stopped('pausedByMemory', taken);
      if (taken >= maxCallsATurn || bytes >= maxBytesATurn)
        // A large call ends a turn; when nothing has come after it, there is nothing to wait with.
        return this.#stopped(frames.bufferedBytes === 0 ? 'incomplete' : 'turn', taken);
      const status = frames.next();
      if (status !== 'frame') return this.#stopped(status, taken);
      taken++;
      bytes += frames.end - frames.start;
      const end = this.#take();
      if (end !== null) return end;
    }
  }

  refuse(end: 'too-large' | 'malformed'): void {
    if (end === 'malformed') this.#taker.refuse('MALFORMED', this.#mistake);
    else this.#taker.refuse('PAYLOAD_TOO_LARGE', `a call may have ${this.#frames.maxPayloadBytes} bytes`);
  }

  close(): void {
    this.#frames.close();
  }

  /** Null: it was taken. */
  #take(): 'wrong-secret' | 'malformed' | null {
    const { source, start, end } = this.#frames;
    let call: Call;
    try {
      call = this.#decoder.decode(source, start, end);
    } catch (error) {
      if (!(error instanceof InvalidMessage)) throw error;
      this.#mistake = error.message;
      return this.#isTrusted ? 'malformed' : 'wrong-secret';
    }
    if (!this.#isTrusted) {
      if (!this.#taker.trusts(call)) return 'wrong-secret';
      this.#isTrusted = true;
    }
    if (this.#taker.take(call, this.#arrivedAt)) return null;
    this.#mistake = `call ${call.call} is in flight already: give each call a number of its own`;
    return 'malformed';
  }

  #stopped<End>(end: End, taken: number): End {
    if (!this.#frames.isMidFrame) this.#frameBegunAt = 0;
    else if (taken > 0 || this.#frameBegunAt === 0) this.#frameBegunAt = performance.now();
    return end;
  }
}
