// Every setting, one file per section: its format, default, environment variable, and a sentence on its purpose. The
// README's table is generated from these files, in this order.

import { setting } from '../setting.js';
import { type ClusterSettings, cluster } from './cluster.js';
import { type ControlSettings, control } from './control.js';
import { type HttpSettings, http } from './http.js';
import type { ListenerEntry } from './listeners.js';
import { type LogSettings, log } from './log.js';
import { type MetricsSettings, metrics } from './metrics.js';
import type { ModelEntry } from './models.js';
import { type OnnxRuntimeSettings, onnxRuntime } from './onnx-runtime.js';
import { type OtlpSettings, otlp } from './otlp.js';
import { type RedisSettings, redis } from './redis.js';
import { type ServerSettings, server } from './server.js';

export const schema = {
  server,
  cluster,
  models: setting({ doc: 'Models that can be served; see the next table.', format: 'list', default: [] }),
  listeners: setting({
    doc: 'TCP listeners: a list of {host, port, protocol, model, models, tls}. Empty means one: server.port with server.protocol and server.model.',
    format: 'list',
    default: [],
  }),
  onnxRuntime,
  redis,
  http,
  metrics,
  otlp,
  control,
  log,
};

/** Their values, each valid by itself; in the two lists, entry by entry. */
export interface Settings {
  readonly server: ServerSettings;
  readonly cluster: ClusterSettings;
  readonly models: readonly ModelEntry[];
  readonly listeners: readonly ListenerEntry[];
  readonly onnxRuntime: OnnxRuntimeSettings;
  readonly redis: RedisSettings;
  readonly http: HttpSettings;
  readonly metrics: MetricsSettings;
  readonly otlp: OtlpSettings;
  readonly control: ControlSettings;
  readonly log: LogSettings;
}
