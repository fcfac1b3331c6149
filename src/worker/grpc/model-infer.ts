// ModelInfer: one request, one answer.

import { InvalidMessage } from '../../protocol/invalid-message.js';
import type { InferCallDraft } from '../../protocol/oip/draft.js';
import type { InferAnswer } from '../../protocol/oip/infer.js';
import { CallError, type CallFailure, type CallReceiver, type PendingCall } from '../oip/service.js';
import type { GrpcConnection, Method, Reply } from './connection.js';
import { messageFrame, prefixBytes } from './messages.js';
import { ok, statusOf } from './status.js';
import { timeoutUs } from './timeout.js';
import type { CallHandler, CallStatus, GrpcCall } from './transport.js';
import { noMessage, secondMessage } from './unary.js';

export const modelInfer: Method = {
  isFree: false,
  handle: (call, connection) => new InferHandler(call, connection),
};

class InferHandler implements CallHandler, CallReceiver, Reply {
  readonly mayIdle = false;
  readonly #call: GrpcCall;
  readonly #connection: GrpcConnection;
  #pending: PendingCall | null = null;
  #isAsked = false;
  #frame: Buffer | undefined;
  #status: CallStatus = ok;

  constructor(call: GrpcCall, connection: GrpcConnection) {
    this.#call = call;
    this.#connection = connection;
  }

  message(source: Buffer, start: number, end: number): void {
    if (this.#isAsked) {
      this.#pending?.cancel();
      this.#call.end(secondMessage);
      return;
    }
    this.#isAsked = true;
    const { calls } = this.#connection;
    const now = performance.now();
    try {
      this.#pending = calls.infer(readRequest(this.#connection, this.#call, source, start, end, now), now, this);
      this.#connection.heldChanged();
    } catch (error) {
      this.refused(failureOf(error));
    }
  }

  finished(): void {
    if (!this.#isAsked) this.#call.end(noMessage);
  }

  refused(failure: CallFailure): void {
    this.#pending?.cancel();
    this.#connection.calls.refused('', failure);
    this.#call.end(statusOf(failure));
  }

  cancelled(): void {
    this.#pending?.cancel();
  }

  answered(answer: InferAnswer): boolean {
    const { encoder } = this.#connection;
    const frame = messageFrame(encoder.measure(answer));
    encoder.write(frame, prefixBytes);
    this.#frame = frame;
    this.#connection.keep(this);
    return true;
  }

  failed(failure: CallFailure): void {
    this.#status = statusOf(failure);
    this.#connection.keep(this);
  }

  send(): void {
    this.#call.end(this.#status, this.#frame);
  }
}

/** Throws InvalidMessage and CallError. The request has to be ready when the call must be. */
export function readRequest(
  { decoder }: GrpcConnection,
  call: GrpcCall,
  source: Buffer,
  start: number,
  end: number,
  now: number,
): InferCallDraft {
  const request = decoder.decode(source, start, end);
  const header = call.header('grpc-timeout');
  if (header === undefined) return request;
  const givenUs = timeoutUs(header);
  if (givenUs === null) throw new InvalidMessage('grpc-timeout should be 1 to 8 digits and one of H, M, S, m, u and n');
  const leftUs = Math.max(1, Math.floor(givenUs - (now - call.openedAt) * 1000));
  if (request.timeoutUs === 0 || leftUs < request.timeoutUs) request.timeoutUs = leftUs;
  return request;
}

/** Why a request was not asked. Throws what is a defect of ours again. */
export function failureOf(thrown: unknown): CallFailure {
  if (thrown instanceof CallError) return thrown;
  if (thrown instanceof InvalidMessage) return { reason: 'MALFORMED', message: thrown.message, retryAfterMs: 0 };
  throw thrown;
}
