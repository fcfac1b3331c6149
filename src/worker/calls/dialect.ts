// Calls on frames: each frame of the client is a Call, each of the server a Reply; see protocol/proto/mltcp.proto.
// Replies come in any order. One to call 0 is about the connection: why it is refused, or that the server is about to go.

import { clientErrors, type RequestError } from '../../errors.js';
import type { Call, CallNumber } from '../../protocol/calls/call.js';
import { reply } from '../../protocol/calls/messages.js';
import { encodeFailure, type Failure, ReplyEncoder } from '../../protocol/calls/reply.js';
import { encodeFrame, type LengthFieldSize, maxFrameLength, writeLength } from '../../protocol/frames.js';
import type { InferAnswer } from '../../protocol/oip/infer.js';
import { encode } from '../../protocol/protobuf/messages.js';
import { statusCodes } from '../../protocol/status-codes.js';
import type { Dialect, DialectHost, FrameRequests, OpenDialect, ReaderState } from '../framed/dialect.js';
import type { SharedSecret } from '../framed/shared-secret.js';
import {
  type CallClient,
  CallError,
  type CallFailure,
  type CallListener,
  type CallReceiver,
  type ClientCalls,
  type OipService,
} from '../oip/service.js';
import { PendingCalls } from './pending-calls.js';
import { CallReader, type CallReaderContext } from './reader.js';
import { ReplyGathering } from './reply-gathering.js';

export interface CallsContext extends CallReaderContext {
  readonly secret: SharedSecret | null;
}

/** Calls on frames, to the models of this listener. */
export const calls =
  (service: OipService, listener: CallListener, address: string, context: CallsContext): OpenDialect =>
  (host, state) =>
    new CallsDialect(service, listener, address, context, host, state);

/** The reply to call 0 that says why a connection is refused or ends, as a frame. */
export function connectionFailure(reason: RequestError, lengthFieldSize: LengthFieldSize): Buffer {
  return encodeFrame(
    encodeFailure(0, failureOf({ reason, message: clientErrors[reason].meaning, retryAfterMs: 0 })),
    lengthFieldSize,
  );
}

const failureOf = ({ reason, message, retryAfterMs }: CallFailure): Failure => ({
  code: statusCodes[clientErrors[reason].grpc],
  reason,
  message,
  retryAfterMs: Math.ceil(retryAfterMs),
});

const cancelled: Failure = {
  code: statusCodes.CANCELLED,
  reason: 'CANCELLED',
  message: 'the client has cancelled it',
  retryAfterMs: 0,
};

class CallsDialect implements Dialect, CallClient {
  readonly requests: FrameRequests;
  readonly reader: CallReader;
  readonly encoder = new ReplyEncoder();
  readonly #host: DialectHost;
  readonly #service: OipService;
  readonly #listener: CallListener;
  readonly #lengthFieldSize: LengthFieldSize;
  readonly #calls: ClientCalls;
  readonly #secret: SharedSecret | null;
  readonly #pending = new PendingCalls();
  readonly #replies: ReplyGathering;
  /** When the first of the gathered replies was. */
  #repliedAt = 0;

