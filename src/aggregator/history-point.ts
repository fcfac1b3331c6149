// The cluster in one second: the aggregator keeps these points for fifteen minutes, and the page draws them.

import type { Metrics } from './metrics.js';

/** The cluster in one second. */
export interface HistoryPoint {
  /** Seconds since the epoch, by the clock that the records are measured with. */
  readonly t: number;
  readonly rps: number;
  readonly errors_per_second: number;
  readonly p50_ms: number | null;
  readonly p90_ms: number | null;
  readonly p99_ms: number | null;
  readonly connections: number;
  readonly in_flight: number;
  readonly queued: number;
  readonly workers: number;
  readonly workers_wanted: number;
  readonly nodes: number;
}

export const historySeconds = 15 * 60;

/** @param now milliseconds since the epoch */
export function historyPoint(metrics: Omit<Metrics, 'age_ms' | 'stale'>, now: number): HistoryPoint {
  const { latency_ms_10s: latency, nodes, workers } = metrics;
  const up = nodes.filter(({ state }) => state === 'up');
  return {
    t: Math.floor(now / 1000),
    rps: metrics.requests_per_second,
    errors_per_second: metrics.errors_per_second,
    p50_ms: latency.p50,
    p90_ms: latency.p90,
    p99_ms: latency.p99,
    connections: metrics.connections,
    in_flight: metrics.in_flight,
    queued: workers.reduce((sum, { queued }) => sum + queued, 0),
    workers: workers.filter(({ state }) => state === 'ready').length,
    workers_wanted: up.reduce((sum, { workers_wanted }) => sum + workers_wanted, 0),
    nodes: up.length,
  };
}
