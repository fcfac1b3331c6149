// The records that workers and primaries send to aggregators. Every record is complete and cumulative: a lost, repeated
// or late one does no harm, since the next one repeats everything.
//
// A worker's record holds the counts of that incarnation of the worker. When the incarnation is gone, its primary adds
// its counts to the node's record and notes there that it has been folded in: from then on the worker's own record no
// longer counts, wherever a copy remains. So no reader counts it twice or misses it, whenever it reads.
//
// The next primary of a node adds what earlier runs of the node counted to its own record in the same way, and lists
// these runs in `contains`. It reads their counts from the ledger, a file that each primary keeps for its successor, so
// that Redis and every aggregator may lose everything they know.
//
// When a run has been silent for long, one record of kind `gone` replaces its records. That is a guess: the node may
// only be cut off. So the new record lists which versions of which records it replaces; when the run publishes newer
// ones, these count again, and the gone record counts only where they fall short of it. When there are very many gone
// runs, the oldest are added up in the base record, permanently.

import type { ModelCounter, ModelHistogram, WorkerCounter } from './counters.js';
import type { SparseHistogram } from './histogram.js';

/**
 * `latency`: from the last byte of each answered request to its reply; `queueTime`: from the last byte of each request
 * to the run of its batch; `runTime`: the run of each batch.
 */
export interface ModelCounts
  extends Readonly<Record<ModelCounter, number>>,
    Readonly<Record<ModelHistogram, SparseHistogram>> {
  /** Batches by their number of rows: 1, up to 2, up to 4 …. */
  readonly batchRows: readonly number[];
}

export interface WorkerCounts extends Readonly<Record<WorkerCounter, number>> {
  readonly models: Readonly<Record<string, ModelCounts>>;
}

export type WorkerState = 'ready' | 'draining';

/** The current state of a model in a worker. */
export interface ModelGauges {
  readonly version: string;
  readonly execution: 'inline' | 'thread';
  readonly queued: number;
  /** How long a request of a client that has none in flight would wait for its run. */
  readonly predictedWaitMs: number;
  /** The most requests in one call of the model. */
  readonly maxRows: number;
  /** Why not more; absent before 0.3. */
  readonly maxRowsBecause?: string;
  /** What a run is expected to take: so much, and so much more for each row; 0 while not known. Absent before 0.3. */
  readonly runMs?: number;
  readonly rowMs?: number;
  /** Threads whose runs hang. */
  readonly hungThreads: number;
  /** What loading it added to the resident memory of the worker; absent before 0.3. */
  readonly memoryBytes?: number;
  /** When its last run ended, in milliseconds since the epoch by the clock of its machine; 0: it never ran. */
  readonly lastRunAt?: number;
}

/** The current state of a worker. */
export interface WorkerGauges {
  readonly state: WorkerState;
  readonly connections: number;
  readonly inFlight: number;
  readonly models: Readonly<Record<string, ModelGauges>>;
  readonly rssBytes: number;
  /** Processor time since the worker's start. */
  readonly cpuSeconds: number;
  /** Share of one core, 0 to 1 and above, since the previous record. */
  readonly cpuShare: number;
  /** Share of the time that the event loop was busy, 0 to 1, since the previous record. */
  readonly eventLoopUtilization: number;
  /** How late the event loop runs what is due, over the last 5 to 10 seconds. */
  readonly eventLoopDelayP99Ms: number;
  /** Requests and connections that were refused or failed in the last seconds, the oldest first; absent: none. */
  readonly rejections?: readonly PublishedRejection[];
}

/** Why a request or a connection was refused, or failed. There is no payload in it. */
export interface PublishedRejection {
  /** The client's address; empty: unknown. */
  readonly client: string;
  readonly protocol: string;
  /** Empty: unknown, or of no matter. */
  readonly model: string;
  /** A row of `clientErrors`. */
  readonly reason: string;
  /** What was expected, and what came. */
  readonly detail: string;
  /** When, in milliseconds since the process started, as `uptimeMs` of its record. */
  readonly uptimeMs: number;
}

interface RecordBase {
  /** Unique in the cluster, and the same for each renewal of the record. */
  readonly id: string;
  readonly node: string;
  /** One run of one primary: a restart under the same node name is another run. */
  readonly run: string;
  /** Grows by one with each renewal. */
  readonly sequence: number;
  /** Milliseconds since the process started: the clocks of machines differ, but their pace does not. */
  readonly uptimeMs: number;
}

export interface WorkerRecord extends RecordBase {
  readonly kind: 'worker';
  readonly pid: number;
  readonly slot: number;
  /** Counts the forks of this run: a replacement has a higher number. */
  readonly incarnation: number;
  readonly counts: WorkerCounts;
  readonly gauges: WorkerGauges;
}

/** All incarnations up to a number, except some that still live: a worker and its replacement overlap for a while. */
export interface FoldedIncarnations {
  readonly upTo: number;
  readonly except: readonly number[];
}