  constructor(
    service: OipService,
    listener: CallListener,
    address: string,
    context: CallsContext,
    host: DialectHost,
    state: ReaderState | null,
  ) {
    this.#host = host;
    this.#service = service;
    this.#listener = listener;
    this.#lengthFieldSize = context.lengthFieldSize;
    this.#secret = context.secret;
    this.#calls = service.connect(this, address, listener, 'calls');
    this.#replies = new ReplyGathering(host.writer, context.pool);
    this.requests = new CallRequests(this.#calls, this.#replies);
    this.reader = new CallReader(context, this.#calls, this, state ?? { isTrusted: context.secret === null });
  }

  wrongSecret(): Buffer {
    return connectionFailure('WRONG_SECRET', this.#lengthFieldSize);
  }

  sayGoingAway(): void {
    this.#post(0, failureOf({ reason: 'GOING_AWAY', message: clientErrors.GOING_AWAY.meaning, retryAfterMs: 0 }));
    this.#host.writer.leave();
  }

  /** Whether the client may ask: it has shown the secret, or shows it with this call. */
  trusts({ secret }: Call): boolean {
    return this.#secret === null || this.#secret.matches(Buffer.from(secret));
  }

  /** False: the call breaks the protocol, and the connection with it. */
  take(call: Call, arrivedAt: number): boolean {
    const number = call.call;
    if (call.kind !== 'cancel' && this.#pending.has(number)) return false;
    switch (call.kind) {
      case 'infer': {
        const reply = new CallReply(this, number);
        const pending = this.#calls.infer(call.infer, arrivedAt, reply);
        if (!reply.isOver) this.#pending.add(number, pending);
        return true;
      }
      case 'cancel':
        this.#cancel(number);
        return true;
      case 'ping':
        this.#send(encode(reply, { call: number }));
        return true;
      case 'server-metadata':
        this.#send(encode(reply, { call: number, server_metadata: this.#service.serverMetadata() }));
        return true;
      case 'model-metadata':
        this.#sendMetadata(number, call.model, call.version);
        return true;
      case 'invalid': {
        const failure = { reason: 'BAD_INPUT', message: call.error.message, retryAfterMs: 0 } as const;
        this.#calls.refused(call.model, failure);
        this.#post(number, failureOf(failure));
      }
    }
    return true;
  }

  refuse(reason: 'PAYLOAD_TOO_LARGE' | 'MALFORMED', message: string): void {
    const failure = { reason, message, retryAfterMs: 0 };
    this.#calls.refused('', failure);
    this.#post(0, failureOf(failure));
  }

  answered(number: CallNumber, answer: InferAnswer): boolean {
    this.#pending.take(number);
    const bytes = this.encoder.measure(number, answer);
    if (bytes > maxFrameLength(this.#lengthFieldSize)) {
      this.#post(
        number,
        failureOf({
          reason: 'INFERENCE_FAILED',
          message: `the reply has ${bytes} bytes, which do not fit the length field of ${this.#lengthFieldSize} bytes`,
          retryAfterMs: 0,
        }),
      );
      return false;
    }
    const replies = this.#replies;
    const lengthFieldSize = this.#lengthFieldSize;
    const out = replies.room(lengthFieldSize + bytes);
    if (replies.at === 0) this.#repliedAt = performance.now();
    replies.at = this.encoder.write(out, writeLength(out, replies.at, bytes, lengthFieldSize));
    this.#host.replied(lengthFieldSize + bytes, this.#repliedAt);
    return true;
  }

  failed(number: CallNumber, failure: CallFailure): void {
    this.#pending.take(number);
    this.#post(number, failureOf(failure));
  }

  sendReplies(): void {
    this.#replies.post();
    if (this.#host.writer.isLeaving) this.#host.sendReplies();
  }

  resumeReading(): void {
    this.#host.resumeReading();
  }

  endTurn(): void {
    this.#host.endTurn();
  }

  #cancel(number: CallNumber): void {
    const pending = this.#pending.take(number);
    if (pending === null) return; // it was answered meanwhile
    pending.cancel();
    this.#post(number, cancelled);
  }

  #sendMetadata(number: CallNumber, model: string, version: string): void {
    try {
      const model_metadata = this.#service.modelMetadata(this.#listener, model, version);
      this.#send(encode(reply, { call: number, model_metadata }));
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      this.#post(number, failureOf(error));
    }
  }

  #post(number: CallNumber, failure: Failure): void {
    this.#send(encodeFailure(number, failure));
  }

  /** Has a message sent that is no answer of a model: there is nothing to count first. */
  #send(message: Uint8Array): void {
    const frame = encodeFrame(message, this.#lengthFieldSize);
    this.#host.replied(frame.length, performance.now());
    this.#host.writer.post(frame);
    this.#calls.flush();
  }
}

/** What becomes of one call. */
class CallReply implements CallReceiver {
  isOver = false;
  readonly #dialect: CallsDialect;
  readonly #number: CallNumber;

  constructor(dialect: CallsDialect, number: CallNumber) {
    this.#dialect = dialect;
    this.#number = number;
  }

  answered(answer: InferAnswer): boolean {
    this.isOver = true;
    return this.#dialect.answered(this.#number, answer);
  }

  failed(failure: CallFailure): void {
    this.isOver = true;
    this.#dialect.failed(this.#number, failure);
  }
}

/** The calls of a connection, as it sees them. */
class CallRequests implements FrameRequests {
  readonly #calls: ClientCalls;
  readonly #replies: ReplyGathering;

  constructor(calls: ClientCalls, replies: ReplyGathering) {
    this.#calls = calls;
    this.#replies = replies;
  }

  get inFlight(): number {
    return this.#calls.inFlight;
  }

  get places(): number {
    return this.#calls.places;
  }

  get isEmpty(): boolean {
    return this.#calls.inFlight === 0 && this.#replies.at === 0;
  }

  /** Each call is answered when it has settled. */
  answer(): void {}

  hold(bytes: number): boolean {
    return this.#calls.hold(bytes + this.#replies.at);
  }

  close(): void {
    this.#calls.close();
    this.#replies.close();
  }
}
