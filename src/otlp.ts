// OpenTelemetry: sends metrics and spans over OTLP/HTTP to a collector that config names. Loaded only when config names
// one: other servers do not pay for these packages. Protocol: opentelemetry.io/docs/specs/otlp.
//
// Metrics are the families that /metrics shows, passed on unchanged: the SDK's own instruments would count again what
// the workers have counted.

import { type Attributes, SpanStatusCode, ValueType } from '@opentelemetry/api';
import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  AggregationTemporality,
  DataPointType,
  MeterProvider,
  type MetricData,
  PeriodicExportingMetricReader,
  type PushMetricExporter,
} from '@opentelemetry/sdk-metrics';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import type { MetricFamily, Sample } from './metrics/exposition.js';

export interface OtlpSettings {
  /** Base URL of the collector: http://host:4318. */
  readonly endpoint: string;
  readonly intervalMs: number;
  /** Share of the batches that get a span, 0 to 1. */
  readonly traceRatio: number;
}

/** The sender: service.instance.id, service.version, service.namespace (the cluster). */
export interface Sender {
  readonly instance: string;
  readonly version: string;
  readonly cluster: string;
}

export interface Exporting {
  /** Sends what is left; gives up after two seconds. */
  close(): Promise<void>;
}

const scope = 'ml-tcp-server';
const lastSendMs = 2000;

const resourceOf = ({ instance, version, cluster }: Sender) =>
  resourceFromAttributes({
    'service.name': scope,
    'service.namespace': cluster,
    'service.version': version,
    'service.instance.id': instance,
  });

const urlOf = ({ endpoint }: OtlpSettings, signal: string): string => `${endpoint.replace(/\/+$/, '')}/v1/${signal}`;

export interface MetricsSnapshot {
  readonly families: readonly MetricFamily[];
  /** Milliseconds since the epoch: when the counters began to count, and when they were read. */
  readonly since: number;
  readonly at: number;
}

/**
 * Sends metrics every interval.
 * @param read returns null when there is nothing to send, or another aggregator sends it
 * @param onFailure called once per outage of the collector, with the reason
 */
export function exportMetrics(
  settings: OtlpSettings,
  sender: Sender,
  read: () => MetricsSnapshot | null,
  onFailure: (reason: string) => void,
): Exporting {
  const resource = resourceOf(sender);
  const exporter = new OTLPMetricExporter({ url: urlOf(settings, 'metrics') });
  let hasFailed = false;
  const send: PushMetricExporter['export'] = (metrics, done) => {
    if (metrics.scopeMetrics.length === 0) return done({ code: 0 });
    exporter.export(metrics, (result) => {
      if (result.code !== 0 && !hasFailed) onFailure(result.error?.message ?? 'refused');
      hasFailed = result.code !== 0;
      done({ code: 0 }); // already reported
    });
  };
  const reader = new PeriodicExportingMetricReader({
    exporter: {
      export: send,
      forceFlush: () => exporter.forceFlush(),
      shutdown: () => exporter.shutdown(),
      selectAggregationTemporality: () => AggregationTemporality.CUMULATIVE,
    },
    exportIntervalMillis: settings.intervalMs,
    exportTimeoutMillis: Math.min(settings.intervalMs, 10_000),
    metricProducers: [
      {
        collect: async () => {
          const snapshot = read();
          const metrics = snapshot === null ? [] : snapshot.families.map((family) => metricData(family, snapshot));
          const scopeMetrics =
            metrics.length === 0 ? [] : [{ scope: { name: scope, version: sender.version }, metrics }];
          return { errors: [], resourceMetrics: { resource, scopeMetrics } };
        },
      },
    ],
  });
  const provider = new MeterProvider({ resource, readers: [reader] });
  return { close: () => provider.shutdown({ timeoutMillis: lastSendMs }).catch(() => {}) };
}

export interface BatchSpan {
  readonly model: string;
  readonly rows: number;
  readonly closedBy: string;
  readonly retriedRows: number;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly endedAt: number;
  /** How long its first row had waited. */
  readonly queuedMs: number;
  readonly error: Error | null;
}

