// The protocols whose requests name a model and its tensors: calls on frames, HTTP, gRPC. Loaded only where a listener
// speaks one of them: raw frames need none of this.

import type { Socket } from 'node:net';
import type { WorkerConfig } from '../config/slices.js';
import { clientErrors, reasonOf } from '../errors.js';
import type { Decision, ToWorker } from '../ipc/messages.js';
import type { Recorder, WorkerCounter } from '../metrics/recorder.js';
import { Deadlines } from '../serving/deadlines.js';
import type { MemoryBudget } from '../serving/memory-budget.js';
import type { ModelEndpoint } from '../serving/model-endpoint.js';
import type { ReplyFlush } from '../serving/reply-flush.js';
import { connectionFailure } from './calls/dialect.js';
import { openCalls } from './calls/open.js';
import type { GrpcLimits } from './grpc/connection.js';
import { GrpcServer } from './grpc/server.js';
import type { HttpLimits } from './http/context.js';
import { rawRefusal, refusalOf } from './http/refusal.js';
import { HttpServer } from './http/server.js';
import { HttpTunnel } from './http/tunnel.js';
import type { WorkerModels } from './models.js';
import { CallModels } from './oip/call-models.js';
import { WorkerOip } from './oip/oip-service.js';
import type { CallListener } from './oip/service.js';
import { NodeStatistics, type NodeStatisticsOptions } from './oip/statistics.js';
import type { OpenConnection, ProtocolContext } from './protocols.js';

export interface TypedOptions {
  readonly config: WorkerConfig;
  readonly models: WorkerModels;
  /** By model. */
  readonly endpoints: ReadonlyMap<string, ModelEndpoint>;
  readonly recorder: Recorder;
  readonly budget: MemoryBudget;
  readonly flush: ReplyFlush;
  readonly context: ProtocolContext;
  readonly askPrimary: NodeStatisticsOptions['ask'];
}

/** When a client whose connection was refused may try again. */
const retryAfterMs = 1000;

export class TypedProtocols {
  readonly #context: ProtocolContext;
  readonly #statistics: NodeStatistics;
  readonly #oip: WorkerOip;
  readonly #http: HttpServer;
  /** Of requests that come over HTTP/2. */
  readonly #tunnelled: HttpServer;
  readonly #writeTimeoutMs: number;
  readonly #grpc: GrpcServer;

  constructor({ config, models, endpoints, recorder, budget, flush, context, askPrimary }: TypedOptions) {
    this.#context = context;
    this.#statistics = new NodeStatistics({
      ask: askPrimary,
      timeoutMs: config.cluster.hangTimeoutMs,
      lastRunAt: (name) => models.lastRunAt(name),
    });
    const served = new Map([...endpoints.keys()].map((name) => [name, models.get(name)]));
    const maxInFlight = config.server.maxInFlightPerConnection;
    this.#oip = new WorkerOip({
      models: new CallModels(recorder, served, endpoints, (name) => maxQueueOf(config, name)),
      serving: { budget, flush, deadlines: new Deadlines(), maxInFlight },
      statistics: this.#statistics,
      ...(context.rejections === undefined ? {} : { rejections: context.rejections }),
    });
    const { secret } = context;
    const limits = httpLimitsOf(config);
    this.#writeTimeoutMs = limits.writeTimeoutMs;
    this.#http = new HttpServer({ service: this.#oip, limits, recorder, secret });
    this.#tunnelled = new HttpServer({ service: this.#oip, limits, recorder: withoutConnections(recorder), secret });
    this.#grpc = new GrpcServer({ service: this.#oip, limits: grpcLimitsOf(limits), recorder, secret });
  }

  calls(listener: CallListener): OpenConnection {
    return openCalls(this.#oip, listener, this.#context);
  }

  /** Of clients whose first bytes, or TLS handshake, have told that they speak HTTP/1. */
  http1(listener: CallListener): OpenConnection {
    return ({ socket, address, onClose }) =>
      this.#http.serve(socket, { listener, address, onClose: () => onClose(false) });
  }

  http2(listener: CallListener): OpenConnection {
    return ({ socket, address, onClose }) => {
      let tunnel: HttpTunnel | null = null;
      return this.#grpc.serve(socket as Socket, {
        listener,
        address,
        onRequest: (stream, headers) => {
          tunnel ??= new HttpTunnel(this.#tunnelled, listener, address, this.#writeTimeoutMs);
          tunnel.serve(stream, headers);
        },
        onClose: (hasMigrated) => {
          tunnel?.close();
          onClose(hasMigrated);
        },
      });
    };
  }

  /**
   * What a client is told whose connection is refused before anything was read from it. Clients of gRPC cannot be told
   * apart then: they see that this is no HTTP/2, and that the server is not available.
   */
  refusal(protocol: 'calls' | 'open', decision: Exclude<Decision, 'granted'>): Buffer {
    const reason = reasonOf[decision];
    if (protocol === 'calls') return connectionFailure(reason, this.#context.lengthFieldSize);
    return rawRefusal(refusalOf({ reason, message: clientErrors[reason].meaning, retryAfterMs }));
  }

  /** The primary has answered `askPrimary`. */
  answered(answer: Extract<ToWorker, { kind: 'statistics' }>): void {
    this.#statistics.answered(answer);
  }

  /** New requests are not welcome any more: the server is about to stop. */
  drain(): void {
    this.#oip.isReady = false;
  }

  /** To be called when all connections have ended. */
  async close(): Promise<void> {
    await this.#http.close();
    await this.#tunnelled.close();
  }
}

/** For connections within this process, whose bytes and ends are those of another. */
function withoutConnections(recorder: Recorder): Pick<Recorder, 'count'> {
  return {
    count(counter: WorkerCounter, by = 1): void {
      if (counter.startsWith('pausedBy')) recorder.count(counter, by);
    },
  };
}

/** How many rows of a model may wait, and so how many a request may have. */
function maxQueueOf({ models }: WorkerConfig, name: string): number {
  return models.find((model) => model.name === name)?.maxQueue ?? 0;
}

function httpLimitsOf({ server }: WorkerConfig): HttpLimits {
  return {
    maxPayloadBytes: server.maxPayloadSizeKb * 1024,
    maxJsonBytes: server.maxJsonKb * 1024,
    maxHeaderBytes: server.maxHeaderKb * 1024,
    maxWriteBufferBytes: server.maxWriteBufferKb * 1024,
    maxInFlight: server.maxInFlightPerConnection,
    payloadTimeoutMs: server.payloadTimeoutSeconds * 1000,
    idleTimeoutMs: server.httpIdleSeconds * 1000,
    writeTimeoutMs: server.writeTimeoutSeconds * 1000,
  };
}

function grpcLimitsOf({ maxPayloadBytes, maxInFlight, ...others }: HttpLimits): GrpcLimits {
  return { ...others, maxMessageBytes: maxPayloadBytes, maxCalls: maxInFlight };
}
