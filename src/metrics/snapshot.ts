// What travels from workers and primaries to aggregators. Every record is whole and cumulative: a lost, repeated or
// late one does no harm, the next one says it all again.
//
// A worker's record counts what that incarnation of the worker counted. When it is gone, its primary adds its counts
// to the node's record and notes there that this incarnation has been folded in: from then on the worker's own record
// is not counted any more, wherever it still lies about. So no reader counts it twice or misses it, whenever it looks.
//
// The next primary of a node adds what earlier runs of the node counted to its own record in the same way, and notes
// which runs these are: `contains`. It has them from the ledger, a file that each primary keeps for its successor, so
// that Redis and every aggregator may lose all that they know.
//
// Records of a run that has been silent for long are replaced by one, of kind `gone`. That is a guess: the node may
// only be cut off. So the new record says which versions of which records it replaces; when the run publishes newer
// ones, these count again, and of the gone record only what they do not reach yet. Of very many gone runs the oldest
// are added up in the base record, for good.

import type { ModelCounter, ModelHistogram, WorkerCounter } from './counters.js';
import type { SparseHistogram } from './histogram.js';

/**
 * `latency`: from a request's last byte to its reply, of those answered; `queueTime`: of each request, to the run of
 * its batch; `runTime`: of each batch.
 */
export interface ModelCounts
  extends Readonly<Record<ModelCounter, number>>,
    Readonly<Record<ModelHistogram, SparseHistogram>> {
  /** Batches by the number of their rows: 1, up to 2, up to 4 …. */
  readonly batchRows: readonly number[];
}

export interface WorkerCounts extends Readonly<Record<WorkerCounter, number>> {
  readonly models: Readonly<Record<string, ModelCounts>>;
}

export type WorkerState = 'ready' | 'draining';

/** How a model of a worker is at this moment. */
export interface ModelGauges {
  readonly version: string;
  readonly execution: 'inline' | 'thread';
  readonly queued: number;
  /** Requests in one call of it, at the most. */
  readonly maxRows: number;
  /** Threads whose runs hang. */
  readonly hungThreads: number;
}

/** How a worker is at this moment. */
export interface WorkerGauges {
  readonly state: WorkerState;
  readonly connections: number;
  readonly inFlight: number;
  readonly models: Readonly<Record<string, ModelGauges>>;
  readonly rssBytes: number;
  /** Processor time since the worker's start. */
  readonly cpuSeconds: number;
  /** Share of one core, 0 to 1 and above, since the record before. */
  readonly cpuShare: number;
  /** Share of the time that the event loop was busy, 0 to 1, since the record before. */
  readonly eventLoopUtilization: number;
  /** How late the event loop comes to what is due, over the last 5 to 10 seconds. */
  readonly eventLoopDelayP99Ms: number;
}

interface RecordBase {
  /** Unique in the cluster, and the same for each renewal of the record. */
  readonly id: string;
  readonly node: string;
  /** One run of one primary: a restart under the same node name is another. */
  readonly run: string;
  /** Grows by one with each renewal. */
  readonly sequence: number;
  /** Milliseconds since the process was started: clocks of machines differ, the pace of time does not. */
  readonly uptimeMs: number;
}

export interface WorkerRecord extends RecordBase {
  readonly kind: 'worker';
  readonly pid: number;
  readonly slot: number;
  /** Counts the forks of this run: a replacement has a higher one. */
  readonly incarnation: number;
  readonly counts: WorkerCounts;
  readonly gauges: WorkerGauges;
}

/** All incarnations up to a number, but for some that still live: what replaces a worker runs beside it for a while. */
export interface FoldedIncarnations {
  readonly upTo: number;
  readonly except: readonly number[];
}

/** An earlier run of a node, and which of its incarnations are contained; what its primary counted is as well. */
export interface ContainedRun extends FoldedIncarnations {
  readonly run: string;
}

export interface NodeRecord extends RecordBase {
  readonly kind: 'node';
  readonly pid: number;
  readonly version: string;
  readonly workersWanted: number;
  readonly restarts: number;
  readonly reloads: number;
  readonly isStopping: boolean;
  /** By model, what it takes and gives: of the node, since its workers all serve the same. Not told before 0.2. */
  readonly signatures?: Readonly<Record<string, string>>;
  /** What the node's departed workers counted, added up, those of the runs in `contains` too. */
  readonly departed: WorkerCounts;
  /** Which of the node's incarnations are contained in `departed`. */
  readonly folded: FoldedIncarnations;
  /** How often workers of the runs in `contains` were replaced. */
  readonly earlierRestarts: number;
  /** Earlier runs of the node that are contained in `departed`, the newest last. */
  readonly contains: readonly ContainedRun[];
}

/** In the place of all records of a run of which nothing has been heard for long. */
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
  /** What its workers had in flight at their last word. */
  readonly inFlight: number;
  readonly restarts: number;
  /** Of the node's record. */
  readonly folded: FoldedIncarnations;
  readonly contains: readonly ContainedRun[];
  /** By id, the sequence of each record that it replaces. */
  readonly replaces: Readonly<Record<string, number>>;
}

/** What runs counted whose records are not kept any more: there were too many. */
export interface BaseRecord {
  readonly kind: 'base';
  readonly id: 'base';
  readonly sequence: number;
  readonly counts: WorkerCounts;
  /** By node, how often its workers were replaced. */
  readonly restarts: Readonly<Record<string, number>>;
  /** The runs that are contained: their own records do not count any more. */
  readonly runs: readonly string[];
}

export type MetricsRecord = WorkerRecord | NodeRecord | GoneRecord | BaseRecord;

/** The id of a worker's record; its primary retires it by this id. */
export function workerRecordId(node: string, run: string, slot: number, incarnation: number): string {
  return `worker:${node}:${run}:${slot}:${incarnation}`;
}

/** Of a worker's record, by its id; none of other records. */
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

/** With one more. Those between, of which nothing is known, are not folded. */
export function withFolded({ upTo, except }: FoldedIncarnations, incarnation: number): FoldedIncarnations {
  if (incarnation <= upTo) return { upTo, except: except.filter((other) => other !== incarnation) };
  const between = Array.from({ length: incarnation - upTo - 1 }, (_, i) => upTo + 1 + i);
  return { upTo: incarnation, except: [...except, ...between] };
}