export interface Tracing extends Exporting {
  /** Records a span for a share of the batches: traceRatio. */
  batch(span: BatchSpan): void;
}

/** Spans wait in a queue of 2048; when the collector does not keep up, further spans are dropped. */
export function exportTraces(settings: OtlpSettings, sender: Sender): Tracing {
  const exporter = new OTLPTraceExporter({ url: urlOf(settings, 'traces') });
  const processor = new BatchSpanProcessor({ exporter, scheduledDelayMillis: Math.min(settings.intervalMs, 5000) });
  const provider = new TracerProvider({ resource: resourceOf(sender), spanProcessors: [processor] });
  const tracer = provider.getTracer(scope, sender.version);
  return {
    batch: ({ model, rows, closedBy, retriedRows, startedAt, endedAt, queuedMs, error }) => {
      if (Math.random() >= settings.traceRatio) return;
      const attributes: Attributes = {
        model,
        rows,
        closed_by: closedBy,
        retried_rows: retriedRows,
        queued_ms: queuedMs,
      };
      const span = tracer.startSpan('inference batch', { startTime: startedAt, attributes, root: true });
      if (error !== null) span.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
      span.end(endedAt);
    },
    close: () => {
      const overdue = new Promise<void>((resolve) => setTimeout(resolve, lastSendMs).unref());
      return Promise.race([provider.shutdown().catch(() => {}), overdue]);
    },
  };
}

function metricData({ name, type, help, samples }: MetricFamily, { since, at }: MetricsSnapshot): MetricData {
  const descriptor = { name, description: help, unit: unitOf(name), valueType: ValueType.DOUBLE };
  const times = { startTime: hrTime(since), endTime: hrTime(at) };
  const base = { descriptor, aggregationTemporality: AggregationTemporality.CUMULATIVE };
  if (type === 'histogram') {
    const dataPoints = histogramsOf(samples).map((point) => ({ ...times, ...point }));
    return { ...base, dataPointType: DataPointType.HISTOGRAM, dataPoints };
  }
  const dataPoints = samples.map(({ labels = {}, value }) => ({ ...times, attributes: { ...labels }, value }));
  return type === 'counter'
    ? { ...base, dataPointType: DataPointType.SUM, isMonotonic: true, dataPoints }
    : { ...base, dataPointType: DataPointType.GAUGE, dataPoints };
}

/** The unit by UCUM, from what Prometheus' conventions put into the name. */
function unitOf(name: string): string {
  if (/_seconds(_total)?$/.test(name)) return 's';
  if (/_bytes(_total)?$/.test(name)) return 'By';
  return name.endsWith('_ratio') ? '1' : '';
}

const hrTime = (ms: number): [number, number] => [Math.floor(ms / 1000), Math.round((ms % 1000) * 1e6)];

interface HistogramPoint {
  readonly attributes: Attributes;
  readonly value: {
    readonly buckets: { readonly boundaries: number[]; readonly counts: number[] };
    sum: number;
    count: number;
  };
}

/**
 * A Prometheus bucket counts all values that are not above its bound; an OTLP bucket only those not in the one before.
 */
function histogramsOf(samples: readonly Sample[]): readonly HistogramPoint[] {
  const points = new Map<string, HistogramPoint>();
  const before = new Map<string, number>();
  for (const { suffix, labels = {}, value } of samples) {
    const { le, ...attributes } = labels;
    const key = JSON.stringify(attributes);
    const known = points.get(key);
    const point = known ?? { attributes, value: { buckets: { boundaries: [], counts: [] }, sum: 0, count: 0 } };
    if (known === undefined) points.set(key, point);
    if (suffix === '_sum') point.value.sum = value;
    else if (suffix === '_count') point.value.count = value;
    else {
      point.value.buckets.counts.push(value - (before.get(key) ?? 0));
      before.set(key, value);
      if (le !== undefined && le !== '+Inf') point.value.buckets.boundaries.push(Number(le));
    }
  }
  return [...points.values()];
}
