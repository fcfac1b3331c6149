// A connection whose first bytes will tell which protocol it speaks. As long as they do not, it is served like any
// other: it has time limits, and can migrate. When they do, the socket is given on with all of them
// unread, to whatever serves that protocol.
//
//   bytes ─▶ protocolFrom: one is certain ─▶ unread again ─▶ onDecided
//                          more are needed ─▶ kept, fewer than 24

import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { ConnectionState } from '../../ipc/connection-state.js';
import type { Recorder, WorkerCounter } from '../../metrics/recorder.js';
import { type ClientProtocol, callsPreface, protocolFrom } from '../../protocol/first-bytes.js';
import type { ServedConnection } from '../protocols.js';
import { lingeringClose, lingerMs } from './lingering-close.js';

export interface DetectionOptions {
  /** Whether frames without any preface are among the protocols; otherwise what else begins no other is closed. */
  readonly takesFrames: boolean;
  /** Whether clients must show a secret: then they may not be silent. */
  readonly hasSecret: boolean;
  readonly limits: { readonly payloadTimeoutMs: number; readonly idleTimeoutMs: number };
  readonly recorder: Pick<Recorder, 'count'>;
  /**
   * Called at most once. Nothing listens to the socket any more: what serves the protocol has to, at once. The first
   * bytes are unread (but not the preface of calls), and the socket is paused. Resume it when something listens to
   * 'data': a server of node:http does, but does not resume; one of node:http2 reads the bytes itself, and resuming
   * would lose them.
   */
  onDecided(protocol: ClientProtocol): void;
  /** The socket has closed before; its reason is counted, unless the connection has migrated. */
  onClose(hasMigrated: boolean): void;
}

type CloseReason = Extract<WorkerCounter, `closedBy${string}`>;

export class Detection implements ServedConnection {
  readonly #socket: Duplex;
  readonly #options: DetectionOptions;
  readonly #openedAt: number;
  #activeAt: number;
  /** When the first byte came; 0: none has. */
  #begunAt: number;
  #head: Buffer;
  #closeReason: CloseReason | null = null;
  /** Whether the socket is somebody else's: of what serves its protocol, or of another worker. */
  #isGone = false;
  #hasMigrated = false;
  /** Set when the server ends: until then it waits for the bytes of a client that has only just connected. */
  #drainTimer: NodeJS.Timeout | null = null;

