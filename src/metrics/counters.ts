// What the server counts: one row for each counter. Everything else derives from these tables: the layout of a worker's
// counts in memory and in its counter file, the records that travel to aggregators, /metrics, OTLP, the README's
// tables. To add a counter, add a row here and count it where it happens.
//
// `counters` says what is counted, and under which metric and labels it is shown; `counterFamilies` gives each of these
// metrics its help. Counters stand in the order of the counter file, which a worker of an earlier version may have left
// behind; families stand in the order of /metrics.

interface CounterFamilyRow {
  /** /metrics shows the families of a group one after the other. */
  readonly group: 'requests' | 'models' | 'server';
  /** What it counts, and what to do when it changes. */
  readonly help: string;
}

export const counterFamilies = {
  mltcp_requests_received_total: { group: 'requests', help: 'Requests that arrived, refused ones included.' },
  mltcp_requests_answered_total: { group: 'requests', help: 'Requests answered with a result.' },
  mltcp_requests_failed_total: {
    group: 'requests',
    help: 'Requests that the model failed on. When it rises, look for "inference failed" in the workers\' logs.',
  },
  mltcp_requests_refused_total: {
    group: 'requests',
    help: 'Requests refused before the model saw them. bad_input, payload_too_large: a client sends what the model does not take. queue_full, overloaded: more arrives than is served, and the queue is full or too long for the deadline; add workers or machines.',
  },
  mltcp_requests_expired_total: {
    group: 'requests',
    help: 'Requests dropped before they cost a run, since they could not be answered by their deadline. More arrives than is served: add workers, threads or machines.',
  },
  mltcp_requests_abandoned_total: {
    group: 'requests',
    help: 'Requests that had no reply when their connection ended, lost ones included. When it rises and those do not, clients time out or crash.',
  },
  mltcp_requests_lost_total: {
    group: 'requests',
    help: 'Those of the abandoned that were in flight in a worker that died. When it rises, look for "worker died" in the log.',
  },
  mltcp_requests_unroutable_total: {
    group: 'requests',
    help: 'Requests that reached no model, and are in none of the other counts: unknown_model, a client names one that its listener does not serve; malformed, it sends what cannot be read; wrong_secret, it does not show server.sharedSecret.',
  },
  mltcp_batches_closed_total: {
    group: 'models',
    help: 'Batches by why they were closed: full, the event-loop turn or maxQueueDelayMs was over, or the server drained. Mostly full: a larger maxBatchSize may pay.',
  },
  mltcp_rows_retried_total: {
    group: 'models',
    help: 'Rows run again by themselves since their batch had failed. When it rises, some client sends rows that the model throws for.',
  },
  mltcp_model_loads_total: { group: 'models', help: 'Times that a worker loaded the model.' },
  mltcp_model_load_failures_total: {
    group: 'models',
    help: 'Reloads that failed; the old version serves on. Look for "model could not be reloaded" in the log.',
  },
  mltcp_model_thread_crashes_total: {
    group: 'models',
    help: 'Threads of the model that died; their batches failed and they were replaced. Look for "thread of a model died".',
  },
  mltcp_model_thread_hangs_total: {
    group: 'models',
    help: 'Runs of the model that took longer than cluster.hangTimeoutMs: their requests failed, a fresh thread serves the next ones, and the old one is left to end.',
  },
  mltcp_connections_accepted_total: { group: 'server', help: 'Connections served.' },
  mltcp_connections_refused_total: {
    group: 'server',
    help: 'Connections that were not served. limit, address_limit, rate: over server.maxConnections, maxConnectionsPerAddress, maxNewConnectionsPerSecond; raise the limit or look for clients that leak connections. address: server.allow and deny; handshake: no TLS or no good certificate; descriptors: the process may open no more files, raise LimitNOFILE; wait: no worker took them within server.acceptTimeoutSeconds, look for workers that die or hang.',
  },
  mltcp_connections_moved_total: {
    group: 'server',
    help: 'Connections that went on in another worker: at a reload, at scaling, or to even out.',
  },
  mltcp_connections_closed_total: {
    group: 'server',
    help: 'Connections that ended, by reason. payload_timeout: slow senders; write_timeout: clients that do not read; keep_alive: clients that are gone without a word; payload_too_large, secret, protocol: wrong clients; error: networks and crashes; worker_died: they were of a worker that died; handoff_failed: a worker died while it took one over.',
  },
  mltcp_connection_pauses_total: {
    group: 'server',
    help: 'Times that the server stopped reading from a connection. in_flight: it pipelines more than server.maxInFlightPerConnection, which is fine; write_buffer: it does not read its replies; memory: all together hold server.maxBufferedMb.',
  },
  mltcp_frames_truncated_total: {
    group: 'server',
    help: 'Frames that were begun and never finished when their connection ended.',
  },
  mltcp_log_lines_lost_total: {
    group: 'server',
    help: 'Log lines of servers that could not be written: the disk is full, or what reads the log has stalled. The log says so itself as soon as it can.',
  },
  mltcp_received_bytes_total: { group: 'server', help: 'Bytes read from clients.' },
  mltcp_sent_bytes_total: { group: 'server', help: 'Bytes of replies.' },
} as const satisfies Readonly<Record<`mltcp_${string}_total`, CounterFamilyRow>>;

