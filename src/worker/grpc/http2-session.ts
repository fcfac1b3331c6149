// A GrpcSession on node:http2. Node's nghttp2 reads and writes the frames; this makes calls of its streams and keeps the
// limits that it leaves to its user.
//
//   'stream' ─▶ opened() ─▶ 'data' ─▶ MessageReader ─▶ (unpack) ─▶ handler.message()
//                                         call.end() ─▶ HEADERS, DATA … 'wantTrailers' ─▶ HEADERS with the status
//
// Attacks, and who stands against them: nghttp2 ends floods of CONTINUATION, and of PING and SETTINGS whose answers are
// not taken; Node ends floods of empty DATA frames and of headers, with the limits below; resets, half requests, windows
// that stay closed and memory are bounded here. nghttp2 has a limit of resets as well, but like every end that it calls
// itself (GOAWAY for too many settings), Node does not hear of it: the connection would stay, deaf. Connections that are
// silent are asked for a sign of life therefore.

import {
  constants,
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Socket } from 'node:net';
import { setReading } from '../../net/raw-handle.js';
import type { CallFailure } from '../oip/service.js';
import {
  acceptedEncodings,
  accepts,
  type Encoding,
  isEncoding,
  pack,
  unpack,
  worthCompressing,
} from './compression.js';
import { frameOf, MessageReader, prefixBytes } from './messages.js';
import { failed, statusOf, trailersOf } from './status.js';
import type { CallHandler, CallStatus, GrpcCall, GrpcSession, SessionHandler } from './transport.js';

export interface SessionLimits {
  readonly maxMessageBytes: number;
  /** Calls that a client may have open at once. */
  readonly maxCalls: number;
  readonly maxHeaderBytes: number;
}

/** A request that is not gRPC. */
export type RequestListener = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void;

/** Of a reply that is taken piece by piece, so that it can be seen whether the client takes it. */
const pieceBytes = 65_536;

/**
 * Calls that a client may give up, or that break the protocol: so many at once, and so many a second. Those of a client
 * whose server is too slow for it are fewer; nghttp2 goes deaf at 1,000 and 33.
 */
const maxResets = 900;
const resetsPerSecond = 30;

/**
 * What a client may send of a call, and of all, before it hears from us: enough for a network with long ways. Memory is
 * not bounded by these, but by not reading.
 */
const streamWindowBytes = 1 << 20;
const connectionWindowBytes = 4 << 20;

/** What Node may spend on one connection. */
const nodeLimits = {
  /** MB for streams, headers and frames that wait; more streams are refused. */
  maxSessionMemory: 10,
  maxHeaderListPairs: 128,
  /** In one SETTINGS frame. */
  maxSettings: 32,
  maxOutstandingPings: 10,
  maxOutstandingSettings: 10,
  /** Frames that make no sense, empty DATA among them, in the life of a connection. */
  maxSessionInvalidFrames: 1000,
  maxDeflateDynamicTableSize: 4096,
};

const okHeaders = { ':status': 200, 'content-type': 'application/grpc', 'grpc-accept-encoding': acceptedEncodings };
const okTrailers = { 'grpc-status': '0' };
const withTrailers = { waitForTrailers: true, sendDate: false };
const withoutBody = { endStream: true, sendDate: false };

const callOf = Symbol('call');
type CallStream = ServerHttp2Stream & { [callOf]: Http2Call };

/** Begins the session of a socket that is to speak HTTP/2; what was read of it already must be unshifted. */
export class Http2Session implements GrpcSession {
  readonly limits: SessionLimits;
  readonly #session: ServerHttp2Session;
  readonly #socket: Socket;
  readonly #handler: SessionHandler;
  readonly #onRequest: RequestListener;
  readonly #calls = new Set<Http2Call>();
  /** Requests that are not gRPC. */
  #requests = 0;
  heldBytes = 0;
  #isReading = true;
  /** How many calls may be reset now, as of `#resetsAt`. */
  #resetsLeft = maxResets;
  #resetsAt = 0;
  /** When something came last. */
  #heardAt = performance.now();
  /** Whether it has been asked since for a sign of life. */
  #isAsked = false;
  #bytesRead = 0;
  #waitingCalls = 0;
  #error: Error | null = null;
  /** Since when answers wait without the client taking any of them; 0: none wait. */
  #stuckSince = 0;
  #bytesWritten = 0;
  activeAt = performance.now();

