// One client's connection in a protocol on frames: bytes → requests → a model's endpoint → replies → bytes. What the
// frames mean is the dialect's matter: raw.ts, ../calls/.
//
//   'data' ─▶ reader ─▶ serving … ─▶ replies encoded by the dialect ─▶ sendReplies() ─▶ ReplyWriter ─▶ socket
//
//   open ──▶ ending ──▶ lingering ──▶ closed       ending: the client has ended, broken the protocol or run out of
//    │ ▲                                 ▲         time, or we drain. lingering: all is answered, and the client must
//    ▼ │ cancelled                       │         close its side. The socket may close in each.
//   quiescing ───────────────────────────┘ it continues in another worker
//
// Guarantees: every complete request gets exactly one reply; nothing grows without bound. When too many
// requests are in flight, or replies wait for a client that does not read, decoding stops and the socket is paused:
// what the client sends then stays in the kernel, and TCP slows it down.
// It works on any duplex stream; it does not listen and does not depend on the cluster. It may use the bytes of a
// 'data' event only until the listener returns: the next read, of any connection, may use the same memory.

import type { Duplex } from 'node:stream';
import type { ConnectionState } from '../../ipc/connection-state.js';
import type { Recorder, WorkerCounter } from '../../metrics/recorder.js';
import { expectBytes, fullRead } from '../../net/raw-handle.js';
import type { BufferPool } from '../../protocol/buffer-pool.js';
import type { SubmitStop } from '../../serving/model-endpoint.js';
import { lingeringClose } from '../connections/lingering-close.js';
import type { ClientRejections } from '../rejection-log.js';
import type { Dialect, DialectHost, FrameReader, FrameRequests, OpenDialect } from './dialect.js';
import { ReplyWriter } from './reply-writer.js';
import { isFrameOverdue, type TimeoutLimits, timeoutOf } from './timeouts.js';

export interface ConnectionLimits extends TimeoutLimits {
  readonly maxWriteBufferBytes: number;
  readonly writeTimeoutMs: number;
}

/** What all connections of a worker share. */
export interface ConnectionContext {
  readonly limits: ConnectionLimits;
  readonly recorder: Recorder;
  /** Memory for frames that come in pieces, and for replies. */
  readonly pool: BufferPool;
}

type CloseReason = Extract<WorkerCounter, `closedBy${string}`>;
/** Why input is not taken now. */
type Stop = SubmitStop | Extract<WorkerCounter, 'pausedByWriteBuffer'>;

type Phase =
  /** Takes requests. */
  | { readonly kind: 'open' }
  /** Takes no more input; closes when all complete requests are answered. */
  | { readonly kind: 'ending' }
  /**
   * Takes no more requests: it is to migrate to another worker. `onQuiet` is called with true when all is answered, or
   * with false when it has closed before.
   */
  | { readonly kind: 'quiescing'; readonly isInputOver: boolean; readonly onQuiet: (isOpen: boolean) => void }
  /** Has sent its last bytes, and waits for the client to close its side. */
  | { readonly kind: 'lingering' }
  /** The socket has closed, or the connection continues in another worker. */
  | { readonly kind: 'closed' };

export class Connection implements DialectHost {
  readonly #socket: Duplex;
  readonly #limits: ConnectionLimits;
  readonly #recorder: Recorder;
  readonly #dialect: Dialect;
  readonly #requests: FrameRequests;
  readonly #reader: FrameReader;
  readonly writer: ReplyWriter;
  readonly #onClose: (hasMigrated: boolean) => void;
  readonly #rejections: ClientRejections | null;
  #phase: Phase = { kind: 'open' };
  /** Why it closes, as soon as that is known. */
  #closeReason: CloseReason | null = null;
  #pausedBy: Stop | null = null;
  /** Whether it waits for the next turn of the event loop, so that other connections run first. */
  #isYielding = false;
  /** Whether anything has come since it was last allowed to read. */
  #hasRead = false;
  readonly #openedAt = performance.now();
  #activeAt: number;

