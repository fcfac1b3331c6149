// The cluster on a terminal: a headline, the figures, the latest events, and a line for each model, worker and node, as
// many as fit.

import { troublesOf } from '../../aggregator/health.js';
import type { Metrics } from '../../aggregator/metrics.js';
import { bytes, clock, count, duration, percent, span, table } from '../../format.js';

export interface View {
  readonly metrics: Metrics | null;
  /** Why no metrics arrive; null while they do. */
  readonly gone: string | null;
  /** How old the metrics are, in milliseconds. */
  readonly ageMs: number;
}

/** One line, for logs and pipes. */
export function formatLine(metrics: Metrics): string {
  const { latency_ms_10s: latency, workers, nodes } = metrics;
  const ready = workers.filter(({ state }) => state === 'ready').length;
  return [
    new Date().toISOString(),
    `${count(metrics.requests_per_second)} requests/s`,
    `p50 ${duration(latency.p50)}`,
    `p99 ${duration(latency.p99)}`,
    `${count(metrics.errors_per_second)} errors/s`,
    `${count(metrics.connections)} connections`,
    `${count(metrics.in_flight)} in flight`,
    `${ready} workers of ${nodes.length} ${nodes.length === 1 ? 'node' : 'nodes'}`,
    ...unhealthy(metrics).map((troubles) => `UNHEALTHY: ${troubles}`),
    ...(metrics.stale ? [`STALE: ${span(metrics.age_ms / 1000)} old`] : []),
  ].join('  ');
}

/** What is wrong, if anything is; stale metrics cannot tell. */
function unhealthy(metrics: Metrics): readonly string[] {
  const troubles = metrics.stale ? [] : troublesOf(metrics);
  return troubles.length === 0 ? [] : [troubles.join('; ')];
}

/** At most `rows` lines of text, none longer than `columns`. */
export function formatScreen(view: View, columns: number, rows: number): readonly string[] {
  const { metrics } = view;
  const head = [statusLine(view), ''];
  if (metrics === null) return fit(head, columns, rows);
  const lines = [
    ...head,
    ...unhealthy(metrics).map((troubles) => `✖ unhealthy: ${troubles}`),
    ...figures(metrics),
    '',
    ...metrics.events
      .slice(-3)
      .toReversed()
      .map(({ t, severity, text }) => `${clock(t)} ${signs[severity]} ${text}`),
    ...(metrics.events.length > 0 ? [''] : []),
    ...models(metrics),
    '',
    ...(metrics.nodes.length > 1 ? [...nodes(metrics), ''] : []),
    ...workers(metrics),
  ];
  return fit(lines, columns, rows);
}

const signs = { bad: '✖', good: '✔', change: '↻' } as const;

function statusLine({ metrics, gone, ageMs }: View): string {
  if (gone !== null) {
    const age = metrics === null ? '' : `; what follows is ${span(ageMs / 1000)} old`;
    return `○ the aggregator does not answer (${gone})${age}; trying again, q quits`;
  }
  if (metrics === null) return '◌ connecting…';
  if (metrics.stale) return `◐ stale: the cluster cannot be read; what follows is ${span(ageMs / 1000)} old`;
  const health = troublesOf(metrics).length === 0 ? ', healthy' : '';
  return `● ml-tcp-server, live, up for ${span(metrics.uptime)}${health}`;
}

function figures(metrics: Metrics): readonly string[] {
  const { latency_ms_10s: latency, workers: all } = metrics;
  const ready = all.filter(({ state }) => state === 'ready').length;
  const wanted = metrics.nodes
    .filter(({ state }) => state === 'up')
    .reduce((sum, node) => sum + node.workers_wanted, 0);
  return [
    `${count(metrics.requests_per_second)} requests/s, ${count(metrics.total_requests)} in all    p50 ${duration(latency.p50)}  p90 ${duration(latency.p90)}  p99 ${duration(latency.p99)}`,
    `${count(metrics.errors_per_second)} errors/s, ${count(metrics.errors)} in all, ${count(metrics.requests_lost)} lost    ${count(metrics.connections)} connections, ${count(metrics.in_flight)} in flight    ${ready} of ${wanted} workers ready`,
  ];
}

function models({ models: all }: Metrics): readonly string[] {
  return table(
    ['model', 'version', 'runs', 'requests/s', 'rows a batch', 'queued', 'wait', 'run p99', 'failed', 'lost'],
    all.map((model) => [
      model.name,
      model.versions.join(','),
      model.execution.join(','),
      count(model.rps),
      count(model.rows_per_batch),
      count(model.queued),
      duration(model.predicted_wait_ms),
      duration(model.run_ms.p99),
      count(model.failed),
      count(model.lost),
    ]),
    3,
  );
}

function nodes({ nodes: all }: Metrics): readonly string[] {
  return table(
    ['node', 'state', 'workers', 'restarts', 'reloads', 'up', 'age'],
    all.map((node) => [
      node.node,
      node.state,
      `${node.workers}/${node.workers_wanted}`,
      count(node.restarts),
      count(node.reloads),
      span((Date.now() - Date.parse(node.started)) / 1000),
      duration(Math.round(node.age_ms)),
    ]),
    2,
  );
}

function workers({ workers: all }: Metrics): readonly string[] {
  const sorted = all.toSorted((a, b) => a.node.localeCompare(b.node) || a.slot - b.slot);
  return table(
    ['node', 'worker', 'pid', 'state', 'requests/s', 'p99', 'connections', 'errors', 'cpu', 'memory', 'loop'],
    sorted.map((worker) => [
      worker.node,
      String(worker.slot),
      String(worker.pid),
      worker.state,
      count(worker.rps),
      duration(worker.latency_ms_10s.p99),
      count(worker.connections),
      count(worker.errors),
      percent(worker.cpu),
      bytes(worker.memory),
      percent(worker.event_loop_utilization),
    ]),
    1,
  );
}

/** Cuts what does not fit, and marks the cuts. */
function fit(lines: readonly string[], columns: number, rows: number): readonly string[] {
  const shown =
    lines.length <= rows ? lines : [...lines.slice(0, Math.max(0, rows - 1)), `… ${lines.length - rows + 1} more`];
  return shown
    .slice(0, rows)
    .map((line) => (line.length <= columns ? line : `${line.slice(0, Math.max(0, columns - 1))}…`));
}
