// From records to what people read: totals, rates, quantiles, and the state of each worker and node.
// Pure except for one memory: the polls of the last minute, for rates and quantiles of the last seconds, and for what
// has changed between two polls.

import { type Counter, type CounterFamily, counters, countersWith, type ReasonOf } from '../metrics/counters.js';
import { batchRowsLabel, bucketStartMs, countOf, quantilesMs, type SparseHistogram } from '../metrics/histogram.js';
import {
  CountsSum,
  errorsOf,
  type LiveRecords,
  liveRecordsOf,
  noModelCounts,
  sumOf,
  totalCounts,
  unsettled,
} from '../metrics/merge.js';
import type { ModelCounts, NodeRecord, WorkerCounts, WorkerRecord } from '../metrics/snapshot.js';
import type { RecordsSnapshot } from '../metrics/transport/transport.js';
import { EventLog } from './events.js';
import { freshness, listedMs, pollOverdueMs } from './freshness.js';
import { LatencyWindows } from './latency-windows.js';
import { Losses, lostOf } from './losses.js';
import type { LatencyMs, LatencyWindowsMs, Metrics, ModelMetrics, NodeMetrics, WorkerMetrics } from './metrics.js';
import { RateWindow } from './rate-window.js';
import type { Publishing } from './served-models.js';

/** What one poll of the cluster gave: the numbers for people, and the counts behind them. */
export interface ClusterState {
  readonly metrics: ViewedMetrics;
  readonly counts: WorkerCounts;
  readonly live: LiveRecords;
  /** The nodes and workers that publish now. */
  readonly publishing: Publishing;
  /** By record id, milliseconds since it was renewed. */
  readonly ages: ReadonlyMap<string, number>;
  /** Milliseconds since the epoch, by the clock that ages are measured with. */
  readonly now: number;
}

/** Everything except the age of the poll itself, which depends on when somebody asks. */
export type ViewedMetrics = Omit<Metrics, 'age_ms' | 'stale'>;

export class ClusterView {
  readonly #publishIntervalMs: number;
  readonly #rates = new RateWindow();
  readonly #latencies = new LatencyWindows();
  readonly #losses = new Losses();
  readonly #events: EventLog;

  /** @param publishIntervalMs how often records are renewed; a record that is several intervals old is stale */
  constructor(publishIntervalMs: number) {
    this.#publishIntervalMs = publishIntervalMs;
    this.#events = new EventLog(pollOverdueMs(publishIntervalMs));
  }

