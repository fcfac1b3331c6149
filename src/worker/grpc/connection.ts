// One client's gRPC connection: its calls go to the services, its requests for inference to the models, and what it
// holds is bounded as that of every other connection.

import type { Socket } from 'node:net';
import type { ConnectionState } from '../../ipc/connection-state.js';
import type { Recorder, WorkerCounter } from '../../metrics/recorder.js';
import { InvalidMessage, quoted } from '../../protocol/invalid-message.js';
import { InferRequestDecoder } from '../../protocol/oip/request.js';
import { InferResponseEncoder } from '../../protocol/oip/response.js';
import { lingerMs } from '../connections/lingering-close.js';
import type { SharedSecret } from '../framed/shared-secret.js';
import { type CallClient, CallError, type CallListener, type ClientCalls, type OipService } from '../oip/service.js';
import type { ServedConnection } from '../protocols.js';
import { Http2Session, type RequestListener, type SessionLimits } from './http2-session.js';
import { failed, statusOf } from './status.js';
import type { CallHandler, CallStatus, GrpcCall, GrpcSession, SessionHandler } from './transport.js';

export interface GrpcLimits extends SessionLimits {
  /** How long a message may take to become whole. */
  readonly payloadTimeoutMs: number;
  /** How long a client may be without a request; 0: no limit. */
  readonly idleTimeoutMs: number;
  /** How long a client may take nothing of the answers that wait for it. */
  readonly writeTimeoutMs: number;
}

/** What all connections of a worker share. */
export interface GrpcContext {
  readonly service: OipService;
  readonly limits: GrpcLimits;
  readonly recorder: Recorder;
  /** What the metadata `authorization` must have as `Bearer`; null: nothing. */
  readonly secret: SharedSecret | null;
  /** By path. */
  readonly methods: ReadonlyMap<string, Method>;
}

export interface Method {
  /** Whether it is for those as well who do not know the secret. */
  readonly isFree: boolean;
  handle(call: GrpcCall, connection: GrpcConnection): CallHandler | null;
}

/** Something that was encoded, and leaves once it is counted. */
export interface Reply {
  send(): void;
}

/** A call that lasts as long as the connection. */
export interface LongCall {
  drain(): void;
  check(): void;
}

type CloseReason = Extract<WorkerCounter, `closedBy${string}`>;

export class GrpcConnection implements ServedConnection, CallClient, SessionHandler {
  readonly listener: CallListener;
  readonly calls: ClientCalls;
  readonly decoder = new InferRequestDecoder();
  readonly encoder = new InferResponseEncoder();
  readonly longCalls = new Set<LongCall>();
  readonly #context: GrpcContext;
  readonly #socket: Socket;
  readonly #session: GrpcSession;
  readonly #onClose: (hasMigrated: boolean) => void;
  #replies: Reply[] = [];
  #closeReason: CloseReason | null = null;
  #isEnding = false;
  #isClosed = false;
  /** When a connection that is ending had nothing more to send. */
  #quietSince = 0;
  #isHeldBack = false;
  #isReporting = false;
  /** What had come when it was last allowed to read. */
  #readBefore = 0;
  /** Bytes that are counted. */
  #received: number;
  #sent: number;

  constructor(
    socket: Socket,
    context: GrpcContext,
    listener: CallListener,
    address: string,
    onClose: (hasMigrated: boolean) => void,
    onRequest: RequestListener,
  ) {
    this.#socket = socket;
    this.#context = context;
    this.listener = listener;
    this.#onClose = onClose;
    this.#received = socket.bytesRead - socket.readableLength;
    this.#sent = socket.bytesWritten;
    this.calls = context.service.connect(this, address, listener, 'grpc');
    this.#session = new Http2Session(socket, context.limits, this, onRequest);
  }

  get service(): OipService {
    return this.#context.service;
  }

  get inFlight(): number {
    return this.calls.inFlight;
  }

  get activeAt(): number {
    return this.#session.activeAt;
  }

  get isEnding(): boolean {
    return this.#isEnding;
  }

  start(): void {
    this.#session.start();
  }

  drain(): void {
    this.#end('closedByDrain');
  }

  destroy(): void {
    this.#closeReason ??= 'closedByDrain';
    this.#session.destroy();
  }

  /** The state of HTTP/2 lies in native memory. */
  get canMigrate(): boolean {
    return false;
  }

  quiesce(): Promise<boolean> {
    return Promise.resolve(false);
  }

  cancelMigration(): void {}

  detach(): ConnectionState {
    throw new Error('a gRPC connection cannot migrate');
  }

