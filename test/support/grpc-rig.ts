// The gRPC side of a worker in this process: real sockets, the real service with models that a test can hold, and as
// client the library of gRPC for Node.

import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import * as grpc from '@grpc/grpc-js';
import type { Recorder } from '#src/metrics/recorder.js';
import { detachHandle, plainSocketOn, type RawHandle } from '#src/net/raw-handle.js';
import { SharedSecret } from '#src/worker/framed/shared-secret.js';
import type { GrpcConnection, GrpcLimits } from '#src/worker/grpc/connection.js';
import type { RequestListener } from '#src/worker/grpc/http2-session.js';
import { GrpcServer } from '#src/worker/grpc/server.js';
import type { Certificate } from './certificates.js';
import { HttpRig, type RigOptions } from './http-rig.js';
import { decodeByOthers, encodeByOthers, type Plain, protoRoot } from './protos.js';

export interface GrpcRigOptions {
  readonly limits?: Partial<GrpcLimits>;
  readonly batching?: RigOptions['batching'];
  readonly maxBufferedBytes?: number;
  readonly secret?: string;
  readonly tls?: Certificate;
  readonly onRequest?: RequestListener;
}

const limitsByDefault: GrpcLimits = {
  maxMessageBytes: 1 << 20,
  maxCalls: 64,
  maxHeaderBytes: 16 * 1024,
  payloadTimeoutMs: 30_000,
  idleTimeoutMs: 0,
  writeTimeoutMs: 60_000,
};

const service = 'inference.GRPCInferenceService';

/** Of a worker with the models `double` (x FP32[-1,2]), `echo` (payloads) and `wide`. */
export class GrpcRig {
  readonly worker: HttpRig;
  readonly connections = new Set<GrpcConnection>();
  readonly #listening: Server;
  readonly #sweep: NodeJS.Timeout;
  readonly #clients: GrpcClient[] = [];

  private constructor(worker: HttpRig, { limits, secret, tls, onRequest }: GrpcRigOptions) {
    this.worker = worker;
    const server = new GrpcServer({
      service: worker.service,
      limits: { ...limitsByDefault, ...limits },
      recorder: worker.recorder,
      secret: secret === undefined ? null : new SharedSecret(secret),
    });
    const serve = (socket: Socket): void => {
      const connection = server.serve(socket, {
        listener: { models: ['double', 'echo', 'wide'], defaultModel: null },
        address: '127.0.0.1',
        onClose: () => this.connections.delete(connection),
        onRequest: onRequest ?? ((stream) => stream.close()),
      }) as GrpcConnection;
      this.connections.add(connection);
      connection.start();
    };
    this.#listening =
      tls === undefined
        ? createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (accepted) =>
            // As in a worker: on the handle of a connection that the primary has accepted.
            serve(plainSocketOn(detachHandle(accepted) as RawHandle)),
          )
        : createTlsServer({ cert: tls.cert, key: tls.key, ALPNProtocols: ['h2'] }, serve);
    this.#sweep = setInterval(() => {
      for (const connection of this.connections) connection.checkTimeouts(performance.now());
    }, 10);
  }

  static async open(options: GrpcRigOptions = {}): Promise<GrpcRig> {
    const { batching = {}, maxBufferedBytes = 1 << 27, limits } = options;
    const maxInFlight = limits?.maxCalls ?? limitsByDefault.maxCalls;
    const worker = await HttpRig.open({ batching, maxBufferedBytes, limits: { maxInFlight } });
    const rig = new GrpcRig(worker, options);
    rig.#listening.listen(0, '127.0.0.1');
    await once(rig.#listening, 'listening');
    return rig;
  }

  get port(): number {
    return (this.#listening.address() as AddressInfo).port;
  }

  get recorder(): Recorder {
    return this.worker.recorder;
  }

  client(credentials = grpc.credentials.createInsecure(), options: grpc.ChannelOptions = {}): GrpcClient {
    const client = new GrpcClient(this.port, credentials, options);
    this.#clients.push(client);
    return client;
  }

  drain(): void {
    this.worker.service.isReady = false;
    for (const connection of this.connections) connection.drain();
  }

  async close(): Promise<void> {
    clearInterval(this.#sweep);
    for (const client of this.#clients) client.close();
    for (const connection of this.connections) connection.destroy();
    this.#listening.close();
    await this.worker.close();
  }
}

/** What a call came to: its answer, or how it failed. */
export interface Outcome {
  readonly value: Plain;
  readonly code: number;
  readonly details: string;
  readonly reason: string | undefined;
  readonly metadata: grpc.Metadata;
}

export type BidiCall = grpc.ClientDuplexStream<Plain, Plain>;

export class GrpcClient {
  readonly #client: grpc.Client;

  constructor(port: number, credentials: grpc.ChannelCredentials, options: grpc.ChannelOptions) {
    this.#client = new grpc.Client(`127.0.0.1:${port}`, credentials, {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.max_receive_message_length': -1,
      ...options,
    });
  }

  /** Never rejects. @param metadata by name; a Metadata may have options */
  call(
    method: string,
    request: Plain | Buffer,
    metadata: Readonly<Record<string, string>> = {},
    options: grpc.CallOptions = {},
    onCall: (call: grpc.ClientUnaryCall) => void = () => {},
  ): Promise<Outcome> {
    const path = pathOf(method);
    return new Promise((resolve) => {
      let answer: Plain = {};
      const call = this.#client.makeUnaryRequest(
        path,
        (value: Plain | Buffer) => (Buffer.isBuffer(value) ? value : encodeByOthers(typesOf(path).request, value)),
        (bytes) => decodeByOthers(typesOf(path).response, bytes),
        request,
        metadataOf(metadata),
        options,
        (_error, value) => {
          answer = value ?? {};
        },
      );
      call.on('status', (given: grpc.StatusObject) => {
        const { code, details, metadata: trailers } = given;
        const [reason] = trailers.get('mltcp-reason');
        // After the callback, which comes in the same turn.
        setImmediate(() => resolve({ value: answer, code, details, reason: reason?.toString(), metadata: trailers }));
      });
      onCall(call);
    });
  }

  infer(
    request: Plain | Buffer,
    metadata: Readonly<Record<string, string>> = {},
    options: grpc.CallOptions = {},
    onCall?: (call: grpc.ClientUnaryCall) => void,
  ): Promise<Outcome> {
    return this.call('ModelInfer', request, metadata, options, onCall);
  }

  stream(method: string, metadata: Readonly<Record<string, string>> = {}): BidiCall {
    const path = pathOf(method);
    return this.#client.makeBidiStreamRequest(
      path,
      (value: Plain) => encodeByOthers(typesOf(path).request, value),
      (bytes) => decodeByOthers(typesOf(path).response, bytes),
      metadataOf(metadata),
      {},
    );
  }

  close(): void {
    this.#client.close();
  }
}