  /**
   * @param onClose called with whether the connection has migrated to another worker
   * @param moved the state of a connection that began in another worker
   * @param rejections is told why it was closed, for operators
   */
  constructor(
    socket: Duplex,
    open: OpenDialect,
    { limits, recorder, pool }: ConnectionContext,
    onClose: (hasMigrated: boolean) => void,
    moved: ConnectionState | null = null,
    rejections: ClientRejections | null = null,
  ) {
    this.#socket = socket;
    this.#limits = limits;
    this.#recorder = recorder;
    this.#onClose = onClose;
    this.#rejections = rejections;
    this.#activeAt = moved?.activeAt ?? this.#openedAt;
    this.writer = new ReplyWriter(socket, pool);
    this.#dialect = open(this, moved);
    this.#requests = this.#dialect.requests;
    this.#reader = this.#dialect.reader;
    socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('drain', this.#onDrain);
    socket.on('error', ({ code }: NodeJS.ErrnoException) => {
      this.#closeReason ??= code === 'ETIMEDOUT' ? 'closedByKeepAlive' : 'closedByError';
    });
    socket.once('close', this.#onSocketClose);
    if (moved !== null) this.writer.attach(moved.unsent);
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

  /** When it last read or answered something, by the monotonic clock. */
  get activeAt(): number {
    return this.#activeAt;
  }

  /** Takes no more input, answers all complete requests, and closes. */
  drain(): void {
    if (this.#phase.kind === 'open') this.#dialect.sayGoingAway();
    this.#finishInput('closedByDrain');
  }

  /** Cuts the connection; requests in flight are not answered. */
  destroy(): void {
    this.#closeReason ??= 'closedByDrain';
    this.#socket.destroy();
  }

  /** Whether it can migrate to another worker: it is neither ending nor migrating already. */
  get canMigrate(): boolean {
    return this.#phase.kind === 'open';
  }

  /**
   * Takes no more requests; what the socket has already read is kept for the other worker. Resolves to true when all
   * requests that were taken are answered and written, or to false when the connection has closed before. Call it only
   * when `canMigrate`.
   */
  quiesce(): Promise<boolean> {
    return new Promise((resolve) => {
      this.#phase = { kind: 'quiescing', isInputOver: false, onQuiet: resolve };
      this.#socket.pause();
      while (this.#socket.readableLength > 0) this.#socket.read(); // each comes as 'data'
      this.#advance();
    });
  }

  /** Continues as before `quiesce`. */
  cancelMigration(): void {
    if (this.#phase.kind !== 'quiescing') return;
    this.#phase = { kind: this.#phase.isInputOver ? 'ending' : 'open' };
    this.#pausedBy = null;
    this.start();
  }

  /**
   * The connection continues in another worker: closes this end without sending the client anything.
   * @param unsentBytes how many bytes of replies, the last ones, the kernel has not taken
   */
  detach(unsentBytes: number): ConnectionState {
    const unsent = this.writer.lastWritten(unsentBytes);
    this.#phase = { kind: 'closed' };
    this.#socket.destroy();
    return { ...this.#reader.state, unsent, activeAt: this.#activeAt };
  }

  resumeReading(): void {
    this.#hasRead = false;
    this.#advance();
  }

  /**
   * Others wait for the memory that this connection holds: a slow sender that has sent nothing in its turn is closed.
   */
  endTurn(): void {
    const isOverdue = isFrameOverdue(this.#reader.frameBegunAt, this.#limits, performance.now());
    if (!this.#hasRead && isOverdue) this.#timeOut('closedByPayloadTimeout');
    else this.#advance();
  }

  /** Enforces the time limits; called regularly with the time of the monotonic clock. */
  checkTimeouts(now: number): void {
    if (this.writer.isStuck(now, this.#limits.writeTimeoutMs)) {
      if (this.#closeReason === null)
        this.#rejections?.note('WRITE_TIMEOUT', `it took nothing of its replies; ${this.writer.bytes} bytes wait`);
      this.#closeReason ??= 'closedByWriteTimeout';
      this.#socket.destroy();
      return;
    }
    if (this.#phase.kind !== 'open') return;
    const subject = {
      openedAt: this.#openedAt,
      activeAt: this.#activeAt,
      frameBegunAt: this.#reader.frameBegunAt,
      isTrusted: this.#reader.isTrusted,
      isPaused: this.#pausedBy !== null,
      inFlight: this.#requests.inFlight,
    };
    const timeout = timeoutOf(subject, this.#limits, now);
    if (timeout !== null) this.#timeOut(timeout);
  }

  #timeOut(timeout: NonNullable<ReturnType<typeof timeoutOf>>): void {
    if (timeout === 'closedBySecret')
      this.#rejections?.note('WRONG_SECRET', 'the secret did not come in time (server.payloadTimeoutSeconds)');
    if (timeout === 'closedByPayloadTimeout') this.#noteSlow();
    this.#finishInput(timeout);
  }

  #noteSlow(): void {
    const { bufferedBytes, missingBytes } = this.#reader;
    const missing = missingBytes > 0 ? `${missingBytes} more were announced` : 'its length has not come whole';
    this.#rejections?.note('PAYLOAD_TIMEOUT', `of a frame, ${bufferedBytes} bytes came in time; ${missing}`);
  }

  replied(bytes: number, now: number): void {
    this.#recorder.count('bytesSent', bytes);
    this.#activeAt = now;
  }

  sendReplies(): void {
    this.writer.leave();
    if (this.#phase.kind !== 'open' || this.#pausedBy !== null) this.#advance();
    else if (!this.#hold()) this.#pause('pausedByMemory');
  }

  onAnswered(): void {
    // One that is open and not paused has no input left to take; `sendReplies`, which follows, reports what it holds.
    if (this.#phase.kind !== 'open' || this.#pausedBy !== null) this.#advance();
  }

  readonly #onData = (chunk: Buffer): void => {
    const phase = this.#phase;
    if (phase.kind !== 'open' && (phase.kind !== 'quiescing' || phase.isInputOver)) return;
    this.#recorder.count('bytesReceived', chunk.length);
    this.#activeAt = performance.now();
    this.#hasRead = true;
    this.#reader.push(chunk, this.#activeAt);
    this.#advance();
    this.#reader.retain();
    if (chunk.length >= fullRead) expectBytes(this.#socket, this.#reader.missingBytes);
  };

  readonly #onEnd = (): void => this.#finishInput('closedByClient');

  readonly #onDrain = (): void => this.#advance();

  readonly #onSocketClose = (): void => {
    const phase = this.#phase;
    const hasMigrated = phase.kind === 'closed'; // before its socket closes: see `detach`
    this.#phase = { kind: 'closed' };
    this.#requests.close();
    if (!hasMigrated) {
      this.#recorder.count(this.#closeReason ?? 'closedByClient');
      if (this.#reader.bufferedBytes > 0) this.#recorder.count('framesTruncated');
    }
    this.#reader.close();
    if (phase.kind === 'quiescing') phase.onQuiet(false);
    this.#onClose(hasMigrated);
  };

  #finishInput(reason: CloseReason): void {
    const phase = this.#phase;
    if (phase.kind === 'open') this.#phase = { kind: 'ending' };
    else if (phase.kind === 'quiescing' && !phase.isInputOver) this.#phase = { ...phase, isInputOver: true };
    else return;
    this.#closeReason ??= reason;
    this.#advance();
  }

  /** Does what its phase and the limits allow. */
  #advance(): void {
    const phase = this.#phase;
    switch (phase.kind) {
      case 'open':
      case 'ending':
        this.#takeInput();
        return;
      case 'quiescing':
        this.#requests.answer();
        if (this.#isQuiet) phase.onQuiet(true);
    }
  }

  /** Takes as much of the input as the limits allow; a connection that is ending lingers when all of it is done. */
  #takeInput(): void {
    let stop: Stop | null;
    let mayRead: boolean;
    do {
      stop = this.#isYielding ? 'turn' : this.#read();
      this.#requests.answer();
      mayRead = this.#hold();
    } while (stop !== null && stop !== 'turn' && mayRead && this.#blockedBy() === null);
    if (stop === 'turn') this.#goOnNextTurn();
    const { kind } = this.#phase;
    if (kind === 'ending' && stop === null && this.#isQuiet) this.#linger();
    if (kind !== 'open') return;
    if (stop !== null) this.#pause(stop);
    else if (!mayRead) this.#pause('pausedByMemory');
    else if (this.#pausedBy !== null) this.#resume();
  }

  /** Moves whole frames to the model; returns what stopped it, or null when there are no more. */
  #read(): Stop | null {
    const blockedBy = this.#blockedBy();
    if (blockedBy !== null) return blockedBy;
    const end = this.#reader.read();
    switch (end) {
      case 'incomplete':
        return null;
      case 'too-large':
        this.#refuse(end, 'closedByPayloadTooLarge');
        return null;
      case 'malformed':
        this.#refuse(end, 'closedByProtocol');
        return null;
      case 'wrong-secret':
        this.#rejections?.note('WRONG_SECRET', 'what came first does not have the secret (server.sharedSecret)');
        this.#closeReason = 'closedBySecret';
        this.#linger(this.#dialect.wrongSecret());
        return null;
      default:
        return end;
    }
  }

  /** Why nothing more is taken now, apart from memory. */
  #blockedBy(): Stop | null {
    if (this.#requests.places <= 0) return 'pausedByInFlight';
    if (this.writer.bytes < this.#limits.maxWriteBufferBytes) return null;
    // Only a stream that needs it emits 'drain', which lets us continue; so does `sendReplies`, once the replies have
    // left.
    return this.#socket.writableNeedDrain || this.writer.isLeaving ? 'pausedByWriteBuffer' : null;
  }

  /** What the dialect says of it is the connection's last reply. The reader reports it each time it is asked. */
  #refuse(end: 'too-large' | 'malformed', reason: CloseReason): void {
    if (this.#closeReason === reason) return;
    this.#phase = { kind: 'ending' };
    this.#closeReason = reason;
    this.#reader.refuse(end);
  }

  /** Whether all requests that were taken are answered and their replies written. */
  get #isQuiet(): boolean {
    return this.#requests.isEmpty && !this.writer.isLeaving;
  }

  /** Continues in the next turn of the event loop, so that other connections run first. */
  #goOnNextTurn(): void {
    if (this.#isYielding) return;
    this.#isYielding = true;
    setImmediate(() => {
      this.#isYielding = false;
      this.#advance();
    });
  }

  /** Reports to the budget what is held; false when nothing more may be read. */
  #hold(): boolean {
    return this.#requests.hold(this.#reader.bufferedBytes + this.writer.bytes);
  }

  /** Pauses the connection; counts each reason for it once, when several follow each other. */
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

  #linger(lastBytes?: Buffer): void {
    this.#phase = { kind: 'lingering' };
    lingeringClose(this.#socket, this.#limits.payloadTimeoutMs, lastBytes);
  }
}
