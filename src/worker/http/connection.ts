// One client's connection in HTTP/1.1. Node's parser reads the requests and keeps the answers in their order; here is what
// concerns the connection as a whole: how much it holds, how long it takes, and how it ends.
//
//   open ──▶ draining ──▶ lingering ──▶ closed     draining: each request is answered, and the last answer says that
//    └──────────▲────────────▲                     the connection closes. lingering: all is answered, and the client
//                                                  must close its side. The socket may close in each.
//
// Guarantees: every request that was read is answered, unless an answer before it has said that the connection closes;
// nothing grows without bound. When too much waits, the socket is paused, and TCP slows the client down.

import type { Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { WorkerCounter } from '../../metrics/recorder.js';
import { unsentBytes } from '../../net/raw-handle.js';
import { lingeringClose } from '../connections/lingering-close.js';
import type { CallClient, CallListener, ClientCalls } from '../oip/service.js';
import type { ServedConnection } from '../protocols.js';
import type { HttpClientOptions, HttpContext } from './context.js';
import { Exchange, type ExchangeOwner } from './exchange.js';
import type { JsonCodec } from './json/codec.js';
import { malformed, type Refusal, rawRefusal } from './refusal.js';
import type { HttpRequest } from './request.js';

type CloseReason = Extract<WorkerCounter, `closedBy${string}`>;
type Pause = Extract<WorkerCounter, `pausedBy${string}`>;

/**
 * How long a connection that drains waits for a request that may be on its way: the answer then says that the connection
 * closes, and no request meets a closed one.
 */
const drainGraceMs = 500;
/** What a request takes in memory besides its body. */
const exchangeBytes = 4096;

const served = Symbol('the connection on this socket');
type Served = Duplex & { [served]?: HttpConnection };

export const connectionOn = (socket: Duplex): HttpConnection | null => (socket as Served)[served] ?? null;

export class HttpConnection implements CallClient, ServedConnection, ExchangeOwner {
  readonly calls: ClientCalls;
  readonly codec: JsonCodec;
  readonly context: HttpContext;
  readonly listener: CallListener;
  readonly #socket: Duplex & Partial<Pick<Socket, 'bytesRead' | 'bytesWritten'>>;
  readonly #server: Server<typeof HttpRequest>;
  readonly #onClose: () => void;
  #phase: 'open' | 'draining' | 'lingering' | 'closed' = 'open';
  #closeReason: CloseReason | null = null;
  /** Requests that were read, in part at least, and whose answers the socket has not taken. */
  #open = 0;
  /** Of them the last, to whose answer none follows yet. */
  #newest: Exchange | null = null;
  /** Of them the one whose body is not complete. */
  #reading: Exchange | null = null;
  /** Requests that wait for others of this client to be answered. */
  readonly #waiting: Exchange[] = [];
  /** Answers that are encoded and not counted yet. */
  #encoded: Exchange[] = [];
  /** A request or an answer says that the connection closes: what the client sends after it is not answered. */
  #takesNoMore = false;
  /** What is answered after all requests, to bytes that are none. */
  #lastRefusal: Refusal | null = null;
  #pausedBy: Pause | null = null;
  #bodyBytes = 0;
  #answerBytes = 0;
  #hasRead = false;
  #activeAt = performance.now();
  /** All bytes that were counted. */
  #countedRead = 0;
  #countedWritten = 0;
  /** What had come when no request was open, and since when there has been more: the beginning of a head. */
  #readWhenIdle = 0;
  #headBegunAt = 0;
  /** How many bytes the client's side had taken, and when that was seen. */
  #taken = 0;
  #takenAt = 0;
  #grace: NodeJS.Timeout | undefined;

  constructor(
    socket: Duplex,
    server: Server<typeof HttpRequest>,
    codec: JsonCodec,
    context: HttpContext,
    { listener, address, onClose }: HttpClientOptions,
  ) {
    this.#socket = socket;
    this.#server = server;
    this.codec = codec;
    this.context = context;
    this.listener = listener;
    this.#onClose = onClose;
    this.calls = context.service.connect(this, address, listener, 'http');
    (socket as Served)[served] = this;
    socket.on('error', ({ code }: NodeJS.ErrnoException) => {
      this.#closeReason ??= code === 'ETIMEDOUT' ? 'closedByKeepAlive' : 'closedByError';
    });
    socket.once('close', this.#onSocketClose);
    // What Node calls after an answer that closes: without reading on, the client might lose that answer.
    (socket as Socket).destroySoon = () => this.end();
  }

  /** Begins to read. */
  start(): void {
    const socket = this.#socket;
    this.#server.emit('connection', socket);
    // The parser resumes the socket by itself, whenever a request is complete.
    socket.on('resume', () => {
      if (this.#pausedBy !== null && this.#isServing) socket.pause();
    });
    socket.resume();
  }

  /** Requests that wait for their answers. */
  get inFlight(): number {
    return this.calls.inFlight;
  }

  get activeAt(): number {
    return this.#activeAt;
  }

  drain(): void {
    if (this.#phase !== 'open') return;
    this.#phase = 'draining';
    this.#closeReason ??= 'closedByDrain';
    if (this.#open === 0) this.#closeAfterGrace();
  }

  destroy(): void {
    this.#closeReason ??= 'closedByDrain';
    this.#socket.destroy();
  }

  /** The state of Node's parser cannot be sent to another worker. */
  readonly canMigrate = false;

  quiesce(): Promise<boolean> {
    return Promise.reject(new Error('connections in HTTP do not migrate'));
  }

  cancelMigration(): void {}

  detach(): never {
    throw new Error('connections in HTTP do not migrate');
  }

  resumeReading(): void {
    this.#hasRead = false;
    this.#updateReading();
  }

  endTurn(): void {
    if (!this.#hasRead && this.#isBodyOverdue(performance.now())) this.#timeOutBody();
    else this.#updateReading();
  }

  checkTimeouts(now: number): void {
    if (this.#isStuck(now)) {
      this.#closeReason ??= 'closedByWriteTimeout';
      this.#socket.destroy();
      return;
    }
    if (!this.#isServing) return;
    if (this.#reading !== null) {
      if (this.#pausedBy === null && this.#isBodyOverdue(now)) this.#timeOutBody();
    } else if (this.#open === 0) this.#checkIdle(now);
  }

  sendReplies(): void {
    const encoded = this.#encoded;
    this.#encoded = [];
    if (this.#phase === 'closed') return;
    if (encoded.length === 1) (encoded[0] as Exchange).send();
    else if (encoded.length > 1) {
      this.#socket.cork();
      for (const exchange of encoded) exchange.send();
      this.#socket.uncork();
    }
    // There are places again.
    while (this.#waiting.length > 0 && this.calls.places > 0) this.#waiting.shift()?.submit();
    this.#updateReading();
    if (this.#open === 0) this.#sendLastRefusal();
  }

  /** The head of a request has been read. */
  begin(request: HttpRequest, response: ServerResponse, expects: '100-continue' | 'other' | null): void {
    if (this.#takesNoMore || this.#lastRefusal !== null || !this.#isServing) return;
    this.#takesNoMore = !response.shouldKeepAlive;
    this.#activeAt = performance.now();
    this.#headBegunAt = 0;
    const exchange = new Exchange(this, request, response, this.#activeAt);
    this.#open++;
    this.#newest = exchange;
    this.#reading = exchange;
    exchange.begin(expects);
    if (this.#open > 1) this.#updateReading();
  }

  hold(bytes: number): boolean {
    if (bytes > 0) this.#hasRead = true;
    this.#bodyBytes += bytes;
    this.#updateReading();
    return this.#pausedBy === null;
  }

  endBody(): void {
    this.#reading = null;
    this.#activeAt = performance.now();
  }

  wait(exchange: Exchange): void {
    this.#waiting.push(exchange);
    this.#updateReading();
  }

  hasEncoded(exchange: Exchange): void {
    // `[one]` allocates room for one element; a push to an empty array allocates room for seventeen.
    if (this.#encoded.length > 0) this.#encoded.push(exchange);
    else this.#encoded = [exchange];
  }

  get isClosed(): boolean {
    return this.#phase === 'closed';
  }

  isLast(exchange: Exchange): boolean {
    return this.#phase === 'draining' && exchange === this.#newest;
  }

  hasAnswered(bytes: number, isLast: boolean): void {
    if (isLast) this.#takesNoMore = true;
    if (bytes === 0) return;
    this.#answerBytes += bytes;
    this.#updateReading();
  }

  hasFinished(exchange: Exchange, bytes: number): void {
    this.#open--;
    if (this.#newest === exchange) this.#newest = null;
    if (this.#phase === 'closed') return;
    this.#countBytes();
    this.#activeAt = performance.now();
    if (bytes > 0) this.#answerBytes -= bytes;
    if (bytes > 0 || this.#pausedBy !== null) this.#updateReading();
    if (this.#open > 0) return;
    this.#readWhenIdle = this.#socket.bytesRead ?? 0;
    this.#sendLastRefusal();
    if (this.#phase === 'draining' && !this.#takesNoMore) this.#closeAfterGrace();
  }

  /** What the client has sent is no HTTP: it is told so after the answers to what came before, and that is the end. */
  broken(refusal: Refusal): void {
    if (!this.#isServing || this.#lastRefusal !== null) return;
    if (this.#reading !== null) {
      this.#reading.refuse(refusal);
      return;
    }
    if (this.#takesNoMore) return;
    this.#lastRefusal = refusal;
    this.calls.refused('', { reason: 'MALFORMED', message: refusal.message, retryAfterMs: 0 }); // `sendReplies` follows
  }

  /** Closes the connection when the socket has taken all that was written. */
  end(lastBytes?: Buffer): void {
    if (!this.#isServing) return;
    this.#phase = 'lingering';
    lingeringClose(this.#socket, this.context.limits.payloadTimeoutMs, lastBytes);
  }

  closesBy(reason: CloseReason): void {
    this.#closeReason ??= reason;
  }

  #sendLastRefusal(): void {
    if (this.#lastRefusal !== null) this.end(rawRefusal(this.#lastRefusal));
  }

  get #isServing(): boolean {
    return this.#phase === 'open' || this.#phase === 'draining';
  }

  #isBodyOverdue(now: number): boolean {
    return this.#reading !== null && now - this.#reading.begunAt >= this.context.limits.payloadTimeoutMs;
  }

  #timeOutBody(): void {
    this.closesBy('closedByPayloadTimeout');
    this.#reading?.refuse(timedOut);
  }

  /** Without an open request: a head that takes too long, or silence. */
  #checkIdle(now: number): void {
    const { payloadTimeoutMs, idleTimeoutMs } = this.context.limits;
    if ((this.#socket.bytesRead ?? 0) !== this.#readWhenIdle) {
      if (this.#headBegunAt === 0) this.#headBegunAt = now;
      if (now - this.#headBegunAt < payloadTimeoutMs) return;
      this.closesBy('closedByPayloadTimeout');
      this.end(rawRefusal(timedOut));
    } else if (idleTimeoutMs > 0 && now - this.#activeAt >= idleTimeoutMs) {
      this.closesBy('closedByIdleTimeout');
      this.end();
    }
  }

  #closeAfterGrace(): void {
    clearTimeout(this.#grace);
    this.#grace = setTimeout(() => {
      // A request that has begun to come is answered.
      if (this.#open === 0 && (this.#socket.bytesRead ?? 0) === this.#readWhenIdle) this.end();
    }, drainGraceMs);
  }

  /** Whether the client has taken nothing for too long although bytes wait for it. */
  #isStuck(now: number): boolean {
    const unsent = this.#socket.writableLength === 0 ? 0 : unsentBytes(this.#socket);
    const taken = (this.#socket.bytesWritten ?? 0) - unsent;
    if (unsent === 0 || taken > this.#taken || this.#takenAt === 0) {
      this.#taken = taken;
      this.#takenAt = now;
    }
    return now - this.#takenAt >= this.context.limits.writeTimeoutMs;
  }

  #updateReading(): void {
    if (!this.#isServing) return;
    const extra = Math.max(0, this.#open - 1) * exchangeBytes;
    const mayRead = this.calls.hold(this.#bodyBytes + this.#answerBytes + extra);
    const stop = this.#stop(mayRead);
    if (stop === this.#pausedBy) return;
    this.#pausedBy = stop;
    if (stop === null) this.#socket.resume();
    else {
      this.context.recorder.count(stop);
      this.#socket.pause();
    }
  }

  /** Why nothing more is read now; null: it may be. */
  #stop(mayRead: boolean): Pause | null {
    const { maxInFlight, maxWriteBufferBytes } = this.context.limits;
    if (this.#waiting.length > 0 || this.#open > maxInFlight) return 'pausedByInFlight';
    if (this.#answerBytes >= maxWriteBufferBytes) return 'pausedByWriteBuffer';
    return mayRead ? null : 'pausedByMemory';
  }

  #countBytes(): void {
    const { bytesRead = 0, bytesWritten = 0 } = this.#socket;
    this.context.recorder.count('bytesReceived', bytesRead - this.#countedRead);
    this.context.recorder.count('bytesSent', bytesWritten - this.#countedWritten);
    this.#countedRead = bytesRead;
    this.#countedWritten = bytesWritten;
  }

  readonly #onSocketClose = (): void => {
    const isTruncated = this.#reading !== null;
    this.#phase = 'closed';
    clearTimeout(this.#grace);
    this.calls.close();
    this.#countBytes();
    this.context.recorder.count(this.#closeReason ?? 'closedByClient');
    if (isTruncated) this.context.recorder.count('framesTruncated');
    this.#onClose();
  };
}

const timedOut: Refusal = {
  ...malformed(408, 'the request was begun and not finished in server.payloadTimeoutSeconds'),
  reason: 'PAYLOAD_TIMEOUT',
};
