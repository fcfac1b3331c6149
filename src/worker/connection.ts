// One client's connection: bytes → requests → the open batch → replies in order → bytes.
//
//   'data' ─▶ decoder ─▶ decode(): submitted to the endpoint ─▶ … ─▶ encodeReplies() ─▶ sendReplies() ─▶ write
//
// Promises: every complete request gets exactly one reply, in order; nothing grows without bound. When too many
// requests are in flight, or replies wait for a client that does not read, decoding stops and the socket is paused:
// what the client sends then stays in the kernel, and TCP slows it down.
// Works on any duplex stream; it does not listen and knows no cluster. What 'data' brings is its own only until it
// returns: the next read, of any connection, may use the same memory.

import type { Duplex } from 'node:stream';
import { maxSecretBytes } from '../config/formats.js';
import type { ConnectionState } from '../ipc/connection-state.js';
import type { Recorder, WorkerCounter } from '../metrics/recorder.js';
import type { BufferPool } from '../protocol/buffer-pool.js';
import { emptyFrame, FrameDecoder, type LengthFieldSize } from '../protocol/frames.js';
import type { ModelEndpoint, SubmitStop } from '../serving/model-endpoint.js';
import type { RequestAccounting, RequestClient } from '../serving/request-accounting.js';
import type { RequestGroup } from '../serving/request-group.js';
import { farewell } from './farewell.js';
import { repliesSize, writeReplies } from './framed/reply-encoder.js';
import { Outflow } from './outflow.js';
import type { SharedSecret } from './shared-secret.js';

export interface ConnectionLimits {
  readonly lengthFieldSize: LengthFieldSize;
  readonly maxWriteBufferBytes: number;
  readonly payloadTimeoutMs: number;
  /** 0: none. */
  readonly idleTimeoutMs: number;
  readonly writeTimeoutMs: number;
}

/** What all connections of a worker share. */
export interface ConnectionContext {
  readonly limits: ConnectionLimits;
  readonly recorder: Recorder;
  /** Memory for frames that come in pieces, and for replies. */
  readonly pool: BufferPool;
  /** What the first frame must be; null: it is a request like the others. */
  readonly secret: SharedSecret | null;
}

type CloseReason = Extract<WorkerCounter, `closedBy${string}`>;
type PauseReason = Extract<WorkerCounter, `pausedBy${string}`>;
/** Why input is left for later. */
type Stop = PauseReason | SubmitStop;

export class Connection implements RequestClient {
  readonly #socket: Duplex;
  readonly #endpoint: ModelEndpoint;
  readonly #requests: RequestAccounting;
  readonly #limits: ConnectionLimits;
  readonly #recorder: Recorder;
  readonly #secret: SharedSecret | null;
  readonly #outflow: Outflow;
  readonly #onClose: (hasMoved: boolean) => void;
  readonly #decoder: FrameDecoder;
  /** No further input is taken: the client has ended, broken the protocol or run out of time, or we drain. */
  #isInputOver = false;
  #isClosed = false;
  #isSayingFarewell = false;
  /** Set while the connection is about to move: called when nothing is in flight any more, or when it is closed. */
  #onQuiet: ((isOpen: boolean) => void) | null = null;
  #hasMoved = false;
  #closeReason: CloseReason | null = null;
  #pausedBy: Stop | null = null;
  #isYielding = false;
  #isTrusted: boolean;
  readonly #openedAt = performance.now();
  #arrivedAt = 0;
  /** When the frame that is not whole yet was begun; 0 when there is none. */
  #frameBegunAt = 0;
  #activeAt = performance.now();
  /** Whether anything has come since it was last allowed to read. */
  #hasRead = false;

