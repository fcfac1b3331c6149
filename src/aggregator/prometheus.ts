// The cluster's state as Prometheus metric families. Names and units follow its conventions: base units, `_total`.

import type { ModelHistogram } from '../metrics/counters.js';
import type { MetricFamily, Sample } from '../metrics/exposition.js';
import { batchRowsLabel, bucketMiddleMs, countOf, type SparseHistogram } from '../metrics/histogram.js';
import type { Census } from '../metrics/merge.js';
import type { ModelCounts } from '../metrics/snapshot.js';
import type { ClusterState } from './cluster-view.js';
import { noRefusals, type Refusals } from './refusals.js';

/** Upper bounds in seconds: a small model answers in tens of microseconds, an overloaded one in seconds. */
export const durationBounds = [
  0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
] as const;

/**
 * @param ageMs time since the records could be read
 * @param refusals of the aggregator that answers
 * @param redisFailures of its connections to Redis, by name
 */
export function metricFamilies(
  state: ClusterState,
  version: string,
  ageMs = 0,
  refusals: Refusals = noRefusals(),
  redisFailures: Readonly<Record<string, number>> = {},
): readonly MetricFamily[] {
  const { counts, metrics, census } = state;
  const { workers } = census;
  const models = Object.entries(counts.models);
  const perModel = (value: (model: ModelCounts) => number): readonly Sample[] =>
    models.map(([model, modelCounts]) => ({ labels: { model }, value: value(modelCounts) }));
  const perReason = (reasons: Readonly<Record<string, number>>): readonly Sample[] =>
    Object.entries(reasons).map(([reason, value]) => ({ labels: { reason }, value }));
  const perWorker = (value: (worker: (typeof workers)[number]) => number): readonly Sample[] =>
    workers.map((worker) => ({ labels: { node: worker.node, slot: String(worker.slot) }, value: value(worker) }));
  const liveNodes = metrics.nodes.filter(({ state }) => state !== 'stopped');
  const families: MetricFamily[] = [
    counter(
      'mltcp_requests_received_total',
      'Requests that arrived, refused ones included.',
      perModel((model) => model.received),
    ),
    counter(
      'mltcp_requests_answered_total',
      'Requests answered with a result.',
      perModel((model) => model.answered),
    ),
    counter(
      'mltcp_requests_failed_total',
      'Requests that the model failed on. When it rises, look for "inference failed" in the workers\' logs.',
      perModel((model) => model.failed),
    ),
    counter(
      'mltcp_requests_refused_total',
      'Requests refused before the model saw them. bad_input, payload_too_large: a client sends what the model does not take. queue_full: more arrives than is served; add workers or machines.',
      models.flatMap(([model, { refusedBadInput, refusedQueueFull, refusedPayloadTooLarge }]) =>
        perReason({
          bad_input: refusedBadInput,
          queue_full: refusedQueueFull,
          payload_too_large: refusedPayloadTooLarge,
        }).map(({ labels, value }) => ({ labels: { model, ...labels }, value })),
      ),
    ),
    counter(
      'mltcp_requests_expired_total',
      'Requests dropped before they cost a run, since they could not be answered by their deadline. More arrives than is served: add workers, threads or machines.',
      perModel((model) => model.expired),
    ),
    counter(
      'mltcp_requests_abandoned_total',
      'Requests that had no reply when their connection ended, lost ones included. When it rises and those do not, clients time out or crash.',
      perModel((model) => model.abandoned),
    ),
    counter(
      'mltcp_requests_lost_total',
      'Those of the abandoned that were in flight in a worker that died. When it rises, look for "worker died" in the log.',
      perModel((model) => model.lost),
    ),
    gauge('mltcp_requests_in_flight', 'Requests received and not answered yet.', [{ value: metrics.in_flight }]),
    gauge(
      'mltcp_audit_imbalance',
      'Received minus answered, failed, refused, expired, abandoned and in flight. Anything but 0 at a quiet moment is a defect of the server: report it.',
      [{ value: metrics.audit_imbalance }],
    ),
    durations(
      'mltcp_request_duration_seconds',
      'Time from the last byte of a request to its reply.',
      models,
      'latency',
    ),
    durations(
      'mltcp_queue_duration_seconds',
      'Time from the last byte of a request to the run of its batch. When it grows while runs do not, more arrives than is served.',
      models,
      'queueTime',
    ),
    durations(
      'mltcp_run_duration_seconds',
      'Time of one call of the model. Its rate of sum near 1 a worker (or thread) means that the model is what limits.',
      models,
      'runTime',
    ),
    {
      name: 'mltcp_batch_rows',
      type: 'histogram',
      help: 'Rows in one call of the model. Small batches under load mean that requests come one by one: let clients pipeline, or set maxQueueDelayMs.',
      samples: models.flatMap(([model, modelCounts]) => batchRowsSamples(model, modelCounts)),
    },
    counter(
      'mltcp_batches_closed_total',
      'Batches by why they were closed: full, the event-loop turn or maxQueueDelayMs was over, or the server drained. Mostly full: a larger maxBatchSize may pay.',
      models.flatMap(([model, { closedFull, closedTurn, closedDelay, closedDrain }]) =>
        perReason({ full: closedFull, turn: closedTurn, delay: closedDelay, drain: closedDrain }).map(
          ({ labels, value }) => ({ labels: { model, ...labels }, value }),
        ),
      ),
    ),
    counter(
      'mltcp_rows_retried_total',
      'Rows run again by themselves since their batch had failed. When it rises, some client sends rows that the model throws for.',
      perModel((model) => model.retriedRows),
    ),
    counter(
      'mltcp_model_loads_total',
      'Times that a worker loaded the model.',
      perModel((model) => model.loads),
    ),
    counter(
      'mltcp_model_load_failures_total',
      'Reloads that failed; the old version serves on. Look for "model could not be reloaded" in the log.',
      perModel((model) => model.loadFailures),
    ),
    counter(
      'mltcp_model_thread_crashes_total',
      'Threads of the model that died; their batches failed and they were replaced. Look for "thread of a model died".',
      perModel((model) => model.threadCrashes),
    ),
    counter(
      'mltcp_model_thread_hangs_total',
      'Runs of the model that took longer than cluster.hangTimeoutMs: their requests failed, a fresh thread serves the next ones, and the old one is left to end.',
      perModel((model) => model.threadHangs),
    ),
    gauge(
      'mltcp_model_hung_threads',
      'Threads of the model that hang now, each with a core and a copy of the model. Beyond cluster.maxHungThreads the worker is replaced.',
      metrics.models.map(({ name, hung_threads }) => ({ labels: { model: name }, value: hung_threads })),
    ),
    gauge(
      'mltcp_model_max_rows',
      'Requests that may share a run of the model; 1: each has its own. Look for "model runs one request at a time" in the log.',
      metrics.models.map(({ name, max_rows }) => ({ labels: { model: name }, value: max_rows })),
    ),
    gauge(
      'mltcp_model_queued_requests',
      'Requests that wait for the model now.',
      metrics.models.map(({ name, queued }) => ({ labels: { model: name }, value: queued })),
    ),
    gauge(
      'mltcp_model_info',
      'Which version workers serve, and where it runs. Two versions for long: a reload failed on some workers.',
      metrics.models.flatMap(({ name, versions, execution }) =>
        versions.map((version) => ({ labels: { model: name, version, execution: execution.join(',') }, value: 1 })),
      ),
    ),
    gauge(
      'mltcp_connections',
      'Connections open now.',
      perWorker(({ gauges }) => gauges.connections),
    ),
    counter('mltcp_connections_accepted_total', 'Connections served.', [{ value: counts.connectionsAccepted }]),
    counter(
      'mltcp_connections_refused_total',
      'Connections that were not served. limit, address_limit, rate: over server.maxConnections, maxConnectionsPerAddress, maxNewConnectionsPerSecond; raise the limit or look for clients that leak connections. address: server.allow and deny; handshake: no TLS or no good certificate; descriptors: the process may open no more files, raise LimitNOFILE.',
      perReason({
        limit: counts.refusedByLimit,
        address_limit: counts.refusedByAddressLimit,
        rate: counts.refusedByRate,
        address: counts.refusedByAddress,
        handshake: counts.refusedByHandshake,
        descriptors: counts.refusedByDescriptors,
      }),
    ),
    counter(
      'mltcp_connections_moved_total',
      'Connections that went on in another worker: at a reload, at scaling, or to even out.',
      [{ value: counts.connectionsMoved }],
    ),
    counter(
      'mltcp_connections_closed_total',
      'Connections that ended, by reason. payload_timeout: slow senders; write_timeout: clients that do not read; keep_alive: clients that are gone without a word; payload_too_large, secret: wrong clients; error: networks and crashes; worker_died: they were of a worker that died; handoff_failed: a worker died while it took one over.',
      perReason({
        client: counts.closedByClient,
        error: counts.closedByError,
        payload_timeout: counts.closedByPayloadTimeout,
        idle_timeout: counts.closedByIdleTimeout,
        write_timeout: counts.closedByWriteTimeout,
        keep_alive: counts.closedByKeepAlive,
        secret: counts.closedBySecret,
        payload_too_large: counts.closedByPayloadTooLarge,
        drain: counts.closedByDrain,
        worker_died: counts.closedByDeath,
        handoff_failed: counts.closedByHandoff,
      }),
    ),
    counter(
      'mltcp_connection_pauses_total',
      'Times that the server stopped reading from a connection. in_flight: it pipelines more than server.maxInFlightPerConnection, which is fine; write_buffer: it does not read its replies; memory: all together hold server.maxBufferedMb.',
      perReason({
        in_flight: counts.pausedByInFlight,
        write_buffer: counts.pausedByWriteBuffer,
        memory: counts.pausedByMemory,
      }),
    ),
    counter('mltcp_frames_truncated_total', 'Frames that were begun and never finished when their connection ended.', [
      { value: counts.framesTruncated },
    ]),
    counter(
      'mltcp_log_lines_lost_total',
      'Log lines of servers that could not be written: the disk is full, or what reads the log has stalled. The log says so itself as soon as it can.',
      [{ value: counts.logLinesLost }],
    ),
    counter('mltcp_received_bytes_total', 'Bytes read from clients.', [{ value: counts.bytesReceived }]),
    counter('mltcp_sent_bytes_total', 'Bytes of replies.', [{ value: counts.bytesSent }]),
    counter(
      'mltcp_worker_cpu_seconds_total',
      'Processor time of a worker.',
      perWorker(({ gauges }) => gauges.cpuSeconds),
    ),
    gauge(
      'mltcp_worker_resident_memory_bytes',
      'Memory of a worker. When it only ever grows, a model of yours may leak.',
      perWorker(({ gauges }) => gauges.rssBytes),
    ),
    gauge(
      'mltcp_worker_event_loop_utilization_ratio',
      "Share of the time that a worker's event loop is busy. Near 1, the worker is at its limit.",
      perWorker(({ gauges }) => gauges.eventLoopUtilization),
    ),
    gauge(
      'mltcp_worker_event_loop_delay_p99_seconds',
      "How late a worker's event loop comes to what is due. Much more than 0.01: a model holds it; see execution.",
      perWorker(({ gauges }) => gauges.eventLoopDelayP99Ms / 1000),
    ),
    gauge(
      'mltcp_workers',
      'Workers that publish.',
      liveNodes.map(({ node, workers }) => ({ labels: { node }, value: workers })),
    ),
    gauge(
      'mltcp_workers_wanted',
      'Workers that there should be. More than mltcp_workers for long: look for "worker died" in the node\'s log.',
      liveNodes.map(({ node, workers_wanted }) => ({ labels: { node }, value: workers_wanted })),
    ),
    counter('mltcp_worker_restarts_total', 'Workers that died and were replaced.', restartsByNode(census)),
    gauge(
      'mltcp_node_up',
      '1 while the node publishes. At 0 the machine, its primary or its way to Redis is gone.',
      liveNodes.map(({ node, state }) => ({ labels: { node }, value: state === 'up' ? 1 : 0 })),
    ),
    gauge(
      'mltcp_snapshot_age_seconds',
      "Age of the oldest node's data. When it grows, Redis or a primary is slow or gone.",
      [{ value: metrics.snapshot_age_ms === null ? Number.NaN : metrics.snapshot_age_ms / 1000 }],
    ),
    counter(
      'mltcp_http_refusals_total',
      'Clients that this aggregator refused or dropped. token, origin: they may not look; rate, size, connections, timeout, live_clients: over http.maxRequestsPerSecond, 4 KiB, http.maxConnections, requestTimeoutSeconds, maxLiveClients; slow, silent: WebSockets that do not read, or do not answer a ping.',
      perReason(refusals),
    ),
    gauge(
      'mltcp_aggregator_data_age_seconds',
      'Time since this aggregator could read the records. When it grows, all other metrics stand still: is Redis there?',
      [{ value: ageMs / 1000 }],
    ),
    counter(
      'mltcp_aggregator_redis_failures_total',
      'Times that a connection of this aggregator to Redis was lost, or refused what it is for. records: reads them; shared: the lease and the history; updates, messages: live updates between aggregators. When it rises, look for "redis" in the aggregator\'s log.',
      Object.entries(redisFailures).map(([connection, value]) => ({ labels: { connection }, value })),
    ),
    gauge('mltcp_build_info', 'Version of the aggregator that answers.', [{ labels: { version }, value: 1 }]),
  ];
  return families.map((family) => ({ ...family, samples: uniqueSamples(family.samples) }));
}

