// The JSON of GET /metrics, WS /metrics and Socket.IO's `metrics`. The first ten keys are those of the original server.

export interface Metrics {
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
  /** Requests that the model failed on. */
  readonly inference_errors: number;
  readonly inference_error_rate: number;
  /** Requests refused because the model's queue was full. */
  readonly queue_overload: number;
  readonly in_flight: number;
  /** received − answered − failed − refused − abandoned − in flight: anything but 0 at a quiet moment is a defect. */
  readonly audit_imbalance: number;
  readonly latency_ms: LatencyMs;
  /** Age of the oldest node's data; null when no node is up. */
  readonly snapshot_age_ms: number | null;
  readonly connections_refused: number;
  readonly models: readonly ModelMetrics[];
  readonly workers: readonly WorkerMetrics[];
  readonly nodes: readonly NodeMetrics[];
}

/** Milliseconds from a request's last byte to its reply, since the start; null while nothing was answered. */
export interface LatencyMs {
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p99: number | null;
  readonly p999: number | null;
  readonly max: number | null;
}

export interface ModelMetrics {
  readonly name: string;
  readonly requests: number;
  readonly rps: number;
  readonly answered: number;
  readonly failed: number;
  readonly refused: { readonly bad_input: number; readonly queue_full: number; readonly payload_too_large: number };
  /** Requests whose client left before the reply. */
  readonly abandoned: number;
  readonly batches: number;
  readonly rows_per_batch: number;
  /** Mean time of one run of the model. */
  readonly run_ms: number;
  readonly latency_ms: LatencyMs;
}

export interface WorkerMetrics {
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
  readonly latency_ms: LatencyMs;
  /** Share of one core. */
  readonly cpu: number;
  /** Resident bytes. */
  readonly memory: number;
  /** 0 to 1. */
  readonly event_loop_utilization: number;
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
  readonly started: string;
  readonly age_ms: number;
}
