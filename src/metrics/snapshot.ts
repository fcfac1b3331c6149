// What travels from workers and primaries to aggregators. Every record is whole and cumulative: a lost, repeated or
// late one does no harm, the next one says it all again.
//
// A worker's record counts what that incarnation of the worker counted. When it is gone, its primary adds its counts
// to the node's record and notes there that this incarnation has been folded in: from then on the worker's own record
// is not counted any more, wherever it still lies about. So no reader counts it twice or misses it, whenever it looks.
// A run of a node that has been gone for long is folded into the base record in the same way.

import type { SparseHistogram } from './histogram.js';
import type { ModelCounter, ModelHistogram, WorkerCounter } from './recorder.js';

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

export interface NodeRecord extends RecordBase {
  readonly kind: 'node';
  readonly pid: number;
  readonly version: string;
  readonly workersWanted: number;
  readonly restarts: number;
  readonly reloads: number;
  readonly isStopping: boolean;
  /** What the node's departed workers counted, added up. */
  readonly departed: WorkerCounts;
  /** Which of the node's incarnations are contained in `departed`. */
  readonly folded: FoldedIncarnations;
}

/** What runs of nodes counted that are gone for so long that their records were removed. */
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

export type MetricsRecord = WorkerRecord | NodeRecord | BaseRecord;

/** The id of a worker's record; its primary retires it by this id. */
export function workerRecordId(node: string, run: string, slot: number, incarnation: number): string {
  return `worker:${node}:${run}:${slot}:${incarnation}`;
}
