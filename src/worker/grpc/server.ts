// gRPC for the connections of a worker. It listens nowhere: it is handed sockets, plain or with TLS, whose client is
// known to speak HTTP/2, by its preface or by ALPN.

import type { Socket } from 'node:net';
import type { CallListener } from '../oip/service.js';
import type { ServedConnection } from '../protocols.js';
import { GrpcConnection, type GrpcContext } from './connection.js';
import { healthMethods } from './health.js';
import type { RequestListener } from './http2-session.js';
import { inferenceMethods, inferenceService } from './inference.js';
import { reflectionMethods, reflectionServices } from './reflection.js';

export interface GrpcServing {
  readonly listener: CallListener;
  /** Of the client, for the log of rejections. */
  readonly address: string;
  /** Called with false: such connections do not migrate. */
  readonly onClose: (hasMigrated: boolean) => void;
  /** Answers requests of this client that are not gRPC. */
  readonly onRequest: RequestListener;
}

const healthService = 'grpc.health.v1.Health';

export class GrpcServer {
  readonly #context: GrpcContext;

  constructor(context: Omit<GrpcContext, 'methods'>) {
    const services = [inferenceService, healthService, ...reflectionServices];
    const methods = new Map([...inferenceMethods, ...healthMethods(services), ...reflectionMethods(services)]);
    this.#context = { ...context, methods };
  }

  /** @param socket that was not read from, or to which what was read has been unshifted */
  serve(socket: Socket, { listener, address, onClose, onRequest }: GrpcServing): ServedConnection {
    return new GrpcConnection(socket, this.#context, listener, address, onClose, onRequest);
  }
}