  /** @param moved the state of a connection that began in another worker */
  constructor(socket: Duplex, options: DetectionOptions, moved: ConnectionState | null = null) {
    this.#socket = socket;
    this.#options = options;
    this.#openedAt = moved?.activeAt ?? performance.now();
    this.#activeAt = this.#openedAt;
    this.#begunAt = moved?.frameBegunAt ?? 0;
    this.#head = moved?.unread ?? Buffer.alloc(0);
    socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('error', this.#onError);
    socket.once('close', this.#onSocketClose);
  }

  readonly inFlight = 0;

  get canMigrate(): boolean {
    return !this.#isGone && this.#closeReason === null;
  }

  get activeAt(): number {
    return this.#activeAt;
  }

  /** Begins to read. A client that has chosen a protocol in its TLS handshake has decided already. */
  start(): void {
    const chosen = protocolChosenIn(this.#socket);
    if (chosen === null) this.#socket.resume();
    else this.#giveOn(chosen, this.#head);
  }

  /**
   * A client that has connected a moment ago has most likely sent a request: it is decided, and then drained by what
   * serves its protocol. Others are closed.
   */
  drain(): void {
    if (!this.canMigrate) return;
    const graceMs = this.#openedAt + lingerMs - performance.now();
    if (graceMs <= 0 && this.#begunAt === 0) this.#close('closedByDrain');
    else this.#drainTimer ??= setTimeout(() => this.#close('closedByDrain'), Math.max(graceMs, lingerMs / 10));
  }

  destroy(): void {
    if (this.#isGone) return;
    this.#closeReason ??= 'closedByDrain';
    this.#socket.destroy();
  }

  checkTimeouts(now: number): void {
    const { takesFrames, hasSecret, limits } = this.#options;
    const { payloadTimeoutMs, idleTimeoutMs } = limits;
    // Clients of raw frames may be silent for as long as they like. All others speak first, and at once.
    const maySayNothing = takesFrames && !hasSecret;
    const since = maySayNothing ? this.#begunAt : this.#openedAt;
    if (since > 0 && now - since >= payloadTimeoutMs)
      this.#close(hasSecret ? 'closedBySecret' : 'closedByPayloadTimeout');
    else if (since === 0 && idleTimeoutMs > 0 && now - this.#openedAt >= idleTimeoutMs)
      this.#close('closedByIdleTimeout');
  }

  quiesce(): Promise<boolean> {
    this.#socket.pause();
    while (this.canMigrate && this.#socket.readableLength > 0) this.#socket.read(); // each comes as 'data'
    return Promise.resolve(this.canMigrate);
  }

  cancelMigration(): void {
    if (this.canMigrate) this.#socket.resume();
  }

  detach(): ConnectionState {
    this.#isGone = true;
    this.#hasMigrated = true;
    this.#socket.destroy();
    return {
      unread: this.#head,
      unsent: Buffer.alloc(0),
      arrivedAt: this.#activeAt,
      frameBegunAt: this.#begunAt,
      activeAt: this.#activeAt,
      isTrusted: false,
    };
  }

  /** The chunk is valid only during the event. */
  readonly #onData = (chunk: Buffer): void => {
    this.#activeAt = performance.now();
    if (this.#begunAt === 0) this.#begunAt = this.#activeAt;
    const head = Buffer.concat([this.#head, chunk]);
    const protocol = protocolFrom(head);
    if (protocol === null) this.#head = head;
    else if (protocol === 'frames' && !this.#options.takesFrames) {
      this.#head = head;
      this.#close('closedByProtocol');
    } else this.#giveOn(protocol, head);
  };

  readonly #onEnd = (): void => this.#close('closedByClient');

  readonly #onError = ({ code }: NodeJS.ErrnoException): void => {
    this.#closeReason ??= code === 'ETIMEDOUT' ? 'closedByKeepAlive' : 'closedByError';
  };

  readonly #onSocketClose = (): void => {
    if (this.#drainTimer !== null) clearTimeout(this.#drainTimer);
    this.#isGone = true;
    if (!this.#hasMigrated) this.#options.recorder.count(this.#closeReason ?? 'closedByClient');
    this.#options.onClose(this.#hasMigrated);
  };

  #giveOn(protocol: ClientProtocol, head: Buffer): void {
    const socket = this.#socket;
    this.#isGone = true;
    if (this.#drainTimer !== null) clearTimeout(this.#drainTimer);
    socket.pause();
    socket.off('data', this.#onData);
    socket.off('end', this.#onEnd);
    socket.off('error', this.#onError);
    socket.off('close', this.#onSocketClose);
    const skipped = protocol === 'calls' ? callsPreface.length : 0;
    this.#count(skipped);
    const unread = head.subarray(skipped);
    if (unread.length > 0) socket.unshift(unread);
    this.#options.onDecided(protocol);
  }

  #close(reason: CloseReason): void {
    if (!this.canMigrate) return;
    this.#closeReason = reason;
    this.#count(this.#head.length);
    this.#socket.off('data', this.#onData);
    lingeringClose(this.#socket, this.#options.limits.payloadTimeoutMs);
  }

  /** Bytes that nobody else will see, and count. */
  #count(bytes: number): void {
    if (bytes > 0) this.#options.recorder.count('bytesReceived', bytes);
  }
}

/** By ALPN (RFC 7301). */
function protocolChosenIn(socket: Duplex): ClientProtocol | null {
  const { alpnProtocol } = socket as Partial<Pick<TLSSocket, 'alpnProtocol'>>;
  if (alpnProtocol === 'h2') return 'http2';
  return alpnProtocol === 'http/1.1' ? 'http1' : null;
}
