// What is sent to an OpenTelemetry collector.

import { type SettingsOf, setting } from '../setting.js';

export const otlp = {
  endpoint: setting({
    doc: 'Base URL of an OpenTelemetry collector (OTLP over HTTP, as http://127.0.0.1:4318) that gets all metrics, and a span for each batch. Empty: none, and nothing of it is loaded.',
    format: 'httpUrl',
    default: '',
    env: 'OTEL_EXPORTER_OTLP_ENDPOINT',
  }),
  intervalMs: setting({ doc: 'How often metrics are sent to it.', format: 'interval', default: 10_000 }),
  traceRatio: setting({
    doc: 'Share of the batches that get a span, 0 to 1. Beyond some thousand batches a second spans cost more than they tell.',
    format: 'ratio',
    default: 1,
  }),
};

export type OtlpSettings = SettingsOf<typeof otlp>;
