// One client's connection: bytes → requests → the open batch → replies in order → bytes.
//
//   'data' ─▶ decoder ─▶ decode(): rows join the open batch as segments ─▶ … ─▶ onSettled() ─▶ flush() ─▶ write
//
// Promises: every complete request gets exactly one reply, in order; nothing grows without bound. When too many
// requests are in flight, or replies wait for a client that does not read, decoding stops and the socket is paused:
// what the client sends then stays in the kernel, and TCP slows it down.
// Works on any duplex stream; it does not listen and knows no cluster. What 'data' brings is its own only until it
// returns: the next read, of any connection, may use the same memory.

import type { Duplex } from 'node:stream';
import { maxSecretBytes } from '../config/formats.js';
import type { Batch } from '../inference/batch.js';
import type { Batcher } from '../inference/batcher.js';
import type { ConnectionState } from '../ipc/connection-state.js';
import type { ModelRecorder, Recorder, WorkerCounter } from '../metrics/recorder.js';
import type { BufferPool } from '../protocol/buffer-pool.js';
import { emptyFrame, FrameDecoder, type FrameStatus, type LengthFieldSize } from '../protocol/frames.js';
import { farewell } from './farewell.js';
import type { Holder, MemoryBudget } from './memory-budget.js';
import type { Outbox, Sender } from './outbox.js';
import { Outflow } from './outflow.js';
import { type Refusal, repliesSize, Segment, writeReplies } from './segment.js';
import type { SharedSecret } from './shared-secret.js';

export interface ConnectionLimits {
  readonly lengthFieldSize: LengthFieldSize;
  readonly maxPayloadBytes: number;
  readonly maxInFlight: number;
  readonly maxWriteBufferBytes: number;
  readonly payloadTimeoutMs: number;
  /** 0: none. */
  readonly idleTimeoutMs: number;
  readonly writeTimeoutMs: number;
}

/** Where a connection's requests go: the model behind its listener. */
export interface Lane {
  readonly batcher: Batcher;
  readonly recorder: ModelRecorder;
}

/** What all connections of a worker share. */
export interface ConnectionContext {
  readonly limits: ConnectionLimits;
  readonly recorder: Recorder;
  readonly outbox: Outbox;
  readonly budget: MemoryBudget;
  /** Memory for frames that come in pieces, and for replies. */
  readonly pool: BufferPool;
  /** What the first frame must be; null: it is a request like the others. */
  readonly secret: SharedSecret | null;
}

type CloseReason = Extract<WorkerCounter, `closedBy${string}`>;
type PauseReason = Extract<WorkerCounter, `pausedBy${string}`>;
/** Why input is left for later. */
type Stop = PauseReason | 'turn';

/** What one connection may bring to a turn of the event loop: others, with little, shall not wait for thousands. */
const maxRequestsATurn = 256;
/** Of requests and of their replies. */
const maxBytesATurn = 32 * 1024;

