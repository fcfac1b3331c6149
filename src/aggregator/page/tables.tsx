// Which columns the tables of nodes, workers and models have.

import { bytes, count, duration, percent, span } from '../../format.js';
import type { ModelMetrics, NodeMetrics, WorkerMetrics } from '../metrics.js';
import { ModelPlan } from './model-plan.js';
import {
  ModelCharts,
  modelKey,
  NodeCharts,
  nodeKey,
  type RowFrame,
  refusedOf,
  WorkerCharts,
  workerKey,
} from './rows.js';
import { type Column, Table } from './table.js';

const ageOf = (started: string): number => (Date.now() - Date.parse(started)) / 1000;

const workerColumns: readonly Column<WorkerMetrics>[] = [
  { title: 'node', isNumber: false, value: ({ node }) => node, show: ({ node }) => node },
  { title: 'worker', isNumber: true, value: ({ slot }) => slot, show: ({ slot }) => String(slot) },
  { title: 'pid', isNumber: true, value: ({ pid }) => pid, show: ({ pid }) => String(pid) },
  {
    title: 'state',
    isNumber: false,
    value: ({ state }) => state,
    show: ({ state }) => state,
    isBad: ({ state }) => state === 'lost',
  },
  {
    title: 'connections',
    isNumber: true,
    value: ({ connections }) => connections,
    show: ({ connections }) => count(connections),
    heat: { above: 10 },
  },
  { title: 'requests/s', isNumber: true, value: ({ rps }) => rps, show: ({ rps }) => count(rps), heat: { above: 100 } },
  {
    title: 'p99',
    isNumber: true,
    value: ({ latency_ms_10s: { p99 } }) => p99,
    show: ({ latency_ms_10s: { p99 } }) => duration(p99),
    heat: { above: 1 },
  },
  {
    title: 'in flight',
    isNumber: true,
    value: ({ in_flight }) => in_flight,
    show: ({ in_flight }) => count(in_flight),
    heat: { above: 100 },
  },
  {
    title: 'errors',
    isNumber: true,
    value: ({ errors }) => errors,
    show: ({ errors }) => count(errors),
    heat: { above: 1 },
  },
  { title: 'CPU', isNumber: true, value: ({ cpu }) => cpu, show: ({ cpu }) => percent(cpu), heat: { above: 0.5 } },
  {
    title: 'memory',
    isNumber: true,
    value: ({ memory }) => memory,
    show: ({ memory }) => bytes(memory),
    heat: { above: 2e8 },
  },
  {
    title: 'loop busy',
    isNumber: true,
    value: ({ event_loop_utilization }) => event_loop_utilization,
    show: ({ event_loop_utilization }) => percent(event_loop_utilization),
    heat: { above: 0.7 },
  },
  {
    title: 'loop delay',
    isNumber: true,
    value: ({ event_loop_delay_p99_ms }) => event_loop_delay_p99_ms,
    show: ({ event_loop_delay_p99_ms }) => duration(event_loop_delay_p99_ms),
    heat: { above: 10 },
  },
  { title: 'up', isNumber: true, value: ({ started }) => ageOf(started), show: ({ started }) => span(ageOf(started)) },
  {
    title: 'age of data',
    isNumber: true,
    value: ({ age_ms }) => age_ms,
    show: ({ age_ms }) => duration(Math.round(age_ms)),
    isBad: ({ age_ms }) => age_ms > 2000,
  },
];

const nodeColumns: readonly Column<NodeMetrics>[] = [
  { title: 'node', isNumber: false, value: ({ node }) => node, show: ({ node }) => node },
  {
    title: 'state',
    isNumber: false,
    value: ({ state }) => state,
    show: ({ state }) => state,
    isBad: ({ state }) => state === 'down' || state === 'stale',
  },
  { title: 'pid', isNumber: true, value: ({ pid }) => pid, show: ({ pid }) => String(pid) },
  {
    title: 'workers',
    isNumber: true,
    value: ({ workers }) => workers,
    show: ({ workers, workers_wanted }) => `${workers} of ${workers_wanted}`,
    isBad: ({ state, workers, workers_wanted }) => state === 'up' && workers < workers_wanted,
  },
  {
    title: 'restarts',
    isNumber: true,
    value: ({ restarts }) => restarts,
    show: ({ restarts }) => count(restarts),
    heat: { above: 1 },
  },
  { title: 'reloads', isNumber: true, value: ({ reloads }) => reloads, show: ({ reloads }) => count(reloads) },
  { title: 'version', isNumber: false, value: ({ version }) => version, show: ({ version }) => version },
  { title: 'up', isNumber: true, value: ({ started }) => ageOf(started), show: ({ started }) => span(ageOf(started)) },
  {
    title: 'age of data',
    isNumber: true,
    value: ({ age_ms }) => age_ms,
    show: ({ age_ms }) => duration(Math.round(age_ms)),
    isBad: ({ age_ms }) => age_ms > 2000,
  },
];

