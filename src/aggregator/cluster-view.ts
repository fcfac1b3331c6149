// From records to what people read: totals, rates, quantiles, and the state of each worker and node.
// Pure but for one memory: totals seen in the last seconds, for rates.

import { addSparse, bucketCount, bucketStartMs, quantileMs, type SparseHistogram } from '../metrics/histogram.js';
import { addModelCounts, liveWorkers, mergeHistograms, nodes, noModelCounts, totalCounts } from '../metrics/merge.js';
import { batchRowsBuckets } from '../metrics/recorder.js';
import type { MetricsRecord, ModelCounts, NodeRecord, WorkerCounts, WorkerRecord } from '../metrics/snapshot.js';
import { Freshness, type RecordAge } from './freshness.js';
import type { LatencyMs, Metrics, ModelMetrics, NodeMetrics, WorkerMetrics } from './metrics.js';
import { RateWindow } from './rate-window.js';

/** What one look at the cluster gave: the numbers for people, and the counts behind them. */
export interface ClusterState {
  readonly metrics: Metrics;
  readonly counts: WorkerCounts;
  readonly workers: readonly WorkerRecord[];
  readonly nodes: readonly NodeRecord[];
}

export class ClusterView {
  readonly #freshness: Freshness;
  readonly #rates = new RateWindow();

  /** @param publishIntervalMs how often records are renewed: older ones than a few times that are stale. */
  constructor(publishIntervalMs: number) {
    this.#freshness = new Freshness(publishIntervalMs);
  }

  /** @param now milliseconds of the monotonic clock; @param wallNow milliseconds since the epoch. */
  look(records: readonly MetricsRecord[], now: number, wallNow: number): ClusterState {
    const ages = this.#freshness.observe(records, now);
    const counts = totalCounts(records);
    const workers = liveWorkers(records);
    const nodeRecords = nodes(records);
    const metrics = this.#metrics(counts, workers, nodeRecords, ages, now, wallNow);
    this.#rates.forgetBefore(now);
    return { metrics, counts, workers, nodes: nodeRecords };
  }

  #metrics(
    counts: WorkerCounts,
    workers: readonly WorkerRecord[],
    nodeRecords: readonly NodeRecord[],
    ages: ReadonlyMap<string, RecordAge>,
    now: number,
    wallNow: number,
  ): Metrics {
    const all = sumModels(counts);
    const alive = workers.filter(({ id }) => ages.get(id)?.state !== 'down');
    const up = nodeRecords.filter(({ id }) => ages.get(id)?.state !== 'down');
    const startedAt = nodeRecords.length > 0 ? Math.min(...nodeRecords.map((node) => node.startedAt)) : wallNow;
    const uptime = Math.max(0, (wallNow - startedAt) / 1000);
    const errors = errorsOf(all);
    const inFlight = sum(alive, ({ gauges }) => gauges.inFlight);
    return {
      initial_time: new Date(startedAt).toISOString(),
      uptime,
      connections: sum(alive, ({ gauges }) => gauges.connections),
      total_requests: all.received,
      requests_per_second: this.#rates.rate('cluster', all.received, now),
      requests_per_second_lifetime: uptime > 0 ? all.received / uptime : 0,
      errors,
      error_rate: share(errors, all.received),
      inference_errors: all.failed,
      inference_error_rate: share(all.failed, all.received),
      queue_overload: all.refusedQueueFull,
      in_flight: inFlight,
      audit_imbalance: all.received - all.answered - errors - all.abandoned - inFlight,
      latency_ms: quantilesOf(all.latency),
      snapshot_age_ms: up.length > 0 ? Math.max(...up.map(({ id }) => ages.get(id)?.ageMs ?? 0)) : null,
      connections_refused: counts.connectionsRefused,
      models: Object.entries(counts.models).map(([name, model]) => this.#model(name, model, alive, now)),
      workers: workers
        .filter(({ id }) => !ages.get(id)?.isForgotten)
        .map((worker) => this.#worker(worker, ages.get(worker.id), now)),
      nodes: nodeRecords
        .filter(({ id }) => !ages.get(id)?.isForgotten)
        .map((node) => nodeMetrics(node, ages.get(node.id), alive)),
    };
  }

  #model(name: string, counts: ModelCounts, alive: readonly WorkerRecord[], now: number): ModelMetrics {
    const served = alive.flatMap(({ gauges }) => gauges.models[name] ?? []);
    const batches = batchesOf(counts);
    return {
      name,
      requests: counts.received,
      rps: this.#rates.rate(`model:${name}`, counts.received, now),
      answered: counts.answered,
      failed: counts.failed,
      refused: {
        bad_input: counts.refusedBadInput,
        queue_full: counts.refusedQueueFull,
        payload_too_large: counts.refusedPayloadTooLarge,
      },
      expired: counts.expired,
      abandoned: counts.abandoned,
      queued: sum(served, ({ queued }) => queued),
      latency_ms: quantilesOf(counts.latency),
      queue_ms: quantilesOf(counts.queueTime),
      run_ms: quantilesOf(counts.runTime),
      batches,
      rows_per_batch: share(counts.batchedRows, batches),
      batch_rows: Object.fromEntries(counts.batchRows.flatMap((n, i) => (n > 0 ? [[batchRowsLabel(i), n]] : []))),
      closed: {
        full: counts.closedFull,
        turn: counts.closedTurn,
        delay: counts.closedDelay,
        drain: counts.closedDrain,
      },
      retried_rows: counts.retriedRows,
      versions: [...new Set(served.map(({ version }) => version))],
      execution: [...new Set(served.map(({ execution }) => execution))],
      loads: counts.loads,
      load_failures: counts.loadFailures,
      thread_crashes: counts.threadCrashes,
    };
  }

  #worker(
    { id, pid, node, slot, counts, gauges, startedAt }: WorkerRecord,
    age: RecordAge | undefined,
    now: number,
  ): WorkerMetrics {
    const all = sumModels(counts);
    return {
      pid,
      node,
      slot,
      state: age?.state === 'up' ? gauges.state : 'lost',
      connections: gauges.connections,
      in_flight: gauges.inFlight,
      queued: sum(Object.values(gauges.models), ({ queued }) => queued),
      requests: all.received,
      rps: this.#rates.rate(id, all.received, now),
      errors: errorsOf(all),
      latency_ms: quantilesOf(all.latency),
      cpu: gauges.cpuShare,
      memory: gauges.rssBytes,
      event_loop_utilization: gauges.eventLoopUtilization,
      event_loop_delay_p99_ms: gauges.eventLoopDelayP99Ms,
      started: new Date(startedAt).toISOString(),
      age_ms: age?.ageMs ?? 0,
    };
  }
}

