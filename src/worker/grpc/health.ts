// grpc.health.v1.Health, for balancers and Kubernetes: https://github.com/grpc/grpc/blob/master/doc/health-checking.md

import { quoted } from '../../protocol/invalid-message.js';
import { healthCheckRequest, healthCheckResponse } from '../../protocol/oip/messages.js';
import { decode, encode } from '../../protocol/protobuf/messages.js';
import { CallError, type CallFailure } from '../oip/service.js';
import { type GrpcConnection, type LongCall, type Method, statusOfThrown } from './connection.js';
import { frameOf } from './messages.js';
import { goingAway } from './model-stream-infer.js';
import { statusOf } from './status.js';
import type { CallHandler, GrpcCall } from './transport.js';
import { noMessage, secondMessage, unary } from './unary.js';

type Status = 'SERVING' | 'NOT_SERVING' | 'SERVICE_UNKNOWN';
type StatusNow = (service: string, connection: GrpcConnection) => Status;

/** @param services that there are; the empty name is the whole server */
export function healthMethods(services: readonly string[]): readonly (readonly [string, Method])[] {
  const statusNow: StatusNow = (service, { service: oip, isEnding }) => {
    if (service !== '' && !services.includes(service)) return 'SERVICE_UNKNOWN';
    return oip.isReady && !isEnding ? 'SERVING' : 'NOT_SERVING';
  };
  const check = unary(
    healthCheckRequest,
    healthCheckResponse,
    ({ service }, connection) => {
      const status = statusNow(service, connection);
      if (status === 'SERVICE_UNKNOWN')
        throw new CallError('MODEL_NOT_FOUND', `there is no service ${quoted(service)} here`);
      return { status };
    },
    true,
  );
  const watch: Method = { isFree: true, handle: (call, connection) => new WatchHandler(call, connection, statusNow) };
  return [
    ['/grpc.health.v1.Health/Check', check],
    ['/grpc.health.v1.Health/Watch', watch],
  ];
}

class WatchHandler implements CallHandler, LongCall {
  readonly mayIdle = false;
  readonly #call: GrpcCall;
  readonly #connection: GrpcConnection;
  readonly #statusNow: StatusNow;
  #service: string | null = null;
  #told: Status | null = null;

  constructor(call: GrpcCall, connection: GrpcConnection, statusNow: StatusNow) {
    this.#call = call;
    this.#connection = connection;
    this.#statusNow = statusNow;
  }

  message(source: Buffer, start: number, end: number): void {
    if (this.#service !== null) {
      this.#end();
      this.#call.end(secondMessage);
      return;
    }
    try {
      this.#service = decode(healthCheckRequest, source, start, end).service;
    } catch (error) {
      this.#call.end(statusOfThrown(error));
      return;
    }
    this.#connection.longCalls.add(this);
    this.check();
    if (this.#connection.isEnding) this.drain();
  }

  finished(): void {
    if (this.#service === null) this.#call.end(noMessage);
  }

  refused(failure: CallFailure): void {
    this.#end();
    this.#call.end(statusOf(failure));
  }

  cancelled(): void {
    this.#end();
  }

  check(): void {
    const status = this.#statusNow(this.#service as string, this.#connection);
    if (status === this.#told) return;
    this.#told = status;
    this.#call.send(frameOf(encode(healthCheckResponse, { status })));
  }

  drain(): void {
    this.check();
    this.#end();
    this.#call.end(statusOf(goingAway));
  }

  #end(): void {
    this.#connection.longCalls.delete(this);
  }
}
