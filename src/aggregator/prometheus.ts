// The cluster's state as Prometheus metric families. Names and units follow its conventions: base units, `_total`.
// Counters and histograms of workers come from the tables in metrics/counters.ts. This list adds gauges and the
// aggregator's own counters, each next to what it is read from.

import {
  type Counter,
  type CounterFamily,
  counterFamilies,
  counters,
  countersWith,
  histograms,
  type ModelCounter,
  modelHistograms,
  type WorkerCounter,
} from '../metrics/counters.js';
import type { MetricFamily, Sample } from '../metrics/exposition.js';
import { batchRowsLabel, bucketMiddleMs, countOf, type SparseHistogram } from '../metrics/histogram.js';
import type { LiveRecords } from '../metrics/merge.js';
import type { ModelCounts, WorkerRecord } from '../metrics/snapshot.js';
import type { ClusterState } from './cluster-view.js';
import type { ModelMetrics, NodeMetrics } from './metrics.js';
import { noRefusals, type Refusals } from './refusals.js';

/** Upper bounds in seconds: a small model answers in tens of microseconds, an overloaded one in seconds. */
export const durationBounds = [
  0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
] as const;

/** What samples are read from: the state of the cluster, and that of the aggregator that answers. */
interface Readings extends ClusterState {
  readonly version: string;
  /** Time since the records were last read successfully. */
  readonly ageMs: number;
  readonly refusals: Refusals;
  /** Failures of its connections to Redis, by name. */
  readonly redisFailures: Readonly<Record<string, number>>;
}

/** A family, and how to read its samples. */
interface FamilySource extends Omit<MetricFamily, 'samples'> {
  readonly samples: (readings: Readings) => readonly Sample[];
}