export type CounterFamily = keyof typeof counterFamilies;

export interface CounterRow {
  /** Whether a worker has one such counter, or one for each of its models. */
  readonly scope: 'worker' | 'model';
  /** The metric that shows it. Null: it is shown only as part of others. */
  readonly family: CounterFamily | null;
  /** Labels that distinguish it from the other counters of its family. /metrics adds the model's name. */
  readonly labels?: Readonly<Record<string, string>>;
  /**
   * How a request or a connection ends. Each request received ends in exactly one way: `answered` with its result,
   * answered with an `error`, or `abandoned` without a reply. A connection of a worker is `closed`, or moves to
   * another.
   */
  readonly outcome?: 'answered' | 'error' | 'abandoned' | 'closed';
  /** /metrics shows it after the rest of its family, although it stands before some of them here. */
  readonly isShownLast?: true;
}

const connectionsRefused = { scope: 'worker', family: 'mltcp_connections_refused_total' } as const;
const connectionsClosed = { scope: 'worker', family: 'mltcp_connections_closed_total', outcome: 'closed' } as const;
const connectionPauses = { scope: 'worker', family: 'mltcp_connection_pauses_total' } as const;
const requestsRefused = { scope: 'model', family: 'mltcp_requests_refused_total', outcome: 'error' } as const;
const batchesClosed = { scope: 'model', family: 'mltcp_batches_closed_total' } as const;