  constructor(socket: Socket, limits: SessionLimits, handler: SessionHandler, onRequest: RequestListener) {
    this.limits = limits;
    this.#socket = socket;
    this.#handler = handler;
    this.#onRequest = onRequest;
    const session = performServerHandshake(socket, {
      ...nodeLimits,
      maxSessionRejectedStreams: limits.maxCalls,
      settings: {
        maxConcurrentStreams: limits.maxCalls,
        maxHeaderListSize: limits.maxHeaderBytes,
        initialWindowSize: streamWindowBytes,
        maxFrameSize: 16_384,
        headerTableSize: 4096,
      },
    });
    this.#session = session;
    session.setLocalWindowSize(connectionWindowBytes);
    session.on('stream', this.#onStream);
    session.on('error', (error: Error) => {
      this.#error ??= error;
    });
    session.once('close', () => handler.closed(this.#error));
    // The socket may be half open, which no client of HTTP/2 makes use of.
    socket.once('end', () => session.destroy());
  }

  /** As of now; called regularly. */
  stuckFor(now: number): number {
    if (this.#waitingCalls === 0) return 0;
    // Of many long answers at once, none may become whole for long.
    const { bytesWritten } = this.#socket;
    if (bytesWritten - this.#bytesWritten >= pieceBytes) {
      this.#bytesWritten = bytesWritten;
      this.progressed();
    }
    return Math.max(0, now - this.#stuckSince);
  }

  get openCalls(): number {
    return this.#calls.size + this.#requests;
  }

  get openRequests(): number {
    return this.#requests;
  }

  start(): void {
    setReading(this.#socket, true);
  }

  setReading(isReading: boolean): void {
    if (isReading === this.#isReading) return;
    this.#isReading = isReading;
    setReading(this.#socket, isReading);
  }

  refuseSlow(before: number, isSure: boolean): void {
    const isDue = this.#isReading || isSure;
    for (const call of this.#calls) {
      if (isDue && call.begunAt > 0 && call.begunAt < before) call.refuseSlow();
      else call.resetIfEnded();
    }
  }

  close(): void {
    if (!this.#session.destroyed) this.#session.close();
  }

  destroy(): void {
    this.#session.destroy();
    this.#socket.destroy();
  }

  /** Bytes more that a call holds. */
  hold(bytes: number): void {
    this.heldBytes += bytes;
    this.#handler.heldChanged();
  }

  isDeaf(now: number, silenceMs: number): boolean {
    const { bytesRead } = this.#socket;
    if (bytesRead !== this.#bytesRead || !this.#isReading) {
      this.#bytesRead = bytesRead;
      this.#heardAt = now;
      this.#isAsked = false;
    } else {
      // nghttp2 does not read on after an end that it has called: we would not hear that the client has closed.
      setReading(this.#socket, true);
    }
    const silentMs = now - this.#heardAt;
    if (silentMs >= silenceMs && !this.#isAsked && !this.#session.destroyed) {
      this.#isAsked = true;
      this.#session.ping(ignore);
    }
    return silentMs >= 2 * silenceMs;
  }

  /** A call was reset, by the client or by us. */
  wasReset(): void {
    const now = performance.now();
    const regained = ((now - this.#resetsAt) / 1000) * resetsPerSecond;
    this.#resetsLeft = Math.min(maxResets, this.#resetsLeft + regained) - 1;
    this.#resetsAt = now;
    if (this.#resetsLeft >= 0 || this.#session.destroyed) return;
    const error = Object.assign(new Error('too many calls were reset'), { code: 'ERR_HTTP2_TOO_MANY_RESETS' });
    this.#session.destroy(error, constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }

  /** A call more waits for its client to take something, or less. */
  waits(isWaiting: boolean): void {
    this.#waitingCalls += isWaiting ? 1 : -1;
    if (this.#waitingCalls === 0) this.#stuckSince = 0;
    else if (this.#waitingCalls === 1 && isWaiting) this.#stuckSince = performance.now();
  }

  /** The client has taken something. */
  progressed(): void {
    this.activeAt = performance.now();
    if (this.#stuckSince > 0) this.#stuckSince = this.activeAt;
  }

  forget(call: Http2Call): void {
    this.#calls.delete(call);
  }

  readonly #onStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void => {
    const type = headers['content-type'];
    if (type === undefined || !isGrpc(type)) {
      this.#requests++;
      stream.once('close', () => {
        this.#requests--;
        this.activeAt = performance.now();
        if (stream.rstCode !== constants.NGHTTP2_NO_ERROR) this.wasReset();
      });
      this.#onRequest(stream, headers);
      return;
    }
    const call = new Http2Call(stream, headers, this);
    this.#calls.add(call);
    call.begin(this.#handler);
  };
}

const isGrpc = (type: string): boolean =>
  type === 'application/grpc' || type.startsWith('application/grpc+') || type.startsWith('application/grpc;');

class Http2Call implements GrpcCall {
  readonly openedAt: number;
  readonly #stream: ServerHttp2Stream;
  readonly #headers: IncomingHttpHeaders;
  readonly #session: Http2Session;
  readonly #reader: MessageReader;
  #handler: CallHandler | null = null;
  /** How the client packs its messages. */
  #encoding: Encoding | null = null;
  /** How ours are packed. */
  #replyEncoding: Encoding | null = null;
  /** When the message that is not whole began; 0: there is none. */
  begunAt: number;
  #held = 0;
  #unsentBytes = 0;
  #isPaused = false;
  /** Messages that are being unpacked. */
  #unpacking = 0;
  /** Messages that are being packed: the end waits for them. */
  #packing = 0;
  #isInputOver = false;
  #isFinishTold = false;
  /** How it ends, as soon as that is known. */
  #status: CallStatus | null = null;
  /** Whether its client has to take something: bytes of messages, or the end. */
  #isWaiting = false;
  #isClosed = false;
  /** Whether its end was handed to Node; and whether that was so before. */
  #isSaid = false;
  #wasSaid = false;

  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, session: Http2Session) {
    this.#stream = stream;
    this.#headers = headers;
    this.#session = session;
    this.openedAt = this.begunAt = performance.now();
    this.#reader = new MessageReader(session.limits.maxMessageBytes);
  }

  get path(): string {
    return this.#headers[':path'] as string;
  }

  header(name: string): string | undefined {
    return this.#headers[name] as string | undefined;
  }

  begin(session: SessionHandler): void {
    const stream = this.#stream as CallStream;
    stream[callOf] = this;
    stream.on('error', ignore);
    stream.on('close', onClose);
    stream.on('wantTrailers', onWantTrailers);
    this.#session.activeAt = this.openedAt;
    if (this.#agreeOnEncodings()) this.#handler = session.opened(this);
    if (this.#status !== null) return;
    if (this.#handler?.mayIdle === true) this.begunAt = 0;
    stream.on('data', onData);
    stream.on('end', onEnd);
  }

  pause(): void {
    this.#isPaused = true;
    this.#stream.pause();
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#stream.resume();
    this.#read();
  }

  send(frame: Buffer): void {
    if (this.#status !== null || this.#isClosed) return;
    this.#pack(frame, (packed) => {
      this.#write(packed);
      if (this.#status !== null) this.#finish(undefined);
    });
  }

  end(status: CallStatus, frame?: Buffer): void {
    if (this.#status !== null || this.#isClosed) return;
    this.#status = status;
    this.begunAt = 0;
    if (frame === undefined) this.#finish(undefined);
    else this.#pack(frame, (packed) => this.#finish(packed));
  }

  /** Its message did not become whole in time. */
  refuseSlow(): void {
    this.#refuse({ reason: 'MALFORMED', message: 'the message took too long to become whole', retryAfterMs: 0 });
  }

  /**
   * Tells a client that it need not send the rest of a call that has ended; called regularly. Most do not: the end tells
   * them. A reset at once would overtake it (Node 26).
   */
  resetIfEnded(): void {
    if (!this.#isSaid || this.#isInputOver) return;
    if (this.#wasSaid) this.#stream.close(constants.NGHTTP2_NO_ERROR);
    this.#wasSaid = true;
  }

  data(chunk: Buffer): void {
    if (this.#status !== null) return;
    this.#session.activeAt = performance.now();
    this.#reader.push(chunk);
    this.#read();
  }

  inputEnded(): void {
    this.#isInputOver = true;
    this.#read();
  }

  wantTrailers(): void {
    const { destroyed, closed } = this.#stream;
    if (destroyed || closed) return;
    const status = this.#status as CallStatus;
    this.#isSaid = true;
    this.#stream.sendTrailers(status.code === 0 ? okTrailers : trailersOf(status));
    this.#taken(this.#unsentBytes);
  }

  closed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#session.forget(this);
    if (this.#stream.rstCode === constants.NGHTTP2_NO_ERROR) this.#session.progressed();
    else this.#session.wasReset();
    this.#session.hold(-this.#held - this.#unsentBytes);
    this.#held = this.#unsentBytes = 0;
    this.#setWaiting(false);
    if (this.#status === null) this.#handler?.cancelled();
  }

  /** False: the call was ended, since we do not know how its messages are packed. */
  #agreeOnEncodings(): boolean {
    const encoding = this.header('grpc-encoding');
    if (encoding === undefined || encoding === 'identity') return true;
    if (!isEncoding(encoding)) {
      this.end(failed('UNIMPLEMENTED', `grpc-encoding should be one of ${acceptedEncodings}`));
      return false;
    }
    this.#encoding = encoding;
    if (accepts(this.header('grpc-accept-encoding'), encoding)) this.#replyEncoding = encoding;
    return true;
  }

  /** Passes on the messages that have come whole. */
  #read(): void {
    const reader = this.#reader;
    while (!this.#isPaused && this.#unpacking === 0 && this.#status === null) {
      const found = reader.next();
      if (found === 'incomplete') break;
      if (found === 'too-large') {
        const kib = Math.floor(this.#session.limits.maxMessageBytes / 1024);
        const message = `a message should have ${kib} KiB at most, and has ${reader.announcedBytes} bytes`;
        this.#refuse({ reason: 'PAYLOAD_TOO_LARGE', message, retryAfterMs: 0 });
      } else if (found === 'malformed')
        this.#refuse(malformed('the flag of a message should be 0, or 1 for a compressed one'));
      else if (reader.isCompressed) this.#unpack(reader.source.subarray(reader.start, reader.end));
      else this.#handler?.message(reader.source, reader.start, reader.end);
    }
    reader.retain();
    const held = this.#status === null ? reader.heldBytes : 0;
    if (held !== this.#held) {
      this.#session.hold(held - this.#held);
      this.#held = held;
    }
    this.#noteBegin(held);
    if (this.#isInputOver && !this.#isPaused && this.#unpacking === 0) this.#inputDone(held);
  }

  /** Notes since when a message is not whole; the first one is awaited from the beginning of the call. */
  #noteBegin(held: number): void {
    if (this.#status !== null || this.#isPaused || this.#unpacking > 0 || this.#isInputOver) this.begunAt = 0;
    else if (held === 0) this.begunAt = 0;
    else if (this.begunAt === 0) this.begunAt = performance.now();
  }

  #inputDone(held: number): void {
    if (this.#isFinishTold || this.#status !== null) return;
    this.#isFinishTold = true;
    if (held > 0) this.#refuse(malformed(`the call ends ${held} bytes into a message`));
    else this.#handler?.finished();
  }

  #refuse(failure: CallFailure): void {
    this.#handler?.refused(failure);
    this.end(statusOf(failure)); // in case that the handler has not
  }

  #unpack(message: Buffer): void {
    const { maxMessageBytes } = this.#session.limits;
    if (this.#encoding === null) {
      this.#refuse(malformed('a message is compressed, and there is no grpc-encoding'));
      return;
    }
    let isNow = true;
    this.#unpacking++;
    this.#session.hold(message.length);
    unpack(this.#encoding, message, maxMessageBytes, (unpacked, isTooLarge) => {
      this.#unpacking--;
      this.#session.hold(-message.length);
      if (this.#isClosed || this.#status !== null) return;
      if (unpacked !== null) this.#handler?.message(unpacked, 0, unpacked.length);
      else if (isTooLarge) {
        const kib = Math.floor(maxMessageBytes / 1024);
        const text = `a message should have ${kib} KiB at most, and has more when it is unpacked`;
        this.#refuse({ reason: 'PAYLOAD_TOO_LARGE', message: text, retryAfterMs: 0 });
      } else this.#refuse(malformed(`a message is not what ${this.#encoding} makes`));
      if (!isNow) this.#read();
    });
    isNow = false;
  }

  #pack(frame: Buffer, then: (frame: Buffer) => void): void {
    const encoding = this.#replyEncoding;
    if (encoding === null || frame.length < worthCompressing) {
      then(frame);
      return;
    }
    this.#session.hold(frame.length);
    this.#packing++;
    pack(encoding, frame.subarray(prefixBytes), (packed) => {
      this.#session.hold(-frame.length);
      this.#packing--;
      if (!this.#isClosed) then(packed === null ? frame : frameOf(packed, true));
    });
  }

  #setWaiting(isWaiting: boolean): void {
    if (isWaiting === this.#isWaiting) return;
    this.#isWaiting = isWaiting;
    this.#session.waits(isWaiting);
  }

  #respond(): void {
    const encoding = this.#replyEncoding;
    this.#stream.respond(encoding === null ? okHeaders : { ...okHeaders, 'grpc-encoding': encoding }, withTrailers);
  }

  #hold(frame: Buffer): void {
    this.#unsentBytes += frame.length;
    this.#session.hold(frame.length);
    this.#setWaiting(true);
  }

  /** The client has taken bytes of our messages. */
  #taken(bytes: number): void {
    this.#unsentBytes -= bytes;
    this.#session.hold(-bytes);
    this.#session.progressed();
    if (this.#unsentBytes === 0 && this.#status === null) this.#setWaiting(false);
  }

  #write(frame: Buffer): void {
    const stream = this.#stream;
    if (this.#isClosed || stream.destroyed || stream.closed) return;
    if (!stream.headersSent) this.#respond();
    this.#hold(frame);
    for (let at = 0; at < frame.length; at += pieceBytes) {
      const piece = frame.subarray(at, at + pieceBytes);
      stream.write(piece, () => {
        if (!this.#isClosed) this.#taken(piece.length);
      });
    }
  }

  #finish(frame: Buffer | undefined): void {
    const stream = this.#stream;
    if (this.#isClosed || stream.destroyed || stream.closed) return;
    if (this.#packing > 0) {
      if (frame !== undefined) this.#write(frame);
      return;
    }
    this.#setWaiting(true);
    if (frame === undefined && !stream.headersSent) {
      stream.respond(
        { ':status': 200, 'content-type': 'application/grpc', ...trailersOf(this.#status as CallStatus) },
        withoutBody,
      );
      this.#isSaid = true;
      stream.resume();
    } else if (frame !== undefined && frame.length <= pieceBytes && !stream.headersSent) {
      this.#respond();
      this.#hold(frame);
      stream.end(frame);
    } else {
      if (frame !== undefined) this.#write(frame);
      stream.end();
    }
  }
}

const malformed = (message: string): CallFailure => ({ reason: 'MALFORMED', message, retryAfterMs: 0 });

const ignore = (): void => {};

function onData(this: CallStream, chunk: Buffer): void {
  this[callOf].data(chunk);
}

function onEnd(this: CallStream): void {
  this[callOf].inputEnded();
}

function onClose(this: CallStream): void {
  this[callOf].closed();
}

function onWantTrailers(this: CallStream): void {
  this[callOf].wantTrailers();
}