function counter(name: string, help: string, samples: readonly Sample[]): MetricFamily {
  return { name, type: 'counter', help, samples };
}

function gauge(name: string, help: string, samples: readonly Sample[]): MetricFamily {
  return { name, type: 'gauge', help, samples };
}

function durations(
  name: string,
  help: string,
  models: readonly (readonly [string, ModelCounts])[],
  histogram: ModelHistogram,
): MetricFamily {
  const samples = models.flatMap(([model, counts]) => durationSamples(model, counts[histogram]));
  return { name, type: 'histogram', help, samples };
}

function durationSamples(model: string, durations: SparseHistogram): readonly Sample[] {
  let sum = 0;
  // A bucket of ours counts below a bound when its middle does: never more than 1.6 % off.
  const within = durationBounds.map(() => 0);
  for (let k = 0; k < durations.length; k += 2) {
    const seconds = bucketMiddleMs(durations[k] as number) / 1000;
    const count = durations[k + 1] as number;
    sum += count * seconds;
    const bound = durationBounds.findIndex((le) => seconds <= le);
    if (bound >= 0) within[bound] = (within[bound] as number) + count;
  }
  let below = 0;
  const buckets = durationBounds.map((le, i) => {
    below += within[i] as number;
    return [String(le), below] as const;
  });
  return histogramSamples(model, buckets, sum, countOf(durations));
}