const modelColumns: readonly Column<ModelMetrics>[] = [
  { title: 'model', isNumber: false, value: ({ name }) => name, show: ({ name }) => name },
  {
    title: 'version',
    isNumber: false,
    value: ({ versions }) => versions.join(', '),
    show: ({ versions }) => versions.join(', ') || '–',
    isBad: ({ load_failures }) => load_failures > 0,
  },
  {
    title: 'runs',
    isNumber: false,
    value: ({ execution }) => execution.join(', '),
    show: ({ execution }) => execution.join(', ') || '–',
  },
  { title: 'requests/s', isNumber: true, value: ({ rps }) => rps, show: ({ rps }) => count(rps) },
  {
    title: 'rows a batch',
    isNumber: true,
    value: ({ rows_per_batch }) => rows_per_batch,
    show: ({ rows_per_batch }) => count(rows_per_batch),
  },
  { title: 'queued', isNumber: true, value: ({ queued }) => queued, show: ({ queued }) => count(queued) },
  {
    title: 'queue p99',
    isNumber: true,
    value: ({ queue_ms }) => queue_ms.p99,
    show: ({ queue_ms }) => duration(queue_ms.p99),
  },
  { title: 'run p50', isNumber: true, value: ({ run_ms }) => run_ms.p50, show: ({ run_ms }) => duration(run_ms.p50) },
  { title: 'run p99', isNumber: true, value: ({ run_ms }) => run_ms.p99, show: ({ run_ms }) => duration(run_ms.p99) },
  {
    title: 'refused, expired',
    isNumber: true,
    value: refusedOf,
    show: (model) => count(refusedOf(model)),
    isBad: (model) => refusedOf(model) > 0.01 * model.requests && refusedOf(model) > 0,
  },
  {
    title: 'failed',
    isNumber: true,
    value: ({ failed }) => failed,
    show: ({ failed }) => count(failed),
    isBad: ({ failed }) => failed > 0,
  },
  {
    title: 'lost',
    isNumber: true,
    value: ({ lost }) => lost,
    show: ({ lost }) => count(lost),
    isBad: ({ lost }) => lost > 0,
  },
  {
    title: 'takes → gives',
    isNumber: false,
    isLong: true,
    value: ({ signatures }) => signatures.join(', '),
    show: ({ signatures }) => signatures.join(', ') || '–',
  },
];

export function WorkerTable({
  workers,
  frame,
}: {
  readonly workers: readonly WorkerMetrics[];
  readonly frame: RowFrame;
}) {
  return (
    <Table
      caption="Workers"
      columns={workerColumns}
      rows={workers.toSorted((a, b) => a.node.localeCompare(b.node) || a.slot - b.slot)}
      keyOf={workerKey}
      nameOf={({ node, slot }) => `worker ${slot} of ${node}`}
      detail={(worker) => <WorkerCharts worker={worker} frame={frame} />}
      empty="no worker publishes"
    />
  );
}

export function NodeTable({ nodes, frame }: { readonly nodes: readonly NodeMetrics[]; readonly frame: RowFrame }) {
  return (
    <Table
      caption="Nodes"
      columns={nodeColumns}
      rows={nodes.toSorted((a, b) => a.node.localeCompare(b.node))}
      keyOf={nodeKey}
      nameOf={({ node }) => `node ${node}`}
      detail={(node) => <NodeCharts node={node} frame={frame} />}
      empty="no node publishes"
    />
  );
}

export function ModelTable({ models, frame }: { readonly models: readonly ModelMetrics[]; readonly frame: RowFrame }) {
  return (
    <Table
      caption="Models"
      columns={modelColumns}
      rows={models}
      keyOf={modelKey}
      nameOf={({ name }) => `model ${name}`}
      detail={(model) => (
        <>
          <ModelCharts model={model} frame={frame} />
          <ModelPlan name={model.name} />
        </>
      )}
      empty="no model is served"
    />
  );
}