/** All families, in the order of /metrics. */
export const familySources: readonly FamilySource[] = [
  ...ofCounters('requests'),
  {
    name: 'mltcp_requests_in_flight',
    type: 'gauge',
    help: 'Requests received and not answered yet.',
    samples: ({ metrics }) => [{ value: metrics.in_flight }],
  },
  {
    name: 'mltcp_audit_imbalance',
    type: 'gauge',
    help: 'Received minus answered, failed, refused, expired, abandoned and in flight. Anything but 0 at a quiet moment is a defect of the server: report it.',
    samples: ({ metrics }) => [{ value: metrics.audit_imbalance }],
  },
  ...modelHistograms.map(
    (name): FamilySource => ({
      name: histograms[name].family,
      type: 'histogram',
      help: histograms[name].help,
      samples: ({ counts }) =>
        Object.entries(counts.models).flatMap(([model, { [name]: durations }]) => durationSamples(model, durations)),
    }),
  ),
  {
    name: 'mltcp_batch_rows',
    type: 'histogram',
    help: 'Rows in one call of the model. Small batches under load mean that requests come one by one: let clients pipeline, or set maxQueueDelayMs.',
    samples: ({ counts }) => Object.entries(counts.models).flatMap(([model, own]) => batchRowsSamples(model, own)),
  },
  ...ofCounters('models'),
  {
    name: 'mltcp_model_hung_threads',
    type: 'gauge',
    help: 'Threads of the model that hang now, each with a core and a copy of the model. Beyond cluster.maxHungThreads the worker is replaced.',
    samples: perModel(({ hung_threads }) => hung_threads),
  },
  {
    name: 'mltcp_model_max_rows',
    type: 'gauge',
    help: 'Requests that may share a run of the model now, in the worker with the fewest. 1: each has its own, since a batch would change its answers (look for "model runs one request at a time" in the log), or would gain nothing; max_rows_because of GET /metrics says why.',
    samples: perModel(({ max_rows }) => max_rows),
  },
  {
    name: 'mltcp_model_run_fixed_seconds',
    type: 'gauge',
    help: 'What a run of the model takes beside what its rows take, on the slowest worker, by its last runs. Much more than at the start: the machine is busier than then, or its data harder.',
    samples: perModel(({ run_fixed_ms }) => run_fixed_ms / 1000),
  },
  {
    name: 'mltcp_model_row_seconds',
    type: 'gauge',
    help: 'What each row adds to a run of the model, on the slowest worker, by its last runs. Its inverse is about what a worker answers in a second at the most.',
    samples: perModel(({ row_ms }) => row_ms / 1000),
  },
  {
    name: 'mltcp_model_queued_requests',
    type: 'gauge',
    help: 'Requests that wait for the model now.',
    samples: perModel(({ queued }) => queued),
  },
  {
    name: 'mltcp_model_predicted_wait_seconds',
    type: 'gauge',
    help: 'How long a request of a client that has none in flight would wait for its run, in the worker where that is longest. Near deadlineMs: requests are about to be refused as overloaded.',
    samples: perModel(({ predicted_wait_ms }) => predicted_wait_ms / 1000),
  },
  {
    name: 'mltcp_model_info',
    type: 'gauge',
    help: 'Which version workers serve, and where it runs. Two versions for long: a reload failed on some workers.',
    samples: ({ metrics }) =>
      metrics.models.flatMap(({ name, versions, execution }) =>
        versions.map((version) => ({ labels: { model: name, version, execution: execution.join(',') }, value: 1 })),
      ),
  },
  {
    name: 'mltcp_model_memory_bytes',
    type: 'gauge',
    help: 'Resident memory that workers took to load the model and to run it for the first time, all together; the first ONNX model of a worker brings ONNX Runtime along. Each worker has its own copy of the weights: fewer workers take less.',
    samples: perModel(({ memory }) => memory),
  },
  {
    name: 'mltcp_connections',
    type: 'gauge',
    help: 'Connections open now.',
    samples: perWorker(({ gauges }) => gauges.connections),
  },
  ...ofCounters('server'),
  {
    name: 'mltcp_worker_cpu_seconds_total',
    type: 'counter',
    help: 'Processor time of a worker.',
    samples: perWorker(({ gauges }) => gauges.cpuSeconds),
  },
  {
    name: 'mltcp_worker_resident_memory_bytes',
    type: 'gauge',
    help: 'Memory of a worker. When it only ever grows, a model of yours may leak.',
    samples: perWorker(({ gauges }) => gauges.rssBytes),
  },
  {
    name: 'mltcp_worker_event_loop_utilization_ratio',
    type: 'gauge',
    help: "Share of the time that a worker's event loop is busy. Near 1, the worker is at its limit.",
    samples: perWorker(({ gauges }) => gauges.eventLoopUtilization),
  },
  {
    name: 'mltcp_worker_event_loop_delay_p99_seconds',
    type: 'gauge',
    help: "How late a worker's event loop comes to what is due. Much more than 0.01: a model holds it; see execution.",
    samples: perWorker(({ gauges }) => gauges.eventLoopDelayP99Ms / 1000),
  },
  {
    name: 'mltcp_workers',
    type: 'gauge',
    help: 'Workers that publish.',
    samples: perNode(({ workers }) => workers),
  },
  {
    name: 'mltcp_workers_wanted',
    type: 'gauge',
    help: 'Workers that there should be. More than mltcp_workers for long: look for "worker died" in the node\'s log.',
    samples: perNode(({ workers_wanted }) => workers_wanted),
  },
  {
    name: 'mltcp_worker_restarts_total',
    type: 'counter',
    help: 'Workers that died and were replaced.',
    samples: ({ live }) => restartsByNode(live),
  },
  {
    name: 'mltcp_node_up',
    type: 'gauge',
    help: '1 while the node publishes. At 0 the machine, its primary or its way to Redis is gone.',
    samples: perNode(({ state }) => (state === 'up' ? 1 : 0)),
  },
  {
    name: 'mltcp_snapshot_age_seconds',
    type: 'gauge',
    help: "Age of the oldest node's data. When it grows, Redis or a primary is slow or gone.",
    samples: ({ metrics: { snapshot_age_ms } }) => [
      { value: snapshot_age_ms === null ? Number.NaN : snapshot_age_ms / 1000 },
    ],
  },
  {
    name: 'mltcp_http_refusals_total',
    type: 'counter',
    help: 'Clients that this aggregator refused or dropped. token, origin: they may not look; rate, size, connections, timeout, live_clients: over http.maxRequestsPerSecond, 4 KiB, http.maxConnections, requestTimeoutSeconds, maxLiveClients; slow, silent: WebSockets that do not read, or do not answer a ping.',
    samples: ({ refusals }) => Object.entries(refusals).map(([reason, value]) => ({ labels: { reason }, value })),
  },
  {
    name: 'mltcp_aggregator_data_age_seconds',
    type: 'gauge',
    help: 'Time since this aggregator could read the records. When it grows, all other metrics stand still: is Redis there?',
    samples: ({ ageMs }) => [{ value: ageMs / 1000 }],
  },
  {
    name: 'mltcp_aggregator_redis_failures_total',
    type: 'counter',
    help: 'Times that a connection of this aggregator to Redis was lost, or refused what it is for. records: reads them; shared: the lease and the history; updates, messages: live updates between aggregators. When it rises, look for "redis" in the aggregator\'s log.',
    samples: ({ redisFailures }) =>
      Object.entries(redisFailures).map(([connection, value]) => ({ labels: { connection }, value })),
  },
  {
    name: 'mltcp_build_info',
    type: 'gauge',
    help: 'Version of the aggregator that answers.',
    samples: ({ version }) => [{ labels: { version }, value: 1 }],
  },
];

