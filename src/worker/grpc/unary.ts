// Methods that answer one message with one message, and ask no model.

import { messageOf } from '../../errors.js';
import {
  type Decoded,
  decode,
  encode,
  type Fields,
  type MessageType,
  type Value,
} from '../../protocol/protobuf/messages.js';
import { CallError, type CallFailure } from '../oip/service.js';
import { type GrpcConnection, type Method, statusOfThrown } from './connection.js';
import { frameOf } from './messages.js';
import { failed, ok, statusOf } from './status.js';
import type { CallHandler, GrpcCall } from './transport.js';

/**
 * @param answer may throw CallError, or reject with it
 * @param isFree whether it answers clients that do not know the secret
 */
export function unary<Request extends Fields, Response extends Fields>(
  request: MessageType<Request>,
  response: MessageType<Response>,
  answer: (request: Decoded<Request>, connection: GrpcConnection) => Value<Response> | Promise<Value<Response>>,
  isFree = false,
): Method {
  return {
    isFree,
    handle: (call, connection) =>
      new UnaryCall(call, (source, start, end) => {
        const value = answer(decode(request, source, start, end), connection);
        if (!(value instanceof Promise)) return encode(response, value);
        return value.then((found) => encode(response, found));
      }),
  };
}

type Answer = (source: Buffer, start: number, end: number) => Buffer | Promise<Buffer>;

class UnaryCall implements CallHandler {
  readonly mayIdle = false;
  readonly #call: GrpcCall;
  readonly #answer: Answer;
  #isAsked = false;

  constructor(call: GrpcCall, answer: Answer) {
    this.#call = call;
    this.#answer = answer;
  }

  message(source: Buffer, start: number, end: number): void {
    if (this.#isAsked) {
      this.#call.end(secondMessage);
      return;
    }
    this.#isAsked = true;
    try {
      const message = this.#answer(source, start, end);
      if (!(message instanceof Promise)) this.#call.end(ok, frameOf(message));
      else void message.then((found) => this.#call.end(ok, frameOf(found)), this.#fail);
    } catch (error) {
      this.#call.end(statusOfThrown(error));
    }
  }

  finished(): void {
    if (!this.#isAsked) this.#call.end(noMessage);
  }

  refused(failure: CallFailure): void {
    this.#call.end(statusOf(failure));
  }

  cancelled(): void {}

  readonly #fail = (error: unknown): void => {
    this.#call.end(error instanceof CallError ? statusOf(error) : failed('INTERNAL', messageOf(error, 200)));
  };
}

export const noMessage = failed('INVALID_ARGUMENT', 'the call should have one message, and has none');
export const secondMessage = failed('INVALID_ARGUMENT', 'the call should have one message, and has more');