  /**
   * @param onClose told whether the connection goes on in another worker
   * @param moved the state of a connection that began in another worker
   */
  constructor(
    socket: Duplex,
    endpoint: ModelEndpoint,
    { limits, recorder, secret, pool }: ConnectionContext,
    onClose: (hasMoved: boolean) => void,
    moved: ConnectionState | null = null,
  ) {
    this.#socket = socket;
    this.#endpoint = endpoint;
    this.#limits = limits;
    this.#recorder = recorder;
    this.#secret = secret;
    this.#outflow = new Outflow(socket, pool);
    this.#isTrusted = moved?.isTrusted ?? secret === null;
    this.#onClose = onClose;
    const { maxPayloadBytes } = endpoint.limits;
    this.#decoder = new FrameDecoder(
      limits.lengthFieldSize,
      this.#isTrusted ? maxPayloadBytes : Math.min(maxPayloadBytes, maxSecretBytes),
      pool,
    );
    socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('drain', this.#onDrain);
    socket.on('error', ({ code }: NodeJS.ErrnoException) => {
      this.#closeReason ??= code === 'ETIMEDOUT' ? 'closedByKeepAlive' : 'closedByError';
    });
    socket.once('close', this.#onSocketClose);
    this.#requests = endpoint.connect(this);
    if (moved !== null) this.#adopt(moved);
  }

  #adopt({ unread, unsent, arrivedAt, frameBegunAt, activeAt }: ConnectionState): void {
    this.#arrivedAt = arrivedAt;
    this.#frameBegunAt = frameBegunAt;
    this.#activeAt = activeAt;
    if (unread.length > 0) this.#decoder.push(unread);
    this.#outflow.adopt(unsent);
  }

  /** Begins to read. */
  start(): void {
    this.#socket.resume();
    this.#advance();
  }

  /** Requests that wait for their replies. */
  get inFlight(): number {
    return this.#requests.inFlight;
  }

  /** When it last read something or answered something, by the monotonic clock. */
  get activeAt(): number {
    return this.#activeAt;
  }

  /** Takes no more input, answers what came in whole, and closes. */
  drain(): void {
    this.#finishInput('closedByDrain');
  }

  /** Cuts the connection; requests in flight are not answered. */
  destroy(): void {
    this.#closeReason ??= 'closedByDrain';
    this.#socket.destroy();
  }

  /** Whether it can go on in another worker: it is neither ending nor on its way already. */
  get canMove(): boolean {
    return !this.#isInputOver && this.#onQuiet === null;
  }

