// grpc.testing.TestService, which clients of gRPC call to prove that implementations of it understand each other:
// https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md. It runs on the server's own transport, here,
// since the product has no methods like these.

import { type AddressInfo, createServer, type Server } from 'node:net';
import protobuf from 'protobufjs';
import { Http2Session } from '#src/worker/grpc/http2-session.js';
import { messageFrame } from '#src/worker/grpc/messages.js';
import { failed, ok } from '#src/worker/grpc/status.js';
import type { CallHandler, CallStatus, GrpcCall, SessionHandler } from '#src/worker/grpc/transport.js';

const { root } = protobuf.parse(
  `
  syntax = "proto3";
  message Empty {}
  message Payload { int32 type = 1; bytes body = 2; }
  message EchoStatus { int32 code = 1; string message = 2; }
  message SimpleRequest { int32 response_size = 2; Payload payload = 3; EchoStatus response_status = 7; }
  message SimpleResponse { Payload payload = 1; }
  message StreamingInputCallRequest { Payload payload = 1; }
  message StreamingInputCallResponse { int32 aggregated_payload_size = 1; }
  message ResponseParameters { int32 size = 1; int32 interval_us = 2; }
  message StreamingOutputCallRequest {
    repeated ResponseParameters response_parameters = 2; Payload payload = 3; EchoStatus response_status = 7;
  }
  message StreamingOutputCallResponse { Payload payload = 1; }`,
  { keepCase: true },
);

interface Status {
  readonly code: number;
  readonly message: string;
}

interface UnaryRequest {
  readonly response_size: number;
  readonly response_status: Status | null;
}

interface InputRequest {
  readonly payload: { readonly body: Uint8Array } | null;
}

interface OutputRequest {
  readonly response_parameters: readonly { readonly size: number; readonly interval_us: number }[];
  readonly response_status: Status | null;
}

function read<T>(name: string, bytes: Uint8Array): T {
  return root.lookupType(name).decode(bytes) as unknown as T;
}

function frameOf(name: string, value: object): Buffer {
  const type = root.lookupType(name);
  const message = type.encode(type.fromObject(value)).finish();
  const frame = messageFrame(message.length);
  frame.set(message, frame.length - message.length);
  return frame;
}

const payload = (size: number): object => ({ payload: { body: Buffer.alloc(size) } });
const statusOf = ({ code, message }: Status): CallStatus => ({ code, message, reason: null, retryAfterMs: 0 });

/** What a method does with each message of a call, and at the end of them. */
interface Method {
  message(bytes: Uint8Array): void;
  finished(): void;
}

type Begin = (call: GrpcCall) => Method;

const empty: Begin = (call) => ({
  message: () => call.end(ok, frameOf('Empty', {})),
  finished: () => {},
});

const unary: Begin = (call) => ({
  message(bytes) {
    const { response_size, response_status } = read<UnaryRequest>('SimpleRequest', bytes);
    if (response_status !== null && response_status.code !== 0) call.end(statusOf(response_status));
    else call.end(ok, frameOf('SimpleResponse', payload(response_size)));
  },
  finished: () => {},
});

const streamingInput: Begin = (call) => {
  let total = 0;
  return {
    message(bytes) {
      total += read<InputRequest>('StreamingInputCallRequest', bytes).payload?.body.length ?? 0;
    },
    finished: () => call.end(ok, frameOf('StreamingInputCallResponse', { aggregated_payload_size: total })),
  };
};

/** Answers each request with the messages that it wants, in its order; ends when the client has. */
const fullDuplex: Begin = (call) => {
  let sent = Promise.resolve();
  const answer = async (bytes: Buffer): Promise<void> => {
    const { response_parameters, response_status } = read<OutputRequest>('StreamingOutputCallRequest', bytes);
    for (const { size, interval_us } of response_parameters) {
      if (interval_us > 0) await new Promise((resolve) => setTimeout(resolve, interval_us / 1000));
      call.send(frameOf('StreamingOutputCallResponse', payload(size)));
    }
    if (response_status !== null && response_status.code !== 0) call.end(statusOf(response_status));
  };
  return {
    message(bytes) {
      const own = Buffer.from(bytes);
      sent = sent.then(() => answer(own));
    },
    finished: () => void sent.then(() => call.end(ok)),
  };
};

const service = '/grpc.testing.TestService/';
const methods: Readonly<Record<string, Begin>> = {
  EmptyCall: empty,
  UnaryCall: unary,
  StreamingInputCall: streamingInput,
  StreamingOutputCall: fullDuplex,
  FullDuplexCall: fullDuplex,
};

class Handler implements CallHandler {
  readonly mayIdle = true;
  readonly #call: GrpcCall;
  readonly #method: Method;

  constructor(call: GrpcCall, method: Method) {
    this.#call = call;
    this.#method = method;
  }

  message(source: Buffer, start: number, end: number): void {
    this.#method.message(source.subarray(start, end));
  }

  finished(): void {
    this.#method.finished();
  }

  refused({ message }: { readonly message: string }): void {
    this.#call.end(failed('INTERNAL', message));
  }

  cancelled(): void {}
}

const session: SessionHandler = {
  opened(call) {
    const begin = call.path.startsWith(service) ? methods[call.path.slice(service.length)] : undefined;
    if (begin !== undefined) return new Handler(call, begin(call));
    call.end(failed('UNIMPLEMENTED', 'there is no such method'));
    return null;
  },
  heldChanged() {},
  closed() {},
};

/** Listens on a port of its own. */
export class InteropServer {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<InteropServer> {
    const limits = { maxMessageBytes: 4 << 20, maxCalls: 100, maxHeaderBytes: 16_384 };
    const server = createServer((socket) => new Http2Session(socket, limits, session, (stream) => stream.close()));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new InteropServer(server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
  }
}