export class Connection implements Sender, Holder {
  readonly #socket: Duplex;
  readonly #lane: Lane;
  readonly #limits: ConnectionLimits;
  readonly #recorder: Recorder;
  readonly #outbox: Outbox;
  readonly #budget: MemoryBudget;
  readonly #secret: SharedSecret | null;
  readonly #outflow: Outflow;
  readonly #onClose: (hasMoved: boolean) => void;
  readonly #decoder: FrameDecoder;
  #pending: Segment[] = [];
  #inFlight = 0;
  /** Bytes of those of them that wait for a model, and that their replies will have. */
  #waitingBytes = 0;
  /** What the budget was told last. */
  #held = 0;
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
    lane: Lane,
    { limits, recorder, outbox, budget, secret, pool }: ConnectionContext,
    onClose: (hasMoved: boolean) => void,
    moved: ConnectionState | null = null,
  ) {
    this.#socket = socket;
    this.#lane = lane;
    this.#limits = limits;
    this.#recorder = recorder;
    this.#outbox = outbox;
    this.#budget = budget;
    this.#secret = secret;
    this.#outflow = new Outflow(socket, pool);
    this.#isTrusted = moved?.isTrusted ?? secret === null;
    this.#onClose = onClose;
    this.#decoder = new FrameDecoder(
      limits.lengthFieldSize,
      this.#isTrusted ? limits.maxPayloadBytes : Math.min(limits.maxPayloadBytes, maxSecretBytes),
      pool,
    );
    socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('drain', this.#onDrain);
    socket.on('error', ({ code }: NodeJS.ErrnoException) => {
      this.#closeReason ??= code === 'ETIMEDOUT' ? 'closedByKeepAlive' : 'closedByError';
    });
    socket.once('close', this.#onSocketClose);
    budget.join();
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
    return this.#inFlight;
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
      this.#inFlight === 0 &&
      now - this.#activeAt >= this.#limits.idleTimeoutMs
    ) {
      this.#finishInput('closedByIdleTimeout');
    }
  }

  #isFrameOverdue(now: number): boolean {
    return this.#frameBegunAt > 0 && now - this.#frameBegunAt >= this.#limits.payloadTimeoutMs;
  }

  /** The model has answered, or a deadline has passed, for one of the pending segments. */
  readonly #onSettled = (): void => {
    if (this.#isClosed) return;
    this.#flush();
    this.#advance();
  };

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
    this.#budget.leave(this, this.#held);
    if (this.#hasMoved) {
      this.#decoder.close();
      this.#onClose(true);
      return;
    }
    if (this.#inFlight > 0) this.#abandon();
    this.#recorder.count(this.#closeReason ?? 'closedByClient');
    if (this.#decoder.bufferedBytes > 0) this.#recorder.count('framesTruncated');
    this.#decoder.close();
    this.#inFlight = 0;
    this.#pending = [];
    this.#onQuiet?.(false);
    this.#onClose(false);
  };

  /** Nobody waits for these replies any more; rows that are still queued give their places back. */
  #abandon(): void {
    this.#lane.recorder.count('abandoned', this.#inFlight);
    for (const segment of this.#pending) {
      if (typeof segment.target !== 'string') this.#lane.batcher.cancel(segment.target, segment);
    }
  }

  #finishInput(reason: CloseReason): void {
    if (this.#isInputOver) return;
    this.#isInputOver = true;
    this.#closeReason ??= reason;
    this.#advance();
  }

  /** Why nothing more is taken now, beside memory. */
  #blockedBy(): PauseReason | null {
    if (this.#inFlight >= this.#limits.maxInFlight) return 'pausedByInFlight';
    if (this.#outflow.bytes < this.#limits.maxWriteBufferBytes) return null;
    // Only a stream that needs it announces 'drain', which is what lets us go on; so does the end of leaving.
    return this.#socket.writableNeedDrain || this.#outflow.isLeaving ? 'pausedByWriteBuffer' : null;
  }

  /** Whether all requests that were taken are answered and their replies written. */
  get #isQuiet(): boolean {
    return this.#pending.length === 0 && !this.#outflow.isLeaving;
  }

  /** Takes as much of the input as the limits allow, and closes when all of it is done. */
  #advance(): void {
    if (this.#isClosed || this.#isSayingFarewell) return;
    if (this.#onQuiet !== null) {
      this.#flush();
      if (this.#isQuiet) this.#onQuiet(true);
      return;
    }
    let stop: Stop | null;
    let mayRead: boolean;
    do {
      stop = this.#isYielding ? 'turn' : this.#decode();
      this.#flush();
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
    const before = this.#held;
    this.#held = this.#decoder.bufferedBytes + this.#waitingBytes + this.#outflow.bytes;
    return this.#budget.hold(this, this.#held, before);
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
    const { batcher, recorder } = this.#lane;
    const { inputBytes, replyBytes } = batcher;
    const places = this.#limits.maxInFlight - this.#inFlight;
    const affordable = this.#affordable(replyBytes);
    const most = Math.min(places, affordable, maxRequestsATurn);
    let segment: Segment | null = null;
    let requests = 0;
    let bytes = 0;
    let stop: Stop | null = this.#blockedBy();
    while (stop === null) {
      if (requests >= most || bytes >= maxBytesATurn) {
        stop = requests >= affordable ? 'pausedByMemory' : requests >= places ? 'pausedByInFlight' : 'turn';
        break;
      }
      const status = this.#decoder.next();
      if (status === 'incomplete') break;
      if (!this.#isTrusted) {
        if (this.#trusts(status)) continue;
        break;
      }
      if (status === 'too-large') {
        this.#refuseTooLarge();
        break;
      }
      const { source, start, end } = this.#decoder;
      const isBadInput = inputBytes !== null && end - start !== inputBytes;
      const target = isBadInput ? 'refusedBadInput' : (batcher.openBatch() ?? 'refusedQueueFull');
      if (segment === null || segment.target !== target) {
        segment?.keep();
        segment = this.#beginSegment(target);
      }
      if (typeof target !== 'string') {
        target.add(source, start, end);
        segment.bytes += end - start + replyBytes;
        bytes += end - start + replyBytes;
      }
      segment.rows++;
      requests++;
      this.#inFlight++;
    }
    segment?.keep();
    this.#waitingBytes += bytes;
    if (requests > 0) recorder.count('received', requests);
    this.#watchFrame(requests > 0);
    return stop;
  }

  /** Requests whose replies there is memory for: they are not there yet, and must find it. */
  #affordable(replyBytes: number): number {
    const room = this.#budget.room(this, this.#held);
    return room <= 0 ? 0 : Math.ceil(room / replyBytes);
  }

  /** The first frame must be the secret; with any other the connection ends. */
  #trusts(status: FrameStatus): boolean {
    const { source, start, end } = this.#decoder;
    if (status === 'frame' && this.#secret?.matches(source.subarray(start, end))) {
      this.#isTrusted = true;
      this.#decoder.maxPayloadBytes = this.#limits.maxPayloadBytes;
      return true;
    }
    this.#isInputOver = true;
    this.#closeReason = 'closedBySecret';
    this.#close(emptyFrame(this.#limits.lengthFieldSize));
    return false;
  }

  #beginSegment(target: Batch | Refusal): Segment {
    const segment = new Segment(target, this.#arrivedAt, this.#onSettled);
    this.#pending.push(segment);
    if (typeof target !== 'string') target.enter(segment);
    return segment;
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
    this.#lane.recorder.count('received');
    this.#beginSegment('refusedPayloadTooLarge').rows = 1;
    this.#inFlight++;
  }

  /** Writes the replies that are next in order and ready, all in one piece. */
  #flush(): void {
    const { lengthFieldSize } = this.#limits;
    const { recorder } = this.#lane;
    let settled = 0;
    let size = 0;
    for (const segment of this.#pending) {
      if (!segment.isSettled) break;
      size += repliesSize(segment, lengthFieldSize);
      settled++;
    }
    if (settled === 0) return;
    const out = this.#outflow.take(size);
    const now = performance.now();
    let at = 0;
    for (const segment of this.#pending.splice(0, settled)) {
      const failed = writeReplies(segment, out, at, lengthFieldSize);
      at += repliesSize(segment, lengthFieldSize);
      this.#inFlight -= segment.rows;
      this.#waitingBytes -= segment.bytes;
      if (typeof segment.target === 'string') recorder.count(segment.target, failed);
      else if (failed > 0) recorder.count('failed', failed);
      if (failed < segment.rows) this.#answered(segment.rows - failed, now - segment.arrivedAt);
    }
    this.#recorder.count('bytesSent', size);
    this.#activeAt = now;
    if (this.#outflow.post(out)) this.#outbox.post(this);
  }

  /** Lets the replies leave; to be called by the outbox. */
  send(): void {
    this.#outflow.leave();
    if (this.#isClosed) return;
    if (this.#pausedBy !== null || this.#isInputOver || this.#onQuiet !== null) this.#advance();
    else if (!this.#hold()) this.#pause('pausedByMemory');
  }

  #answered(requests: number, durationMs: number): void {
    this.#lane.recorder.count('answered', requests);
    this.#lane.recorder.time('latency', durationMs, requests);
  }

  #close(lastBytes?: Buffer): void {
    if (this.#isSayingFarewell) return;
    this.#isSayingFarewell = true;
    farewell(this.#socket, this.#limits.payloadTimeoutMs, lastBytes);
  }
}
