// What the typed protocols (calls on frames, HTTP, gRPC) ask of a worker. They turn bytes into an InferCall and an
// InferAnswer or a CallFailure into bytes; everything between is here, and the same for each of them: which model is
// meant, whether the tensors are those of its signature, the limits, the batch, the counts.
//
//   bytes ─▶ InferCall ─▶ calls.infer() ─▶ payloads ─▶ ModelEndpoint ─▶ the model
//   bytes ◀─ receiver.answered(), .failed() ◀─ tensors ◀─ counted when it returns ◀─┘
//   sent  ◀─ client.sendReplies() ◀─ counts are safe

import type { RequestError } from '../../errors.js';
import type { InferAnswer, InferCall } from '../../protocol/oip/infer.js';
import type {
  modelConfigResponse,
  modelMetadataResponse,
  modelStatisticsResponse,
  repositoryIndexResponse,
  serverMetadataResponse,
} from '../../protocol/oip/messages.js';
import type { Value } from '../../protocol/protobuf/messages.js';
import type { Holder } from '../../serving/memory-budget.js';

/** Why a request has no answer. */
export interface CallFailure {
  /** A row of `clientErrors`, which has its HTTP status and its google.rpc.Code. */
  readonly reason: RequestError;
  /** For people: what was expected, and what came. */
  readonly message: string;
  /** When another try is likely to succeed, in milliseconds; 0: nobody knows, or never. */
  readonly retryAfterMs: number;
}

/** A CallFailure that is thrown. */
export class CallError extends Error implements CallFailure {
  readonly reason: RequestError;
  readonly retryAfterMs: number;

  constructor(reason: RequestError, message: string, retryAfterMs = 0) {
    super(message);
    this.name = 'CallError';
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
  }
}

/** A connection, as its memory and its replies concern it. */
export interface CallClient extends Holder {
  /**
   * Sends what receivers have encoded since the last time: it is counted, and the counts are safe. Also called after
   * the client has closed.
   */
  sendReplies(): void;
}

/** Who gets the answer to one request; one of the two is called, once. Both may be called before `infer` returns. */
export interface CallReceiver {
  /**
   * Encodes the answer, whose memory is valid only during this call, and keeps it until `sendReplies`.
   * @returns whether the protocol can say it; false: the request counts as failed
   */
  answered(answer: InferAnswer): boolean;
  /** Encodes the failure, and keeps it until `sendReplies`. */
  failed(failure: CallFailure): void;
}

export interface PendingCall {
  /** The client no longer wants it: its receiver is not called any more, and it counts as abandoned. */
  cancel(): void;
}

/** The requests of one connection, to any of the models. */
export interface ClientCalls {
  /** Requests that wait for their answers. */
  readonly inFlight: number;
  /** Further requests that it may have in flight: read no more of them at 0 or less. */
  readonly places: number;
  /** Further bytes that it may hold: read no more at 0 or less. */
  readonly room: number;
  /**
   * Asks a model. Never throws: what is wrong with the request fails it.
   * @param call its memory may be reused when this has returned
   * @param arrivedAt when the last of its bytes came, by the monotonic clock
   */
  infer(call: InferCall, arrivedAt: number, receiver: CallReceiver): PendingCall;
  /**
   * Counts a request that the protocol itself refuses, for example since it is too large or cannot be decoded, and
   * writes it to the log of rejections. The protocol answers it.
   * @param model what the request named, as far as that is known; may be no model of ours
   */
  refused(model: string, failure: CallFailure): void;
  /** Has `sendReplies` called: something was encoded that is no answer of a model. */
  flush(): void;
  /**
   * Reports what the connection holds besides its requests: bytes of requests that are not whole, and replies that were
   * not taken. False: read no more until `resumeReading`.
   */
  hold(bytes: number): boolean;
  /** The client is gone: what it asked is no longer needed. */
  close(): void;
}

export type CallProtocol = 'calls' | 'http' | 'grpc';

export interface OipService {
  /**
   * @param client one for each connection: clients take turns, and share memory
   * @param address of the client, for the log of rejections
   * @param protocol its name there
   */
  connect(client: CallClient, address: string, listener: CallListener, protocol: CallProtocol): ClientCalls;
  /** Whether new requests are welcome: false once it drains. */
  readonly isReady: boolean;
  serverMetadata(): Value<(typeof serverMetadataResponse)['fields']>;
  /** These throw CallError MODEL_NOT_FOUND. An empty version means the one that is served. */
  modelMetadata(
    listener: CallListener,
    model: string,
    version: string,
  ): Value<(typeof modelMetadataResponse)['fields']>;
  modelConfig(listener: CallListener, model: string, version: string): Value<(typeof modelConfigResponse)['fields']>;
  /** Whether it is served; does not throw. */
  isModelReady(listener: CallListener, model: string, version: string): boolean;
  /** Of the whole node. All models when the name is empty. Rejects with CallError MODEL_NOT_FOUND. */
  modelStatistics(
    listener: CallListener,
    model: string,
    version: string,
  ): Promise<Value<(typeof modelStatisticsResponse)['fields']>>;
  repositoryIndex(listener: CallListener): Value<(typeof repositoryIndexResponse)['fields']>;
}

/** What a listener serves. */
export interface CallListener {
  /** By name. */
  readonly models: readonly string[];
  /** For requests that name none; null: they must name one. */
  readonly defaultModel: string | null;
}
