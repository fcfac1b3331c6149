// Metric families as text, in Prometheus' format 0.0.4 and in OpenMetrics 1.0.
// Formats: prometheus.io/docs/instrumenting/exposition_formats, and the OpenMetrics 1.0 specification.

export interface Sample {
  /** Appended to the family's name: `_bucket`, `_sum`, `_count`; most samples have none. */
  readonly suffix?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface MetricFamily {
  /** Counters end in `_total`. */
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** What it is, and what to do when it changes. */
  readonly help: string;
  readonly samples: readonly Sample[];
}

export type TextFormat = 'prometheus' | 'openmetrics';

export const contentTypes: Readonly<Record<TextFormat, string>> = {
  prometheus: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
};

/** Leaves out families without samples, such as those about connections to Redis on a server without Redis. */
export function formatText(families: readonly MetricFamily[], format: TextFormat): string {
  const told = families.filter(({ samples }) => samples.length > 0);
  const lines = told.flatMap((family) => formatFamily(family, format));
  if (format === 'openmetrics') lines.push('# EOF');
  return `${lines.join('\n')}\n`;
}

function formatFamily({ name, type, help, samples }: MetricFamily, format: TextFormat): string[] {
  // OpenMetrics names a counter's family without the suffix that its samples carry.
  const family = format === 'openmetrics' && type === 'counter' ? name.replace(/_total$/, '') : name;
  return [
    `# HELP ${family} ${escapeText(help, format === 'openmetrics')}`,
    `# TYPE ${family} ${type}`,
    ...samples.map(
      ({ suffix = '', labels = {}, value }) => `${name}${suffix}${formatLabels(labels)} ${formatValue(value)}`,
    ),
  ];
}

function formatLabels(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeText(value, true)}"`);
  return pairs.length > 0 ? `{${pairs.join(',')}}` : '';
}

function formatValue(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf';
  return value === Number.NEGATIVE_INFINITY ? '-Inf' : String(value);
}

function escapeText(text: string, withQuotes: boolean): string {
  const escaped = text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
  return withQuotes ? escaped.replaceAll('"', '\\"') : escaped;
}
