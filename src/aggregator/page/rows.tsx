// The history of each table row, and the charts that an open row shows.

import { count, duration, percent, ticks } from '../../format.js';
import type { Metrics, ModelMetrics, NodeMetrics, WorkerMetrics } from '../metrics.js';
import { growth, type RowHistory, type RowSeries } from '../row-history.js';
import { Chart, type ChartProps, type Line, type TimeFrame } from './charts.js';

const workerFields = ['rps', 'p50', 'p99', 'errors', 'cpu', 'loop', 'memory', 'connections'] as const;
const nodeFields = ['rps', 'workers', 'cpu', 'memory'] as const;
const modelFields = ['rps', 'p50', 'p99', 'queued', 'errors'] as const;

const bytesInMb = 2 ** 20;

export const workerKey = ({ node, slot, pid }: WorkerMetrics): string => `worker ${node} ${slot} ${pid}`;
export const nodeKey = ({ node }: NodeMetrics): string => `node ${node}`;
export const modelKey = ({ name }: ModelMetrics): string => `model ${name}`;

/** Requests that the model never saw. */
export const refusedOf = ({ refused, expired }: ModelMetrics): number =>
  Object.values(refused).reduce((sum, count) => sum + count, expired);

type Row = readonly [key: string, values: readonly (number | null)[]];

/** The current values of every row, in the order of the fields. */
export function rowsOf({ workers, nodes, models }: Metrics): readonly Row[] {
  const sums = new Map<string, { rps: number; cpu: number; memory: number }>();
  for (const { node, rps, cpu, memory } of workers) {
    const sum = sums.get(node) ?? { rps: 0, cpu: 0, memory: 0 };
    sums.set(node, { rps: sum.rps + rps, cpu: sum.cpu + cpu, memory: sum.memory + memory });
  }
  return [
    ...workers.map((worker): Row => {
      const { rps, latency_ms_10s: latency, errors, cpu, event_loop_utilization: loop, memory, connections } = worker;
      return [workerKey(worker), [rps, latency.p50, latency.p99, errors, cpu, loop, memory / bytesInMb, connections]];
    }),
    ...nodes.map((node): Row => {
      const { rps = 0, cpu = 0, memory = 0 } = sums.get(node.node) ?? {};
      return [nodeKey(node), [rps, node.workers, cpu, memory / bytesInMb]];
    }),
    ...models.map((model): Row => {
      const { rps, latency_ms_10s: latency, queued, failed, lost } = model;
      return [modelKey(model), [rps, latency.p50, latency.p99, queued, failed + lost + refusedOf(model)]];
    }),
  ];
}

/** What the charts of a row need. */
export interface RowFrame extends TimeFrame {
  readonly history: RowHistory;
}

type Values = Line['values'];
type Plot = Pick<ChartProps, 'title' | 'lines' | 'format' | 'ticks' | 'least'>;

function columnsOf<Field extends string>({ columns }: RowSeries, fields: readonly Field[]): (field: Field) => Values {
  return (field) => columns[fields.indexOf(field)] ?? [];
}

interface PlotsProps {
  readonly series: RowSeries;
  readonly frame: RowFrame;
  readonly plots: readonly Plot[];
}

function Plots({ series, frame: { seconds, events }, plots }: PlotsProps) {
  return (
    <div class="charts row-charts">
      {plots.map((plot) => (
        <Chart
          key={plot.title}
          {...plot}
          times={series.times}
          seconds={seconds}
          events={events}
          summary={summaryOf(plot)}
        />
      ))}
    </div>
  );
}

function summaryOf({ lines, format }: Plot): string {
  return lines
    .map(({ label, values }) => {
      const value = values.at(-1) ?? null;
      return `${label} ${value === null ? '–' : format(value)}`;
    })
    .join(', ');
}

const rates = (values: Values): Plot => ({
  title: 'Requests a second',
  lines: [{ label: 'requests/s', color: 'blue', values }],
  format: count,
  ticks,
  least: 10,
});

const errorRates = (values: Values): Plot => ({
  title: 'Errors a second',
  lines: [{ label: 'errors/s', color: 'red', values }],
  format: count,
  ticks,
  least: 1,
});

const latencies = (p50: Values, p99: Values): Plot => ({
  title: 'Latency, over 10 s',
  lines: [
    { label: 'p99', color: 'red', values: positive(p99) },
    { label: 'p50', color: 'green', dash: [2, 3], values: positive(p50) },
  ],
  format: duration,
});

const shares = (title: string, lines: readonly Line[]): Plot => ({
  title,
  lines,
  format: percent,
  ticks: (values, step) =>
    ticks(
      values.map((value) => 100 * value),
      100 * step,
    ).map((label) => `${label} %`),
  least: 1,
});

const memories = (values: Values): Plot => ({
  title: 'Memory',
  lines: [{ label: 'MB', color: 'amber', values }],
  format: (value) => String(Math.round(value)),
  ticks,
  least: 100,
});

const counts = (title: string, label: string, values: Values): Plot => ({
  title,
  lines: [{ label, color: 'blue', values }],
  format: count,
  ticks,
  least: 4,
});

/** A logarithmic axis has no 0. */
export const positive = (values: Values): Values =>
  values.map((value) => (value === null ? null : Math.max(value, 0.001)));

export function WorkerCharts({ worker, frame }: { readonly worker: WorkerMetrics; readonly frame: RowFrame }) {
  const series = frame.history.of(workerKey(worker));
  const of = columnsOf(series, workerFields);
  const busy: readonly Line[] = [
    { label: 'CPU', color: 'blue', values: of('cpu') },
    { label: 'event loop', color: 'amber', dash: [6, 3], values: of('loop') },
  ];
  const plots = [
    rates(of('rps')),
    latencies(of('p50'), of('p99')),
    errorRates(growth(series.times, of('errors'))),
    shares('Busy', busy),
    memories(of('memory')),
    counts('Connections', 'connections', of('connections')),
  ];
  return <Plots series={series} frame={frame} plots={plots} />;
}

export function NodeCharts({ node, frame }: { readonly node: NodeMetrics; readonly frame: RowFrame }) {
  const series = frame.history.of(nodeKey(node));
  const of = columnsOf(series, nodeFields);
  const plots = [
    rates(of('rps')),
    shares('CPU of all its workers', [{ label: 'CPU', color: 'blue', values: of('cpu') }]),
    memories(of('memory')),
    counts('Workers', 'workers', of('workers')),
  ];
  return <Plots series={series} frame={frame} plots={plots} />;
}

export function ModelCharts({ model, frame }: { readonly model: ModelMetrics; readonly frame: RowFrame }) {
  const series = frame.history.of(modelKey(model));
  const of = columnsOf(series, modelFields);
  const plots = [
    rates(of('rps')),
    latencies(of('p50'), of('p99')),
    errorRates(growth(series.times, of('errors'))),
    counts('Queued', 'requests', of('queued')),
  ];
  return <Plots series={series} frame={frame} plots={plots} />;
}
