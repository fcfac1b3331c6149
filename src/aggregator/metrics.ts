// The JSON of GET /metrics, WS /metrics and Socket.IO's `metrics`. The first ten keys are those of the original server.

import type { ReasonOf } from '../metrics/counters.js';

export interface Metrics extends LatencyWindowsMs {
  /** ISO 8601, when the first node of the cluster that is known started. */
  readonly initial_time: string;
  /** Seconds since then. */
  readonly uptime: number;
  /** Open now. */
  readonly connections: number;
  /** Requests received: every complete frame, and every frame refused for its length. */
  readonly total_requests: number;
  /** Over the last five seconds. */
  readonly requests_per_second: number;
  /** total_requests / uptime: what the original server called requests_per_second. */
  readonly requests_per_second_lifetime: number;
  /** Requests answered with an empty frame. */
  readonly errors: number;
  /** errors / total_requests. */
  readonly error_rate: number;
  /** Over the last five seconds. */
  readonly errors_per_second: number;
  /** Requests that the model failed on. */
  readonly inference_errors: number;
  readonly inference_error_rate: number;
  /** Requests refused because the model's queue was full. */
  readonly queue_overload: number;
  /** Requests that had no reply when their connection ended: the client left, or the worker died. */
  readonly requests_abandoned: number;
  /** Over the last five seconds. */
  readonly abandoned_per_second: number;
  /** Those of them that were in flight in a worker that died; and in the last minute. */
  readonly requests_lost: number;
  readonly requests_lost_60s: number;
  /** Connections that ended with a worker that died; and in the last minute. */
  readonly connections_lost: number;
  readonly connections_lost_60s: number;
  readonly in_flight: number;
  /**
   * received − answered − failed − refused − expired − abandoned − in flight, machines that are gone included: anything
   * but 0 while no request is running is a defect.
   */
  readonly audit_imbalance: number;
  /** Milliseconds since these numbers were read, when they were sent. */
  readonly age_ms: number;
  /** Whether that is too long ago to be trusted: Redis cannot be reached, so this is the last known state. */
  readonly stale: boolean;
  /** Age of the oldest node's data; null when no node is up. */
  readonly snapshot_age_ms: number | null;
  readonly connections_refused: number;
  readonly models: readonly ModelMetrics[];
  readonly workers: readonly WorkerMetrics[];
  readonly nodes: readonly NodeMetrics[];
  /** What has changed since this aggregator began, the oldest first; the last hundred. */
  readonly events: readonly ClusterEvent[];
}

export interface ClusterEvent {
  /** Seconds since the epoch. */
  readonly t: number;
  /** A failure, a recovery, or something that an operator asked for. */
  readonly severity: 'bad' | 'good' | 'change';
  readonly text: string;
}

/** From a request's last byte to its reply. */
export interface LatencyWindowsMs {
  /** Since the start. */
  readonly latency_ms: LatencyMs;
  readonly latency_ms_10s: LatencyMs;
  readonly latency_ms_60s: LatencyMs;
}

/** Milliseconds, at most 1.6 % off; null when there were no requests. */
export interface LatencyMs {
  /** How many of them there were. */
  readonly count: number;
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p99: number | null;
  readonly p999: number | null;
  readonly max: number | null;
}

export interface ModelMetrics extends LatencyWindowsMs {
  readonly name: string;
  readonly requests: number;
  readonly rps: number;
  readonly answered: number;
  readonly failed: number;
  readonly refused: Readonly<Record<ReasonOf<'mltcp_requests_refused_total'>, number>>;
  /** Requests whose deadline had passed before they could be run. */
  readonly expired: number;
  /** Requests that had no reply when their connection ended. */
  readonly abandoned: number;
  /** Those of them that were in flight in a worker that died. */
  readonly lost: number;
  /** Requests that are queued for it now. */
  readonly queued: number;
  /** How long a request of a client that has none in flight would wait for its run, where that is longest. */
  readonly predicted_wait_ms: number;
  /** From a request's last byte to the run of its batch. */
  readonly queue_ms: LatencyMs;
  /** One call of the model. */
  readonly run_ms: LatencyMs;
  readonly batches: number;
  /** Mean. */
  readonly rows_per_batch: number;
  /** Batches by their size: at most this many rows → batches. Sizes that never occurred are left out. */
  readonly batch_rows: Readonly<Record<string, number>>;
  /** Why batches were closed: they were full, the event-loop turn or the delay was over, the server drained. */
  readonly closed: Readonly<Record<ReasonOf<'mltcp_batches_closed_total'>, number>>;
  /** Rows that were run again alone because their batch had failed. */
  readonly retried_rows: number;
  /** Versions that workers serve now: one, except during a reload. */
  readonly versions: readonly string[];
  /** Its backend, inputs and outputs: one text, except during a reload. */
  readonly signatures: readonly string[];
  /** Where it runs: inline or thread. */
  readonly execution: readonly string[];
  /** Requests that may share a run: 1 where a batch would change answers. */
  readonly max_rows: number;
  /** Why not more. */
  readonly max_rows_because: readonly string[];
  /** What a run is expected to take, whatever its rows, and more for each of them: of the slowest worker. */
  readonly run_fixed_ms: number;
  readonly row_ms: number;
  readonly loads: number;
  readonly load_failures: number;
  readonly thread_crashes: number;
  readonly thread_hangs: number;
  /** Threads whose runs hang now. */
  readonly hung_threads: number;
  /** What loading it added to the resident memory of all workers together, in bytes. */
  readonly memory: number;
}

export interface WorkerMetrics extends LatencyWindowsMs {
  readonly pid: number;
  readonly node: string;
  readonly slot: number;
  /** `lost`: it has not published for a while. */
  readonly state: 'ready' | 'draining' | 'lost';
  readonly connections: number;
  readonly in_flight: number;
  readonly queued: number;
  readonly requests: number;
  readonly rps: number;
  readonly errors: number;
  /** Share of one core. */
  readonly cpu: number;
  /** Resident bytes. */
  readonly memory: number;
  /** 0 to 1. */
  readonly event_loop_utilization: number;
  /** How late its event loop runs timers, over the last 5 to 10 seconds. */
  readonly event_loop_delay_p99_ms: number;
  readonly started: string;
  readonly age_ms: number;
}

export interface NodeMetrics {
  readonly node: string;
  readonly pid: number;
  readonly version: string;
  readonly state: 'up' | 'stale' | 'down' | 'stopped';
  readonly workers: number;
  readonly workers_wanted: number;
  readonly restarts: number;
  /** Rolling reloads since its start. */
  readonly reloads: number;
  readonly started: string;
  readonly age_ms: number;
}
