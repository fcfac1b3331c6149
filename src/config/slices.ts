// The part of the primary's config that each process gets: only what it uses. A secret is only where it is needed, so
// that neither a model's own code nor a worker's crash report can reveal what protects the metrics.

import { clusterIdentity } from './describe.js';
import { type Listener, servedNames } from './listeners.js';
import { type Config, leafKeys, leafSchema, usesRedis } from './load.js';
import { schema } from './schema/schema.js';

type Model = Config['models'][number];

/** What a worker serves, within which limits, and where it publishes its counters. */
export interface WorkerConfig {
  readonly server: Pick<
    Config['server'],
    | 'lengthFieldSize'
    | 'sharedSecret'
    | 'tls'
    | 'maxPayloadSizeKb'
    | 'maxJsonKb'
    | 'maxHeaderKb'
    | 'payloadTimeoutSeconds'
    | 'idleTimeoutSeconds'
    | 'httpIdleSeconds'
    | 'writeTimeoutSeconds'
    | 'keepAliveSeconds'
    | 'maxInFlightPerConnection'
    | 'maxWriteBufferKb'
    | 'maxBufferedMb'
    | 'drainTimeoutSeconds'
  >;
  readonly cluster: Pick<
    Config['cluster'],
    'name' | 'node' | 'bootTimeoutSeconds' | 'hangTimeoutMs' | 'maxHungThreads'
  > & {
    /** From clusterIdentity. */
    readonly identity: string;
  };
  /** The models behind listeners. `place` is a model's place in the config, for messages: models[2]. */
  readonly models: readonly (Model & { readonly responseSize: number; readonly place: string })[];
  readonly listeners: readonly Listener[];
  /** Null: it publishes to the primary alone. */
  readonly redis: Config['redis'] | null;
  readonly metrics: Pick<Config['metrics'], 'publishIntervalMs' | 'keptRejections'>;
  /** Null: no spans. */
  readonly otlp: Config['otlp'] | null;
  readonly log: Config['log'];
}

export function workerConfig(config: Config): WorkerConfig {
  const { server, cluster, redis, metrics, otlp, log } = config;
  const served = new Set(servedNames(config.listeners));
  return {
    server: {
      lengthFieldSize: server.lengthFieldSize,
      sharedSecret: server.sharedSecret,
      tls: server.tls,
      maxPayloadSizeKb: server.maxPayloadSizeKb,
      maxJsonKb: server.maxJsonKb,
      maxHeaderKb: server.maxHeaderKb,
      payloadTimeoutSeconds: server.payloadTimeoutSeconds,
      idleTimeoutSeconds: server.idleTimeoutSeconds,
      httpIdleSeconds: server.httpIdleSeconds,
      writeTimeoutSeconds: server.writeTimeoutSeconds,
      keepAliveSeconds: server.keepAliveSeconds,
      maxInFlightPerConnection: server.maxInFlightPerConnection,
      maxWriteBufferKb: server.maxWriteBufferKb,
      maxBufferedMb: server.maxBufferedMb,
      drainTimeoutSeconds: server.drainTimeoutSeconds,
    },
    cluster: {
      name: cluster.name,
      node: cluster.node,
      bootTimeoutSeconds: cluster.bootTimeoutSeconds,
      hangTimeoutMs: cluster.hangTimeoutMs,
      maxHungThreads: cluster.maxHungThreads,
      identity: clusterIdentity(config),
    },
    models: config.models
      .map((model, i) => ({
        ...model,
        responseSize: model.responseSize ?? server.responseSize,
        place: `models[${i}]`,
      }))
      .filter(({ name }) => served.has(name)),
    listeners: config.listeners,
    redis: usesRedis(config) ? redis : null,
    metrics: { publishIntervalMs: metrics.publishIntervalMs, keptRejections: metrics.keptRejections },
    otlp: otlp.endpoint === '' || otlp.traceRatio === 0 ? null : otlp,
    log,
  };
}

/** What an aggregator serves, apart from where its records come from. */
export interface AggregatorConfig {
  readonly cluster: Pick<Config['cluster'], 'name' | 'node'>;
  readonly http: Config['http'];
  readonly metrics: Pick<Config['metrics'], 'publishIntervalMs' | 'streamIntervalMs'>;
  readonly otlp: Config['otlp'];
  readonly log: Config['log'];
}

export function aggregatorConfig({ cluster, http, metrics, otlp, log }: Config): AggregatorConfig {
  return {
    cluster: { name: cluster.name, node: cluster.node },
    http,
    metrics: { publishIntervalMs: metrics.publishIntervalMs, streamIntervalMs: metrics.streamIntervalMs },
    otlp,
    log,
  };
}

/**
 * Removes the variables that set secrets from the environment of a child. Its boot message has the secrets that it
 * needs; the environment would pass them on to the code of models and into crash reports.
 */
export const withoutSecrets: Readonly<Record<string, undefined>> = Object.fromEntries(
  [...leafKeys(schema)].flatMap((key) => {
    const { env, sensitive } = leafSchema(key);
    return env !== undefined && sensitive ? [[env, undefined]] : [];
  }),
);
