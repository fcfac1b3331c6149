// The messages between the primary and its children over Node's IPC.

import type { Listener } from '../config/listeners.js';
import type { AggregatorConfig, WorkerConfig } from '../config/slices.js';
import type { OperatorErrorCode } from '../errors.js';
import type { ModelReport } from '../inference/model-report.js';
import type { ModelVersion } from '../inference/versions.js';
import type { StatisticsByModel } from '../metrics/statistics.js';
import type { RecordUpdate } from '../metrics/transport/transport.js';
import type { ProcessIdentity } from '../process/process-identity.js';
import type { EncodedConnectionState } from './connection-state.js';

/** By model: which version to serve. The primary decides, so that all workers serve the same. */
export type ModelVersions = Readonly<Record<string, ModelVersion>>;

export type ReloadResult =
  | { readonly outcome: 'loaded'; readonly version: string; readonly description: string }
  | { readonly outcome: 'unchanged'; readonly version: string }
  | { readonly outcome: 'failed'; readonly version: string; readonly reason: string };

/** By model: what it takes and gives, and how requests share a run. */
export type ModelReports = Readonly<Record<string, ModelReport>>;

/** By model: the result of a reload. */
export type ReloadResults = Readonly<Record<string, ReloadResult>>;

/** Why there is no place for a connection, as the name of its counter. */
type Full = 'refusedByLimit' | 'refusedByAddressLimit' | 'refusedByRate';

/** Whether there is a place for a connection. */
export type Decision = 'granted' | Full;

/** What the primary sends about a connection that it gives to a worker. */
export interface Permit {
  /** The client's address, as limits per client use it. */
  readonly address: string;
  readonly decision: Decision;
}

/** A connection that comes to a worker. */
export interface Arrival extends Permit {
  /** Which listener in the worker's config it came through. */
  readonly listener: number;
}

/** Why the primary closes a connection. */
export type Refusal = Full | 'refusedByAddress' | 'refusedByDescriptors' | 'refusedByWait';

/** How many connections it has closed, and the address of the last client; empty: unknown. */
export type Refusals = readonly (readonly [reason: Refusal, count: number, client: string])[];

/** What a listener serves, and where: its port is the one that it got. */
export type ListenAddress = Pick<Listener, 'host' | 'port' | 'protocol' | 'models' | 'model'>;

/** Everything that a worker needs to know; it reads no config itself, so that all workers of a run have the same. */
export interface WorkerBoot {
  readonly kind: 'boot';
  readonly config: WorkerConfig;
  readonly versions: ModelVersions;
  readonly run: string;
  readonly slot: number;
  readonly incarnation: number;
  /** The folder of its counter file; null: it has none. */
  readonly slabFolder: string | null;
  /** The process that takes over its counts; null where there is no /proc. */
  readonly primary: ProcessIdentity | null;
}

export type ToWorker =
  | WorkerBoot
  /** Connections that the primary has closed itself, for the worker to count. */
  | { readonly kind: 'turned-away'; readonly refusals: Refusals }
  /** A connection comes with this message, where it cannot come outside Node's messages. */
  | { readonly kind: 'connection'; readonly arrival: Arrival }
  | { readonly kind: 'reload-models'; readonly versions: ModelVersions }
  /** What the whole node has counted, some of it after the question came. */
  | { readonly kind: 'statistics'; readonly question: number; readonly models: StatisticsByModel }
  /** Answer what is in flight, close all connections, and end. */
  | { readonly kind: 'drain' }
  /** Migrate the connections that have one of these routes, drain the others, and end. */
  | { readonly kind: 'retire'; readonly movable: readonly string[] }
  /** Migrate `count` connections that have one of these routes to other workers. */
  | { readonly kind: 'migrate-some'; readonly count: number; readonly movable: readonly string[] }
  /** The handle of a connection comes with this message; serve the connection when its state has come as well. */
  | { readonly kind: 'attach'; readonly id: string; readonly route: string; readonly address: string }
  /** Null: the connection has closed on its way. */
  | { readonly kind: 'attach-state'; readonly id: string; readonly state: EncodedConnectionState | null }
  /** A connection comes with this message, to test whether connections can migrate. */
  | { readonly kind: 'check-migration' }
  /** How many bytes to write to that connection. */
  | { readonly kind: 'finish-migration-check'; readonly bytes: number };

export type FromWorker =
  | Hello
  | {
      readonly kind: 'ready';
      readonly models: Readonly<Record<string, string>>;
      /** By model: bytes of one input row; null where any length may be right. */
      readonly rowBytes: Readonly<Record<string, number | null>>;
      readonly reports: ModelReports;
    }
  | BootFailed
  | { readonly kind: 'models-reloaded'; readonly results: ReloadResults; readonly reports: ModelReports }
  /**
   * The worker has received `acknowledged` more connections; connections of the clients in `released` have ended, and
   * their places are free.
   */
  | { readonly kind: 'connections'; readonly acknowledged: number; readonly released: readonly string[] }
  /** A connection is to migrate; its handle comes with this message. */
  | { readonly kind: 'migrate'; readonly id: string; readonly route: string; readonly address: string }
  /** Null: the connection has closed meanwhile. */
  | { readonly kind: 'migration-state'; readonly id: string; readonly state: EncodedConnectionState | null }
  /** The connection that was on its way to this worker now belongs to it. */
  | { readonly kind: 'attached'; readonly id: string }
  /** A client asks for the statistics of the node; a worker asks one question at a time. */
  | { readonly kind: 'ask-statistics'; readonly question: number }
  /** Another worker should take its place: it still serves, but cannot recover. */
  | { readonly kind: 'replace'; readonly reason: string }
  /** It has sent everything that it had to send, and cannot end by itself. */
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

/** The process receives messages from now on; a message sent to a cluster worker before that is lost. */
export interface Hello {
  readonly kind: 'hello';
  /** The code that it runs, as `code.ts` identifies it. */
  readonly code: string;
  /** Whether connections may come to it outside Node's messages. */
  readonly takesHandles?: boolean;
}

export interface BootFailed {
  readonly kind: 'boot-failed';
  readonly code: OperatorErrorCode;
  readonly message: string;
}
