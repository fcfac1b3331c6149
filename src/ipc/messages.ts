// What the primary and its children say to each other over Node's IPC.

import type { AggregatorConfig, WorkerConfig } from '../config/slices.js';
import type { OperatorErrorCode } from '../errors.js';
import type { ModelVersion } from '../inference/versions.js';
import type { RecordUpdate } from '../metrics/transport/transport.js';
import type { ProcessIdentity } from '../process-identity.js';
import type { EncodedConnectionState } from './connection-state.js';

/** By model: which version to serve. The primary decides, so that all workers serve the same. */
export type ModelVersions = Readonly<Record<string, ModelVersion>>;

export type ReloadResult =
  | { readonly outcome: 'loaded'; readonly version: string; readonly description: string }
  | { readonly outcome: 'unchanged'; readonly version: string }
  | { readonly outcome: 'failed'; readonly version: string; readonly reason: string };

/** By model: what it takes and gives. */
export type Signatures = Readonly<Record<string, string>>;

/** By model: what came of a reload. */
export type ReloadResults = Readonly<Record<string, ReloadResult>>;

/** Why there is no place for a connection; by the name of its counter. */
type Full = 'refusedByLimit' | 'refusedByAddressLimit' | 'refusedByRate';

/** Whether there is a place for a connection. */
export type Decision = 'granted' | Full;

/** What the primary says of a connection that it gives to a worker. */
export interface Permit {
  /** Of the client, as limits for each client go by. */
  readonly address: string;
  readonly decision: Decision;
}

/** A connection that comes to a worker. */
export interface Arrival extends Permit {
  /** Which of the listeners in the worker's config it came through. */
  readonly listener: number;
}

/** Why a connection is closed by the primary. */
export type Refusal = Full | 'refusedByAddress' | 'refusedByDescriptors' | 'refusedByWait';

/** How many connections it has closed. */
export type Refusals = readonly (readonly [reason: Refusal, count: number])[];

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
  readonly model: string;
}

/** All that a worker needs to know; it reads no config itself, so that all workers of a run have the same. */
export interface WorkerBoot {
  readonly kind: 'boot';
  readonly config: WorkerConfig;
  readonly versions: ModelVersions;
  readonly run: string;
  readonly slot: number;
  readonly incarnation: number;
  /** Where it keeps its counts in a counter file; null: nowhere. */
  readonly slabFolder: string | null;
  /** Who takes them over; null where there is no /proc. */
  readonly primary: ProcessIdentity | null;
}

export type ToWorker =
  | WorkerBoot
  /** Connections that the primary has closed itself; to be counted. */
  | { readonly kind: 'turned-away'; readonly refusals: Refusals }
  /** A connection comes with it, where it cannot come beside Node's messages. */
  | { readonly kind: 'connection'; readonly arrival: Arrival }
  | { readonly kind: 'reload-models'; readonly versions: ModelVersions }
  /** Answer what is in flight, close all connections, and end. */
  | { readonly kind: 'drain' }
  /** Give all connections of listeners that serve these models to others, and end. */
  | { readonly kind: 'retire'; readonly movable: readonly string[] }
  /** Give so many connections of these models to others. */
  | { readonly kind: 'migrate-some'; readonly count: number; readonly movable: readonly string[] }
  /** The handle of a connection comes with it; serve the connection when its state has come, too. */
  | { readonly kind: 'attach'; readonly id: string; readonly model: string; readonly address: string }
  /** Null: the connection has closed on its way. */
  | { readonly kind: 'attach-state'; readonly id: string; readonly state: EncodedConnectionState | null }
  /** A connection comes with it, to see whether connections can move. */
  | { readonly kind: 'check-migration' }
  /** What is to be written to that connection. */
  | { readonly kind: 'finish-migration-check'; readonly bytes: number };

export type FromWorker =
  | Hello
  | {
      readonly kind: 'ready';
      readonly models: Readonly<Record<string, string>>;
      /** By model: bytes of one input row; null where any length may be right. */
      readonly rowBytes: Readonly<Record<string, number | null>>;
      readonly signatures: Signatures;
    }
  | BootFailed
  | { readonly kind: 'models-reloaded'; readonly results: ReloadResults; readonly signatures: Signatures }
  /** It has so many more of the connections it was sent; and some have ended: these clients' places are free. */
  | { readonly kind: 'connections'; readonly acknowledged: number; readonly released: readonly string[] }
  /** A connection is to move; its handle comes with it. */
  | { readonly kind: 'migrate'; readonly id: string; readonly model: string; readonly address: string }
  /** Null: it has closed meanwhile. */
  | { readonly kind: 'migration-state'; readonly id: string; readonly state: EncodedConnectionState | null }
  /** The connection that was on its way to this worker is this worker's own now. */
  | { readonly kind: 'attached'; readonly id: string }
  /** Another worker should take its place: it serves for now, and cannot get well. */
  | { readonly kind: 'replace'; readonly reason: string }
  /** It has said all that it has to say, and cannot end by itself. */
  | { readonly kind: 'kill'; readonly reason: string }
  | { readonly kind: 'update'; readonly update: RecordUpdate };

export interface AggregatorBoot {
  readonly kind: 'boot';
  readonly config: AggregatorConfig;
}

export type ToAggregator =
  | AggregatorBoot
  | { readonly kind: 'update'; readonly update: RecordUpdate }
  | { readonly kind: 'drain' };

export type FromAggregator = Hello | { readonly kind: 'ready'; readonly url: string } | BootFailed;

/** The process listens to messages now; what is sent to a cluster worker before that is lost. */
export interface Hello {
  readonly kind: 'hello';
  /** What it runs, as `code.ts` tells it. */
  readonly code: string;
  /** Whether connections may come to it beside Node's messages. */
  readonly takesHandles?: boolean;
}

export interface BootFailed {
  readonly kind: 'boot-failed';
  readonly code: OperatorErrorCode;
  readonly message: string;
}