/**
 * @param ageMs time since the records were last read successfully
 * @param refusals of the aggregator that answers
 * @param redisFailures failures of its connections to Redis, by name
 */
export function metricFamilies(
  state: ClusterState,
  version: string,
  ageMs = 0,
  refusals: Refusals = noRefusals(),
  redisFailures: Readonly<Record<string, number>> = {},
): readonly MetricFamily[] {
  const readings = { ...state, version, ageMs, refusals, redisFailures };
  return familySources.map((source) => ({ ...source, samples: uniqueSamples(source.samples(readings)) }));
}

/** The families of a group of counters. */
function ofCounters(group: (typeof counterFamilies)[CounterFamily]['group']): readonly FamilySource[] {
  const names = Object.keys(counterFamilies) as CounterFamily[];
  return names
    .filter((name) => counterFamilies[name].group === group)
    .map((name) => {
      const members: readonly Counter[] = countersWith({ family: name });
      const shown = members.toSorted(
        (a, b) => Number(counters[a].isShownLast ?? 0) - Number(counters[b].isShownLast ?? 0),
      );
      const ofWorkers = shown.filter((member): member is WorkerCounter => counters[member].scope === 'worker');
      const ofModels = shown.filter((member): member is ModelCounter => counters[member].scope === 'model');
      return {
        name,
        type: 'counter',
        help: counterFamilies[name].help,
        samples: ({ counts }) => [
          ...counterSamples(counts, ofWorkers),
          ...Object.entries(counts.models).flatMap(([model, own]) => counterSamples(own, ofModels, { model })),
        ],
      };
    });
}

function counterSamples<Name extends Counter>(
  counts: Readonly<Record<Name, number>>,
  names: readonly Name[],
  labels: Readonly<Record<string, string>> = {},
): readonly Sample[] {
  return names.map((name) => ({ labels: { ...labels, ...counters[name].labels }, value: counts[name] }));
}

function perModel(value: (model: ModelMetrics) => number): FamilySource['samples'] {
  return ({ metrics }) => metrics.models.map((model) => ({ labels: { model: model.name }, value: value(model) }));
}

function perWorker(value: (worker: WorkerRecord) => number): FamilySource['samples'] {
  return ({ live }) =>
    live.workers.map((worker) => ({
      labels: { node: worker.node, slot: String(worker.slot) },
      value: value(worker),
    }));
}

function perNode(value: (node: NodeMetrics) => number): FamilySource['samples'] {
  return ({ metrics }) =>
    metrics.nodes
      .filter(({ state }) => state !== 'stopped')
      .map((node) => ({ labels: { node: node.node }, value: value(node) }));
}

function durationSamples(model: string, durations: SparseHistogram): readonly Sample[] {
  let sum = 0;
  // One of our buckets counts as below a bound when its middle is: at most 1.6 % off.
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

function restartsByNode({ base, nodes, gone }: LiveRecords): readonly Sample[] {
  const restarts = new Map(Object.entries(base?.restarts ?? {}));
  const add = (node: string, count: number): void => void restarts.set(node, (restarts.get(node) ?? 0) + count);
  for (const node of nodes) add(node.node, node.restarts + node.earlierRestarts);
  for (const { record, restarts: count } of gone) add(record.node, count);
  return [...restarts].map(([node, value]) => ({ labels: { node }, value }));
}

/** A restarted node, or a refilled slot, may appear twice for a moment: the newest sample counts. */
function uniqueSamples(samples: readonly Sample[]): readonly Sample[] {
  return [...new Map(samples.map((sample) => [`${sample.suffix}${JSON.stringify(sample.labels)}`, sample])).values()];
}
