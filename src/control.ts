// What the primary and its children say to each other over Node's IPC.

import type { Config } from './config/load.js';
import type { OperatorErrorCode } from './errors.js';
import type { ModelVersion } from './inference/versions.js';
import type { RecordUpdate } from './metrics/transport/transport.js';

/** By model: which version to serve. The primary decides, so that all workers serve the same. */
export type ModelVersions = Readonly<Record<string, ModelVersion>>;

export type ReloadResult =
  | { readonly outcome: 'loaded' | 'unchanged'; readonly version: string }
  | { readonly outcome: 'failed'; readonly version: string; readonly reason: string };

/** By model: what came of a reload. */
export type ReloadResults = Readonly<Record<string, ReloadResult>>;

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
  readonly model: string;
}

/** All that a worker needs to know; it reads no config itself, so that all workers of a run have the same. */
export interface WorkerBoot {
  readonly kind: 'boot';
  readonly config: Config;
  readonly versions: ModelVersions;
  readonly run: string;
  readonly slot: number;
  readonly incarnation: number;
}

export type ToWorker =
  | WorkerBoot
  /** The answer to `admit`, for the connections that asked first. */
  | { readonly kind: 'admitted'; readonly granted: number; readonly refused: number }
  | { readonly kind: 'reload-models'; readonly versions: ModelVersions }
  | { readonly kind: 'drain' };

export type FromWorker =
  /** The worker listens to messages now; what is sent to a cluster worker before that is lost. */
  | { readonly kind: 'hello' }
  | {
      readonly kind: 'ready';
      readonly addresses: readonly ListenAddress[];
      readonly models: Readonly<Record<string, string>>;
    }
  | BootFailed
  | { readonly kind: 'models-reloaded'; readonly results: ReloadResults }
  /** `count` new connections ask for a place under server.maxConnections. */
  | { readonly kind: 'admit'; readonly count: number }
  | { readonly kind: 'released'; readonly count: number }
  | { readonly kind: 'update'; readonly update: RecordUpdate };

export interface AggregatorBoot {
  readonly kind: 'boot';
  readonly config: Config;
}

export type ToAggregator =
  | AggregatorBoot
  | { readonly kind: 'update'; readonly update: RecordUpdate }
  | { readonly kind: 'drain' };

export type FromAggregator = { readonly kind: 'ready'; readonly url: string } | BootFailed;

export interface BootFailed {
  readonly kind: 'boot-failed';
  readonly code: OperatorErrorCode;
  readonly message: string;
}

/** Sends to the primary. Rejects when the channel is closed: the primary is gone then. */
export function sendToPrimary(message: FromWorker | FromAggregator): Promise<void> {
  return new Promise((resolve, reject) => {
    if (process.send === undefined) return reject(new Error('this process has no primary'));
    process.send(message, undefined, undefined, (error) => (error === null ? resolve() : reject(error)));
  });
}