  /** @param now milliseconds of the monotonic clock */
  update({ records, now: wallNow }: RecordsSnapshot, now: number): ClusterState {
    const ages = new Map(records.map(({ record, ageMs }) => [record.id, ageMs]));
    const counting = liveRecordsOf(records.map(({ record }) => record));
    const counts = totalCounts(counting);
    const losses = this.#losses.note(counting, counts, now);
    const publishing = this.#publishing(counting, ages);
    const current = this.#metrics(counts, counting, publishing, ages, now, wallNow);
    const metrics = { ...current, events: this.#events.note(current, now, wallNow, losses) };
    this.#rates.forgetBefore(now);
    const models = Object.keys(counts.models).map(modelKey);
    this.#latencies.keepOnly(new Set(['cluster', ...models, ...counting.workers.map(({ id }) => id)]));
    return { metrics, counts, live: counting, publishing, ages, now: wallNow };
  }

  #publishing({ nodes, workers }: LiveRecords, ages: ReadonlyMap<string, number>): Publishing {
    const isUp = ({ id }: { readonly id: string }): boolean =>
      freshness(ages.get(id) ?? 0, this.#publishIntervalMs) !== 'down';
    return { nodes: nodes.filter(isUp), workers: workers.filter(isUp) };
  }

  #metrics(
    counts: WorkerCounts,
    { nodes, workers, gone }: LiveRecords,
    { nodes: up, workers: alive }: Publishing,
    ages: ReadonlyMap<string, number>,
    now: number,
    wallNow: number,
  ): Omit<ViewedMetrics, 'events'> {
    const all = sumModels(counts);
    const ageOf = ({ id }: { readonly id: string }): number => ages.get(id) ?? 0;
    const stateOf = (record: { readonly id: string }) => freshness(ageOf(record), this.#publishIntervalMs);
    const uptimeMs = Math.max(0, ...nodes.map((node) => node.uptimeMs + ageOf(node)));
    const uptime = uptimeMs / 1000;
    const errors = errorsOf(all);
    const lost = lostOf(counts);
    const listedNodes = listed(nodes, ageOf);
    const listedRuns = new Map(listedNodes.map(({ node, run }) => [node, run]));
    // Workers of a run that a later run has followed are no longer shown.
    const isListed = (worker: WorkerRecord): boolean =>
      stateOf(worker) !== 'down' ||
      (ageOf(worker) < listedMs && (listedRuns.get(worker.node) ?? worker.run) === worker.run);
    return {
      initial_time: new Date(wallNow - uptimeMs).toISOString(),
      uptime,
      connections: sum(alive, ({ gauges }) => gauges.connections),
      total_requests: all.received,
      requests_per_second: this.#rates.rate('cluster', all.received, now),
      requests_per_second_lifetime: uptime > 0 ? all.received / uptime : 0,
      errors,
      error_rate: share(errors, all.received),
      errors_per_second: this.#rates.rate('errors', errors, now),
      inference_errors: all.failed,
      inference_error_rate: share(all.failed, all.received),
      queue_overload: all.refusedQueueFull + all.refusedOverloaded,
      requests_abandoned: all.abandoned,
      abandoned_per_second: this.#rates.rate('abandoned', all.abandoned, now),
      requests_lost: lost.requests,
      requests_lost_60s: this.#losses.recent.requests,
      connections_lost: lost.connections,
      connections_lost_60s: this.#losses.recent.connections,
      in_flight: sum(alive, ({ gauges }) => gauges.inFlight),
      // What was in flight on a machine that is gone has no outcome yet: that is no counting defect.
      audit_imbalance:
        unsettled(all) - sum(workers, ({ gauges }) => gauges.inFlight) - sum(gone, ({ inFlight }) => inFlight),
      ...this.#latency('cluster', all.latency, now),
      snapshot_age_ms: up.length > 0 ? Math.max(...up.map(ageOf)) : null,
      connections_refused: sumOf(counts, connectionsRefused),
      models: Object.entries(counts.models).map(([name, model]) => this.#model(name, model, alive, up, now)),
      workers: workers.filter(isListed).map((worker) => this.#worker(worker, ageOf(worker), now, wallNow)),
      nodes: listedNodes.map((node) =>
        nodeMetrics(node, ageOf(node), freshness(ageOf(node), this.#publishIntervalMs), alive, wallNow),
      ),
    };
  }

  #latency(key: string, latency: SparseHistogram, now: number): LatencyWindowsMs {
    const last = this.#latencies.note(key, latency, now);
    return {
      latency_ms: quantilesOf(latency),
      latency_ms_10s: quantilesOf(last(10_000)),
      latency_ms_60s: quantilesOf(last(60_000)),
    };
  }

  #model(
    name: string,
    counts: ModelCounts,
    alive: readonly WorkerRecord[],
    up: readonly NodeRecord[],
    now: number,
  ): ModelMetrics {
    const served = alive.flatMap(({ gauges }) => gauges.models[name] ?? []);
    const batches = sumOf(counts, batchesClosed);
    return {
      name,
      requests: counts.received,
      rps: this.#rates.rate(modelKey(name), counts.received, now),
      answered: counts.answered,
      failed: counts.failed,
      refused: byReason(counts, 'mltcp_requests_refused_total'),
      expired: counts.expired,
      abandoned: counts.abandoned,
      lost: counts.lost,
      queued: sum(served, ({ queued }) => queued),
      predicted_wait_ms: Math.max(0, ...served.map(({ predictedWaitMs }) => predictedWaitMs ?? 0)),
      ...this.#latency(modelKey(name), counts.latency, now),
      queue_ms: quantilesOf(counts.queueTime),
      run_ms: quantilesOf(counts.runTime),
      batches,
      rows_per_batch: share(counts.batchedRows, batches),
      batch_rows: Object.fromEntries(counts.batchRows.flatMap((n, i) => (n > 0 ? [[batchRowsLabel(i), n]] : []))),
      closed: byReason(counts, 'mltcp_batches_closed_total'),
      retried_rows: counts.retriedRows,
      versions: [...new Set(served.map(({ version }) => version))],
      signatures: [...new Set(up.flatMap(({ signatures }) => signatures?.[name] ?? []))],
      execution: [...new Set(served.map(({ execution }) => execution))],
      max_rows: least(served.map(({ maxRows }) => maxRows ?? 0)),
      max_rows_because: [...new Set(served.flatMap(({ maxRowsBecause }) => maxRowsBecause ?? []))],
      run_fixed_ms: most(served.map(({ runMs }) => runMs ?? 0)),
      row_ms: most(served.map(({ rowMs }) => rowMs ?? 0)),
      loads: counts.loads,
      load_failures: counts.loadFailures,
      thread_crashes: counts.threadCrashes,
      thread_hangs: counts.threadHangs,
      hung_threads: sum(served, ({ hungThreads }) => hungThreads ?? 0),
      memory: sum(served, ({ memoryBytes }) => memoryBytes ?? 0),
    };
  }

  #worker(
    { id, pid, node, slot, counts, gauges, uptimeMs }: WorkerRecord,
    ageMs: number,
    now: number,
    wallNow: number,
  ): WorkerMetrics {
    const all = sumModels(counts);
    return {
      pid,
      node,
      slot,
      state: freshness(ageMs, this.#publishIntervalMs) === 'up' ? gauges.state : 'lost',
      connections: gauges.connections,
      in_flight: gauges.inFlight,
      queued: sum(Object.values(gauges.models), ({ queued }) => queued),
      requests: all.received,
      rps: this.#rates.rate(id, all.received, now),
      errors: errorsOf(all),
      ...this.#latency(id, all.latency, now),
      cpu: gauges.cpuShare,
      memory: gauges.rssBytes,
      event_loop_utilization: gauges.eventLoopUtilization,
      event_loop_delay_p99_ms: gauges.eventLoopDelayP99Ms,
      started: new Date(wallNow - ageMs - uptimeMs).toISOString(),
      age_ms: ageMs,
    };
  }
}

const modelKey = (name: string): string => `model:${name}`;

/** The newest run of each node; a run that has stopped in order is listed only for a while. */
function listed(nodes: readonly NodeRecord[], ageOf: (node: NodeRecord) => number): readonly NodeRecord[] {
  const newest = new Map<string, NodeRecord>();
  for (const node of nodes) {
    const other = newest.get(node.node);
    if (other === undefined || ageOf(node) < ageOf(other)) newest.set(node.node, node);
  }
  return [...newest.values()].filter((node) => !node.isStopping || ageOf(node) < listedMs);
}

function nodeMetrics(
  node: NodeRecord,
  ageMs: number,
  state: 'up' | 'stale' | 'down',
  alive: readonly WorkerRecord[],
  wallNow: number,
): NodeMetrics {
  return {
    node: node.node,
    pid: node.pid,
    version: node.version,
    state: node.isStopping ? 'stopped' : state,
    workers: alive.filter(({ run }) => run === node.run).length,
    workers_wanted: node.workersWanted,
    restarts: node.restarts,
    reloads: node.reloads ?? 0, // versions before 0.2 do not say
    started: new Date(wallNow - ageMs - node.uptimeMs).toISOString(),
    age_ms: ageMs,
  };
}

export function sumModels(counts: WorkerCounts): ModelCounts {
  const [only, ...others] = Object.values(counts.models);
  if (others.length === 0) return only ?? noModelCounts();
  const total = new CountsSum();
  for (const model of Object.values(counts.models)) total.add({ ...counts, models: { all: model } });
  return total.value().models.all as ModelCounts;
}

const connectionsRefused = countersWith({ family: 'mltcp_connections_refused_total' });
/** Every batch has exactly one reason for which it was closed. */
const batchesClosed = countersWith({ family: 'mltcp_batches_closed_total' });

/** The counters of a family, by reason. */
function byReason<Family extends CounterFamily>(
  counts: Readonly<Partial<Record<Counter, number>>>,
  family: Family,
): Record<ReasonOf<Family>, number> {
  const names: readonly Counter[] = countersWith({ family });
  const entries = names.map((name) => [counters[name].labels?.reason, counts[name] ?? 0]);
  return Object.fromEntries(entries) as Record<ReasonOf<Family>, number>;
}

const shares = [0.5, 0.9, 0.99, 0.999];

function quantilesOf(latency: SparseHistogram): LatencyMs {
  const [p50 = null, p90 = null, p99 = null, p999 = null] = quantilesMs(latency, shares);
  const last = latency.at(-2);
  return { count: countOf(latency), p50, p90, p99, p999, max: last === undefined ? null : bucketStartMs(last + 1) };
}

const sum = <T>(items: readonly T[], value: (item: T) => number): number =>
  items.reduce((total, item) => total + value(item), 0);
/** 0 when there are none. */
const least = (values: readonly number[]): number => (values.length === 0 ? 0 : Math.min(...values));
const most = (values: readonly number[]): number => Math.max(0, ...values);
const share = (part: number, whole: number): number => (whole > 0 ? part / whole : 0);