function batchRowsSamples(model: string, { batchRows, batchedRows }: ModelCounts): readonly Sample[] {
  let count = 0;
  const buckets = batchRows.map((n, i) => {
    count += n;
    return [batchRowsLabel(i), count] as const;
  });
  return histogramSamples(model, buckets.slice(0, -1), batchedRows, count);
}

function histogramSamples(
  model: string,
  buckets: readonly (readonly [le: string, count: number])[],
  sum: number,
  count: number,
): readonly Sample[] {
  return [
    ...buckets.map(([le, value]) => ({ suffix: '_bucket', labels: { model, le }, value })),
    { suffix: '_bucket', labels: { model, le: '+Inf' }, value: count },
    { suffix: '_sum', labels: { model }, value: sum },
    { suffix: '_count', labels: { model }, value: count },
  ];
}

function restartsByNode({ base, nodes, gone }: Census): readonly Sample[] {
  const restarts = new Map(Object.entries(base?.restarts ?? {}));
  const add = (node: string, count: number): void => void restarts.set(node, (restarts.get(node) ?? 0) + count);
  for (const node of nodes) add(node.node, node.restarts + node.earlierRestarts);
  for (const { record, restarts: count } of gone) add(record.node, count);
  return [...restarts].map(([node, value]) => ({ labels: { node }, value }));
}

/** A node that was restarted, or a slot that was refilled, may be there twice for a moment: the newest one counts. */
function uniqueSamples(samples: readonly Sample[]): readonly Sample[] {
  return [...new Map(samples.map((sample) => [`${sample.suffix}${JSON.stringify(sample.labels)}`, sample])).values()];
}