function nodeMetrics(node: NodeRecord, age: RecordAge | undefined, alive: readonly WorkerRecord[]): NodeMetrics {
  return {
    node: node.node,
    pid: node.pid,
    version: node.version,
    state: node.isStopping ? 'stopped' : (age?.state ?? 'down'),
    workers: alive.filter(({ run }) => run === node.run).length,
    workers_wanted: node.workersWanted,
    restarts: node.restarts,
    started: new Date(node.startedAt).toISOString(),
    age_ms: age?.ageMs ?? 0,
  };
}

export function sumModels(counts: WorkerCounts): ModelCounts {
  return Object.values(counts.models).reduce(addModelCounts, noModelCounts());
}

/** Every batch was closed for one reason. */
function batchesOf({ closedFull, closedTurn, closedDelay, closedDrain }: ModelCounts): number {
  return closedFull + closedTurn + closedDelay + closedDrain;
}

/** The largest size in bucket `i` of `batchRows`. */
export function batchRowsLabel(i: number): string {
  return i === batchRowsBuckets - 1 ? '+Inf' : String(2 ** i);
}

/** Requests that were not answered with a result. */
function errorsOf(counts: ModelCounts): number {
  const refused = counts.refusedBadInput + counts.refusedQueueFull + counts.refusedPayloadTooLarge;
  return counts.failed + counts.expired + refused;
}

function quantilesOf(latency: SparseHistogram): LatencyMs {
  const merged = new Float64Array(bucketCount);
  addSparse(merged, mergeHistograms([latency]));
  const last = latency.at(-1);
  return {
    p50: quantileMs(merged, 0.5),
    p90: quantileMs(merged, 0.9),
    p99: quantileMs(merged, 0.99),
    p999: quantileMs(merged, 0.999),
    max: last === undefined ? null : bucketStartMs(last[0] + 1),
  };
}

const sum = <T>(items: readonly T[], value: (item: T) => number): number =>
  items.reduce((total, item) => total + value(item), 0);
const share = (part: number, whole: number): number => (whole > 0 ? part / whole : 0);
