// ModelStreamInfer: requests and answers as long as the client likes, answers in the order in which they are ready, and
// failures as messages. As Triton has it.

import type { InferAnswer } from '../../protocol/oip/infer.js';
import { modelStreamInferResponse } from '../../protocol/oip/messages.js';
import { encode } from '../../protocol/protobuf/messages.js';
import { varintBytes, writeVarint } from '../../protocol/protobuf/writer.js';
import type { CallFailure, CallReceiver, PendingCall } from '../oip/service.js';
import type { GrpcConnection, LongCall, Method, Reply } from './connection.js';
import { frameOf, messageFrame, prefixBytes } from './messages.js';
import { failureOf, readRequest } from './model-infer.js';
import { ok, statusOf } from './status.js';
import type { CallHandler, GrpcCall } from './transport.js';

export const modelStreamInfer: Method = {
  isFree: false,
  handle: (call, connection) => new StreamInferHandler(call, connection),
};

/** The tag of infer_response in ModelStreamInferResponse. */
const responseTag = 0x12;

export const goingAway: CallFailure = {
  reason: 'GOING_AWAY',
  message: 'the server is about to stop: call it again, on a new connection',
  retryAfterMs: 0,
};

class StreamInferHandler implements CallHandler, LongCall {
  readonly mayIdle = true;
  readonly call: GrpcCall;
  readonly connection: GrpcConnection;
  readonly #requests = new Set<StreamRequest>();
  #isPaused = false;
  #isFinished = false;
  #isDraining = false;

  constructor(call: GrpcCall, connection: GrpcConnection) {
    this.call = call;
    this.connection = connection;
    connection.longCalls.add(this);
    if (connection.isEnding) this.drain();
  }

  message(source: Buffer, start: number, end: number): void {
    const { calls } = this.connection;
    const now = performance.now();
    try {
      const call = readRequest(this.connection, this.call, source, start, end, now);
      const request = new StreamRequest(this, call.id, call.wantsFinalResponse);
      this.#requests.add(request);
      request.pending = calls.infer(call, now, request);
      this.connection.heldChanged();
    } catch (error) {
      const failure = failureOf(error);
      calls.refused('', failure);
      this.call.send(failureFrame(failure, '', false));
    }
    if (calls.places > 0) return;
    this.#isPaused = true;
    this.call.pause();
  }

  finished(): void {
    this.#isFinished = true;
    this.check();
  }

  refused(failure: CallFailure): void {
    this.connection.calls.refused('', failure);
    this.#close();
    this.call.end(statusOf(failure));
  }

  cancelled(): void {
    this.#close();
  }

  drain(): void {
    this.#isDraining = true;
    this.call.pause();
    this.check();
  }

  check(): void {
    if (this.#requests.size === 0 && (this.#isFinished || this.#isDraining)) {
      this.#close();
      this.call.end(this.#isFinished ? ok : statusOf(goingAway));
    } else if (this.#isPaused && !this.#isDraining && this.connection.calls.places > 0) {
      this.#isPaused = false;
      this.call.resume();
    }
  }

  answered(request: StreamRequest, frame: Buffer): void {
    this.#requests.delete(request);
    this.call.send(frame);
  }

  #close(): void {
    this.connection.longCalls.delete(this);
    for (const { pending } of this.#requests) pending?.cancel();
    this.#requests.clear();
  }
}

class StreamRequest implements CallReceiver, Reply {
  pending: PendingCall | null = null;
  readonly #stream: StreamInferHandler;
  readonly #id: string;
  readonly #wantsFinalResponse: boolean;
  #frame: Buffer = Buffer.alloc(0);

  constructor(stream: StreamInferHandler, id: string, wantsFinalResponse: boolean) {
    this.#stream = stream;
    this.#id = id;
    this.#wantsFinalResponse = wantsFinalResponse;
  }

  answered(answer: InferAnswer): boolean {
    const { connection } = this.#stream;
    const { encoder } = connection;
    const last = { ...answer.parameters, triton_final_response: true };
    const bytes = encoder.measure(this.#wantsFinalResponse ? { ...answer, parameters: last } : answer);
    const frame = messageFrame(1 + varintBytes(bytes) + bytes);
    frame[prefixBytes] = responseTag;
    encoder.write(frame, writeVarint(frame, prefixBytes + 1, bytes));
    this.#frame = frame;
    connection.keep(this);
    return true;
  }

  failed(failure: CallFailure): void {
    this.#frame = failureFrame(failure, this.#id, this.#wantsFinalResponse);
    this.#stream.connection.keep(this);
  }

  send(): void {
    this.#stream.answered(this, this.#frame);
  }
}

/** The client finds its request by the id, as with Triton; the reason is ours. */
function failureFrame({ reason, message }: CallFailure, id: string, isLast: boolean): Buffer {
  const parameters = {
    mltcp_reason: { string_param: reason },
    ...(isLast && { triton_final_response: { bool_param: true } }),
  };
  return frameOf(encode(modelStreamInferResponse, { error_message: message, infer_response: { id, parameters } }));
}