  /**
   * Takes no more requests; what the socket has read already is kept for the other worker. Resolves when all that was
   * taken is answered and written: to true, or to false when the connection has closed before.
   */
  quiesce(): Promise<boolean> {
    return new Promise((resolve) => {
      this.#onQuiet = resolve;
      this.#socket.pause();
      while (this.#socket.readableLength > 0) this.#socket.read(); // each comes as 'data'
      this.#advance();
    });
  }

  /** Goes on as before `quiesce`. */
  stay(): void {
    this.#onQuiet = null;
    this.#pausedBy = null;
    if (!this.#isClosed) this.start();
  }

  /**
   * The connection goes on elsewhere; this end of it is closed without a word to the client.
   * @param unsentBytes how many bytes of replies, the last ones, the kernel has not taken
   */
  depart(unsentBytes: number): ConnectionState {
    const unsent = this.#outflow.lastWritten(unsentBytes);
    this.#hasMoved = true;
    this.#socket.destroy();
    return {
      unread: this.#decoder.unread(),
      unsent,
      arrivedAt: this.#arrivedAt,
      frameBegunAt: this.#frameBegunAt,
      activeAt: this.#activeAt,
      isTrusted: this.#isTrusted,
    };
  }

  resumeReading(): void {
    this.#hasRead = false;
    this.#advance();
  }

  /** Others wait for the memory that it holds: a slow sender that has nothing to say when it is asked has had its time. */
  endTurn(): void {
    if (!this.#hasRead && this.#isFrameOverdue(performance.now())) this.#finishInput('closedByPayloadTimeout');
    else this.#advance();
  }

  /** Enforces the time limits; to be called every so often with the monotonic clock. */
  checkTimeouts(now: number): void {
    if (this.#outflow.isStuck(now, this.#limits.writeTimeoutMs)) {
      this.#closeReason ??= 'closedByWriteTimeout';
      this.#socket.destroy();
      return;
    }
    if (!this.canMove) return;
    if (!this.#isTrusted && now - this.#openedAt >= this.#limits.payloadTimeoutMs) {
      this.#finishInput('closedBySecret');
    } else if (this.#pausedBy === null && this.#isFrameOverdue(now)) {
      this.#finishInput('closedByPayloadTimeout');
    } else if (
      this.#limits.idleTimeoutMs > 0 &&
      this.#frameBegunAt === 0 &&
      this.#requests.inFlight === 0 &&
      now - this.#activeAt >= this.#limits.idleTimeoutMs
    ) {
      this.#finishInput('closedByIdleTimeout');
    }
  }

  #isFrameOverdue(now: number): boolean {
    return this.#frameBegunAt > 0 && now - this.#frameBegunAt >= this.#limits.payloadTimeoutMs;
  }

  onAnswered(): void {
    this.#advance();
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.#isInputOver) return;
    this.#recorder.count('bytesReceived', chunk.length);
    this.#arrivedAt = this.#activeAt = performance.now();
    this.#hasRead = true;
    this.#decoder.push(chunk);
    this.#advance();
    this.#decoder.keep();
  };

  readonly #onEnd = (): void => this.#finishInput('closedByClient');

  readonly #onDrain = (): void => this.#advance();

  readonly #onSocketClose = (): void => {
    this.#isClosed = true;
    this.#isInputOver = true;
    this.#requests.close();
    if (this.#hasMoved) {
      this.#decoder.close();
      this.#onClose(true);
      return;
    }
    this.#recorder.count(this.#closeReason ?? 'closedByClient');
    if (this.#decoder.bufferedBytes > 0) this.#recorder.count('framesTruncated');
    this.#decoder.close();
    this.#onQuiet?.(false);
    this.#onClose(false);
  };

  #finishInput(reason: CloseReason): void {
    if (this.#isInputOver) return;
    this.#isInputOver = true;
    this.#closeReason ??= reason;
    this.#advance();
  }

  /** Why nothing more is taken now, beside memory. */
  #blockedBy(): PauseReason | null {
    if (this.#requests.places <= 0) return 'pausedByInFlight';
    if (this.#outflow.bytes < this.#limits.maxWriteBufferBytes) return null;
    // Only a stream that needs it announces 'drain', which is what lets us go on; so does the end of leaving.
    return this.#socket.writableNeedDrain || this.#outflow.isLeaving ? 'pausedByWriteBuffer' : null;
  }

  /** Whether all requests that were taken are answered and their replies written. */
  get #isQuiet(): boolean {
    return this.#requests.isEmpty && !this.#outflow.isLeaving;
  }

  /** Takes as much of the input as the limits allow, and closes when all of it is done. */
  #advance(): void {
    if (this.#isClosed || this.#isSayingFarewell) return;
    if (this.#onQuiet !== null) {
      this.#requests.answer();
      if (this.#isQuiet) this.#onQuiet(true);
      return;
    }
    let stop: Stop | null;
    let mayRead: boolean;
    do {
      stop = this.#isYielding ? 'turn' : this.#decode();
      this.#requests.answer();
      mayRead = this.#hold();
    } while (stop !== null && stop !== 'turn' && mayRead && this.#blockedBy() === null);
    if (stop === 'turn') this.#goOnNextTurn();
    if (this.#isInputOver) {
      if (stop === null && this.#isQuiet) this.#close();
    } else if (stop !== null) this.#pause(stop);
    else if (!mayRead) this.#pause('pausedByMemory');
    else if (this.#pausedBy !== null) this.#resume();
  }

  /** Others have their turn first. */
  #goOnNextTurn(): void {
    if (this.#isYielding) return;
    this.#isYielding = true;
    setImmediate(() => {
      this.#isYielding = false;
      this.#advance();
    });
  }

  /** Tells the budget what is held; false when nothing more may be read. */
  #hold(): boolean {
    return this.#requests.hold(this.#decoder.bufferedBytes + this.#outflow.bytes);
  }

  /** Counts once for each reason that the connection is paused for, one after the other. */
  #pause(reason: Stop): void {
    if (this.#pausedBy === reason) return;
    this.#pausedBy = reason;
    if (reason !== 'turn') this.#recorder.count(reason);
    this.#socket.pause();
  }

  #resume(): void {
    this.#pausedBy = null;
    this.#socket.resume();
  }

  /** Moves whole frames from the decoder to the model; returns what stopped it, or null when there are no more. */
  #decode(): Stop | null {
    const stop = this.#blockedBy();
    if (stop !== null || (!this.#isTrusted && !this.#readSecret())) return stop;
    const before = this.#requests.inFlight;
    const end = this.#endpoint.submit(this.#requests, this.#decoder, this.#arrivedAt);
    const hasTaken = this.#requests.inFlight > before;
    if (end === 'too-large') this.#refuseTooLarge();
    this.#watchFrame(hasTaken);
    return end === 'incomplete' || end === 'too-large' ? null : end;
  }

  /** The first frame must be the secret; with any other the connection ends. Returns whether it has come. */
  #readSecret(): boolean {
    const status = this.#decoder.next();
    const { source, start, end } = this.#decoder;
    if (status === 'frame' && this.#secret?.matches(source.subarray(start, end))) {
      this.#isTrusted = true;
      this.#decoder.maxPayloadBytes = this.#endpoint.limits.maxPayloadBytes;
      return true;
    }
    if (status === 'incomplete') {
      this.#watchFrame(false);
      return false;
    }
    this.#isInputOver = true;
    this.#closeReason = 'closedBySecret';
    this.#close(emptyFrame(this.#limits.lengthFieldSize));
    return false;
  }

  #watchFrame(hasMoved: boolean): void {
    if (!this.#decoder.isMidFrame) this.#frameBegunAt = 0;
    else if (hasMoved || this.#frameBegunAt === 0) this.#frameBegunAt = performance.now();
  }

  /** The frame counts as a request that was refused; its empty frame is the connection's last reply. */
  #refuseTooLarge(): void {
    if (this.#closeReason === 'closedByPayloadTooLarge') return;
    this.#isInputOver = true;
    this.#closeReason = 'closedByPayloadTooLarge';
    this.#endpoint.refuse(this.#requests, 'refusedPayloadTooLarge', this.#arrivedAt);
  }

  /** All in one piece. */
  encodeReplies(groups: readonly RequestGroup[], now: number): void {
    const { lengthFieldSize } = this.#limits;
    let size = 0;
    for (const group of groups) size += repliesSize(group, lengthFieldSize);
    const out = this.#outflow.take(size);
    let at = 0;
    for (const group of groups) {
      group.failed = writeReplies(group, out, at, lengthFieldSize);
      at += repliesSize(group, lengthFieldSize);
    }
    this.#recorder.count('bytesSent', size);
    this.#activeAt = now;
    this.#outflow.post(out);
  }

  sendReplies(): void {
    this.#outflow.leave();
    if (this.#isClosed) return;
    if (this.#pausedBy !== null || this.#isInputOver || this.#onQuiet !== null) this.#advance();
    else if (!this.#hold()) this.#pause('pausedByMemory');
  }

  #close(lastBytes?: Buffer): void {
    if (this.#isSayingFarewell) return;
    this.#isSayingFarewell = true;
    farewell(this.#socket, this.#limits.payloadTimeoutMs, lastBytes);
  }
}