  checkTimeouts(now: number): void {
    const { payloadTimeoutMs, writeTimeoutMs, idleTimeoutMs } = this.#context.limits;
    this.#countBytes();
    const { openCalls, activeAt } = this.#session;
    if (this.#session.stuckFor(now) >= writeTimeoutMs) {
      this.#closeReason ??= 'closedByWriteTimeout';
      this.#session.destroy();
      return;
    }
    if (this.#session.isDeaf(now, payloadTimeoutMs)) {
      this.#closeReason ??= 'closedByKeepAlive';
      this.#session.destroy();
      return;
    }
    this.#session.refuseSlow(now - payloadTimeoutMs, false);
    for (const call of this.longCalls) call.check();
    if (this.#isEnding) this.#checkEnd(now, openCalls);
    else if (idleTimeoutMs > 0 && this.#asksNothing && now - activeAt >= idleTimeoutMs)
      this.#end('closedByIdleTimeout');
  }

  get #asksNothing(): boolean {
    return this.calls.inFlight === 0 && this.#session.openRequests === 0;
  }

  resumeReading(): void {
    this.#isHeldBack = false;
    this.#readBefore = this.#socket.bytesRead;
    this.#session.setReading(true);
  }

  /** Others wait for the memory that this connection holds: what did not go on in its turn and is late is refused. */
  endTurn(): void {
    const before = performance.now() - this.#context.limits.payloadTimeoutMs;
    if (this.#socket.bytesRead === this.#readBefore) this.#session.refuseSlow(before, true);
    this.heldChanged(); // and waits for its next turn, if it still holds too much
  }

  sendReplies(): void {
    const replies = this.#replies;
    this.#replies = [];
    for (const reply of replies) reply.send();
    for (const call of this.longCalls) call.check();
    this.heldChanged();
  }

  /** Keeps what was encoded until it is counted. */
  keep(reply: Reply): void {
    if (this.#replies.length > 0) this.#replies.push(reply);
    else this.#replies = [reply];
  }

  opened(call: GrpcCall): CallHandler | null {
    const method = this.#context.methods.get(call.path);
    if (method === undefined) {
      call.end(failed('UNIMPLEMENTED', `there is no method ${quoted(String(call.path))}`));
      return null;
    }
    if (!method.isFree && this.#context.secret?.isBearer(call.header('authorization')) === false) {
      const message = 'the metadata authorization should be "Bearer " and the shared secret of the server';
      const failure = { reason: 'WRONG_SECRET', message, retryAfterMs: 0 } as const;
      this.calls.refused('', failure);
      call.end(statusOf(failure));
      return null;
    }
    return method.handle(call, this);
  }

  /** Something is held that was not before, or the other way round: reports it once in a turn of the event loop. */
  heldChanged(): void {
    if (this.#isReporting) return;
    this.#isReporting = true;
    setImmediate(this.#report);
  }

  readonly #report = (): void => {
    this.#isReporting = false;
    if (this.#isClosed || this.calls.hold(this.#session.heldBytes)) return;
    if (!this.#isHeldBack) this.#context.recorder.count('pausedByMemory');
    this.#isHeldBack = true;
    this.#session.setReading(false);
  };

  closed(error: Error | null): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.calls.close();
    this.#countBytes();
    this.#context.recorder.count(this.#closeReason ?? reasonOf(error));
    this.#onClose(false);
  }

  #end(reason: CloseReason): void {
    if (this.#isEnding || this.#isClosed) return;
    this.#isEnding = true;
    this.#closeReason ??= reason;
    for (const call of this.longCalls) call.drain();
    this.#session.close();
  }

  /** The client should close its side, once it has all that it asked for; it is not waited for long. */
  #checkEnd(now: number, openCalls: number): void {
    if (openCalls > 0) this.#quietSince = 0;
    else if (this.#quietSince === 0) this.#quietSince = now;
    else if (now - this.#quietSince >= lingerMs) this.#session.destroy();
  }

  #countBytes(): void {
    const { bytesRead, bytesWritten } = this.#socket;
    const { recorder } = this.#context;
    if (bytesRead > this.#received) recorder.count('bytesReceived', bytesRead - this.#received);
    if (bytesWritten > this.#sent) recorder.count('bytesSent', bytesWritten - this.#sent);
    this.#received = bytesRead;
    this.#sent = bytesWritten;
  }
}

function reasonOf(error: NodeJS.ErrnoException | null): CloseReason {
  if (error === null) return 'closedByClient';
  if (error.code === 'ETIMEDOUT') return 'closedByKeepAlive';
  return error.code?.startsWith('ERR_HTTP2_') === true ? 'closedByProtocol' : 'closedByError';
}

/** How a call ends for which something was thrown. Throws it again when it is no fault of the client. */
export function statusOfThrown(thrown: unknown): CallStatus {
  if (thrown instanceof CallError) return statusOf(thrown);
  if (thrown instanceof InvalidMessage) return failed('INVALID_ARGUMENT', thrown.message);
  throw thrown;
}