const pathOf = (method: string): string => (method.startsWith('/') ? method : `/${service}/${method}`);

function typesOf(path: string): { readonly request: string; readonly response: string } {
  const [, serviceName = '', method = ''] = path.split('/');
  const found = protoRoot.lookup(serviceName);
  const types = (found as unknown as { methods?: Record<string, { requestType: string; responseType: string }> } | null)
    ?.methods?.[method];
  const named = (name: string): string => `${serviceName.slice(0, serviceName.lastIndexOf('.'))}.${name}`;
  if (types === undefined) return { request: 'inference.ServerLiveRequest', response: 'inference.ServerLiveResponse' };
  return { request: named(types.requestType), response: named(types.responseType) };
}

function metadataOf(values: Readonly<Record<string, string>>): grpc.Metadata {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(values)) metadata.set(name, value);
  return metadata;
}

/** A request for rows of the model `double`. */
export function doubleRequest(numbers: readonly number[], more: Plain = {}): Plain {
  return {
    model_name: 'double',
    inputs: [{ name: 'x', datatype: 'FP32', shape: [numbers.length / 2, 2] }],
    raw_input_contents: [Buffer.from(Float32Array.from(numbers).buffer)],
    ...more,
  };
}

/** The numbers of the only output. */
export function numbersIn(value: Plain): readonly number[] {
  const [raw] = value.raw_output_contents as readonly Buffer[];
  if (raw === undefined) throw new Error(`there is no output in ${JSON.stringify(value)}`);
  return [...new Float32Array(Uint8Array.from(raw).buffer)];
}

/** The messages that a stream brings until it ends, and how it ends. */
export async function streamed(call: BidiCall): Promise<{ readonly messages: Plain[]; readonly code: number }> {
  const messages: Plain[] = [];
  call.on('data', (message: Plain) => messages.push(message));
  call.on('error', () => {});
  const { code } = await new Promise<grpc.StatusObject>((resolve) => call.once('status', resolve));
  return { messages, code };
}