/** An earlier run of a node, and which of its incarnations are contained; its primary's own counts are as well. */
export interface ContainedRun extends FoldedIncarnations {
  readonly run: string;
}

/** A dimension is a number, or the name of a dynamic one. */
export interface PublishedTensor {
  readonly name: string;
  readonly dtype: string;
  readonly dims: readonly (number | string)[];
  /** Along which axis requests are joined, `shared` by all requests of a run, or `none`. */
  readonly batchAxis: number | 'shared' | 'none';
  readonly requestDims: readonly (number | string)[];
}

/** What a node publishes of a model: a few kilobytes at the most, since it does so several times a second. */
export interface PublishedModel {
  readonly version: string;
  readonly runsAloneBecause: string | null;
  /** Null for a model whose payloads only it understands. */
  readonly plan: {
    readonly inputs: readonly (PublishedTensor & { readonly isConstant: boolean })[];
    readonly outputs: readonly (PublishedTensor & {
      readonly isReturned: boolean;
      readonly labels: readonly (string | number)[] | null;
    })[];
    readonly fixedBatch: number | null;
    readonly notes: readonly string[];
    /** How many inputs and outputs the model has; the first ones are listed. */
    readonly inputCount: number;
    readonly outputCount: number;
    /** Whether anything was left out. */
    readonly isCut: boolean;
  } | null;
}

export interface NodeRecord extends RecordBase {
  readonly kind: 'node';
  readonly pid: number;
  readonly version: string;
  readonly workersWanted: number;
  readonly restarts: number;
  readonly reloads: number;
  readonly isStopping: boolean;
  /** By model, its input and output; one for the node, since its workers all serve the same. Absent before 0.2. */
  readonly signatures?: Readonly<Record<string, string>>;
  /** By model, what it takes and gives, in the same way. Absent before 0.2. */
  readonly models?: Readonly<Record<string, PublishedModel>>;
  /** The sum of what the node's departed workers counted, including those of the runs in `contains`. */
  readonly departed: WorkerCounts;
  /** Which of the node's incarnations are contained in `departed`. */
  readonly folded: FoldedIncarnations;
  /** How often workers of the runs in `contains` were replaced. */
  readonly earlierRestarts: number;
  /** Earlier runs of the node that are contained in `departed`, the newest last. */
  readonly contains: readonly ContainedRun[];
}

/** Replaces all records of a run that has been silent for long. */
export interface GoneRecord {
  readonly kind: 'gone';
  readonly id: string;
  readonly node: string;
  readonly run: string;
  readonly sequence: number;
  /** What the node's record counted, until another record contains that. */
  readonly departed: WorkerCounts;
  /** By id, what the records of its workers counted. */
  readonly workers: Readonly<Record<string, WorkerCounts>>;
  /** Requests that its workers had in flight according to their last records. */
  readonly inFlight: number;
  readonly restarts: number;
  /** As in the node's record. */
  readonly folded: FoldedIncarnations;
  readonly contains: readonly ContainedRun[];
  /** By id, the sequence of each record that it replaces. */
  readonly replaces: Readonly<Record<string, number>>;
}

/** The counts of runs whose records are no longer kept, because there were too many. */
export interface BaseRecord {
  readonly kind: 'base';
  readonly id: 'base';
  readonly sequence: number;
  readonly counts: WorkerCounts;
  /** By node, how often its workers were replaced. */
  readonly restarts: Readonly<Record<string, number>>;
  /** The runs that it contains: their own records no longer count. */
  readonly runs: readonly string[];
}

export type MetricsRecord = WorkerRecord | NodeRecord | GoneRecord | BaseRecord;

/** The id of a worker's record; its primary retires it by this id. */
export function workerRecordId(node: string, run: string, slot: number, incarnation: number): string {
  return `worker:${node}:${run}:${slot}:${incarnation}`;
}

/** The incarnation in the id of a worker's record; empty for other records. */
export function incarnationOf(id: string): readonly number[] {
  return id.startsWith('worker:') ? [Number(id.slice(id.lastIndexOf(':') + 1))] : [];
}

export function nodeRecordId(node: string, run: string): string {
  return `node:${node}:${run}`;
}

export function goneRecordId(node: string, run: string): string {
  return `gone:${node}:${run}`;
}

export const noneFolded: FoldedIncarnations = { upTo: 0, except: [] };

export function isFolded(incarnation: number, folded: FoldedIncarnations | undefined): boolean {
  return folded !== undefined && incarnation <= folded.upTo && !folded.except.includes(incarnation);
}

/** Adds one incarnation. Those in between, of which nothing is known, are not folded. */
export function withFolded({ upTo, except }: FoldedIncarnations, incarnation: number): FoldedIncarnations {
  if (incarnation <= upTo) return { upTo, except: except.filter((other) => other !== incarnation) };
  const between = Array.from({ length: incarnation - upTo - 1 }, (_, i) => upTo + 1 + i);
  return { upTo: incarnation, except: [...except, ...between] };
}