const table = {
  connectionsAccepted: { scope: 'worker', family: 'mltcp_connections_accepted_total' },
  /** Over server.maxConnections, maxConnectionsPerAddress, maxNewConnectionsPerSecond. */
  refusedByLimit: { ...connectionsRefused, labels: { reason: 'limit' } },
  refusedByAddressLimit: { ...connectionsRefused, labels: { reason: 'address_limit' } },
  refusedByRate: { ...connectionsRefused, labels: { reason: 'rate' } },
  /** Not in server.allow, or in server.deny. */
  refusedByAddress: { ...connectionsRefused, labels: { reason: 'address' } },
  /** TLS was not negotiated, or the client's certificate was not accepted. */
  refusedByHandshake: { ...connectionsRefused, labels: { reason: 'handshake' } },
  /** The process may open no more files. */
  refusedByDescriptors: { ...connectionsRefused, labels: { reason: 'descriptors' } },
  /** No worker took it within server.acceptTimeoutSeconds. */
  refusedByWait: { ...connectionsRefused, labels: { reason: 'wait' } },
  /** Taken over from another worker. */
  connectionsMoved: { scope: 'worker', family: 'mltcp_connections_moved_total' },
  /** Moved to another worker. */
  connectionsMovedAway: { scope: 'worker', family: null },
  closedByClient: { ...connectionsClosed, labels: { reason: 'client' } },
  closedByError: { ...connectionsClosed, labels: { reason: 'error' } },
  closedByPayloadTimeout: { ...connectionsClosed, labels: { reason: 'payload_timeout' } },
  closedByIdleTimeout: { ...connectionsClosed, labels: { reason: 'idle_timeout' } },
  closedByWriteTimeout: { ...connectionsClosed, labels: { reason: 'write_timeout' } },
  /** The client stopped answering the kernel: neither keepalive probes nor retransmitted replies. */
  closedByKeepAlive: { ...connectionsClosed, labels: { reason: 'keep_alive' } },
  /** The shared secret was wrong, or did not arrive in time. */
  closedBySecret: { ...connectionsClosed, labels: { reason: 'secret' } },
  closedByPayloadTooLarge: { ...connectionsClosed, labels: { reason: 'payload_too_large' } },
  /** It sent what the protocol of its listener does not allow. */
  closedByProtocol: { ...connectionsClosed, labels: { reason: 'protocol' } },
  closedByDrain: { ...connectionsClosed, labels: { reason: 'drain' } },
  /** Lost while it moved between two workers. Neither had it, so it counts as no worker's closed connection. */
  closedByHandoff: {
    scope: 'worker',
    family: 'mltcp_connections_closed_total',
    labels: { reason: 'handoff_failed' },
    isShownLast: true,
  },
  /** Lost with a worker that died. */
  closedByDeath: { ...connectionsClosed, labels: { reason: 'worker_died' } },
  framesTruncated: { scope: 'worker', family: 'mltcp_frames_truncated_total' },
  /** Log lines that could not be written. */
  logLinesLost: { scope: 'worker', family: 'mltcp_log_lines_lost_total' },
  pausedByInFlight: { ...connectionPauses, labels: { reason: 'in_flight' } },
  pausedByWriteBuffer: { ...connectionPauses, labels: { reason: 'write_buffer' } },
  pausedByMemory: { ...connectionPauses, labels: { reason: 'memory' } },
  bytesReceived: { scope: 'worker', family: 'mltcp_received_bytes_total' },
  bytesSent: { scope: 'worker', family: 'mltcp_sent_bytes_total' },
  /** Named a model that its listener does not serve. */
  unknownModel: { scope: 'worker', family: 'mltcp_requests_unroutable_total', labels: { reason: 'unknown_model' } },
  /** Could not be read, so that no model is known. */
  malformed: { scope: 'worker', family: 'mltcp_requests_unroutable_total', labels: { reason: 'malformed' } },
  /** Did not show the shared secret, over HTTP or gRPC: its connection may go on. */
  wrongSecret: { scope: 'worker', family: 'mltcp_requests_unroutable_total', labels: { reason: 'wrong_secret' } },

  received: { scope: 'model', family: 'mltcp_requests_received_total' },
  answered: { scope: 'model', family: 'mltcp_requests_answered_total', outcome: 'answered' },
  failed: { scope: 'model', family: 'mltcp_requests_failed_total', outcome: 'error' },
  refusedBadInput: { ...requestsRefused, labels: { reason: 'bad_input' } },
  refusedQueueFull: { ...requestsRefused, labels: { reason: 'queue_full' } },
  /** It could not have been answered by its deadline. */
  refusedOverloaded: { ...requestsRefused, labels: { reason: 'overloaded' } },
  refusedPayloadTooLarge: { ...requestsRefused, labels: { reason: 'payload_too_large' } },
  expired: { scope: 'model', family: 'mltcp_requests_expired_total', outcome: 'error' },
  abandoned: { scope: 'model', family: 'mltcp_requests_abandoned_total', outcome: 'abandoned' },
  /** Abandoned requests that were in flight in a worker that died. */
  lost: { scope: 'model', family: 'mltcp_requests_lost_total' },
  /** The sum of `mltcp_batch_rows`. */
  batchedRows: { scope: 'model', family: null },
  /** Nanoseconds: the time of each run, once for each request that it was for. */
  requestRunNs: { scope: 'model', family: null },
  retriedRows: { scope: 'model', family: 'mltcp_rows_retried_total' },
  closedFull: { ...batchesClosed, labels: { reason: 'full' } },
  closedTurn: { ...batchesClosed, labels: { reason: 'turn' } },
  closedDelay: { ...batchesClosed, labels: { reason: 'delay' } },
  closedDrain: { ...batchesClosed, labels: { reason: 'drain' } },
  loads: { scope: 'model', family: 'mltcp_model_loads_total' },
  loadFailures: { scope: 'model', family: 'mltcp_model_load_failures_total' },
  threadCrashes: { scope: 'model', family: 'mltcp_model_thread_crashes_total' },
  threadHangs: { scope: 'model', family: 'mltcp_model_thread_hangs_total' },
} as const satisfies Readonly<Record<string, CounterRow>>;

type Table = typeof table;

/** The names of counters, in code and in records. */
export type Counter = keyof Table;
type CountersWith<Columns> = { [Name in Counter]: Table[Name] extends Columns ? Name : never }[Counter];
export type WorkerCounter = CountersWith<{ readonly scope: 'worker' }>;
export type ModelCounter = CountersWith<{ readonly scope: 'model' }>;
/** Counters that a metric shows. */
export type ShownCounter = CountersWith<{ readonly family: CounterFamily }>;
/** The values of the label `reason` of a family. */
export type ReasonOf<Family extends CounterFamily> = Extract<
  Table[Counter],
  { readonly family: Family; readonly labels: { readonly reason: string } }
>['labels']['reason'];

export const counters: Readonly<Record<Counter, CounterRow>> = table;

/** The counters whose rows have these values, in the order of the table. */
export function countersWith<const Columns extends Partial<CounterRow>>(
  columns: Columns,
): readonly CountersWith<Columns>[] {
  const wanted = Object.entries(columns) as [keyof CounterRow, unknown][];
  const names = Object.keys(table) as Counter[];
  return names.filter((name) => wanted.every(([column, value]) => counters[name][column] === value)) as never;
}

export const workerCounters = countersWith({ scope: 'worker' });
export const modelCounters = countersWith({ scope: 'model' });

/** Where /metrics shows a counter: `mltcp_requests_refused_total{reason="queue_full"}`. */
export function metricOf(counter: ShownCounter): string {
  const { family, labels = {} } = counters[counter];
  const pairs = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  return pairs.length > 0 ? `${family}{${pairs.join(',')}}` : String(family);
}

/** Durations that each model has a histogram of. */
export const histograms = {
  latency: {
    family: 'mltcp_request_duration_seconds',
    help: 'Time from the last byte of a request to its reply.',
  },
  queueTime: {
    family: 'mltcp_queue_duration_seconds',
    help: 'Time from the last byte of a request to the run of its batch. When it grows while runs do not, more arrives than is served.',
  },
  runTime: {
    family: 'mltcp_run_duration_seconds',
    help: 'Time of one call of the model. Its rate of sum near 1 a worker (or thread) means that the model is what limits.',
  },
} as const satisfies Readonly<Record<string, { readonly family: `mltcp_${string}_seconds`; readonly help: string }>>;

export type ModelHistogram = keyof typeof histograms;
export const modelHistograms = Object.keys(histograms) as readonly ModelHistogram[];

/** Makes a value for each histogram of a model. */
export function eachHistogram<Value>(make: (name: ModelHistogram) => Value): Record<ModelHistogram, Value> {
  const entries = modelHistograms.map((name) => [name, make(name)]);
  return Object.fromEntries(entries) as Record<ModelHistogram, Value>;
}
