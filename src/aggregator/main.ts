// The aggregator: shows what all workers of all machines have published. Any number may run; none of them matters to
// inference.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { maskUrl } from '../config/describe.js';
import { type Config, packageVersion } from '../config/load.js';
import { listenError, OperatorError } from '../errors.js';
import { logFatal, onStopSignal } from '../lifecycle.js';
import { createLog } from '../log.js';
import { connectRedis, RedisSource } from '../metrics/transport/redis.js';
import type { RecordSource } from '../metrics/transport/transport.js';
import { createHttpApp } from './http.js';
import { LiveFeeds, type LiveOptions } from './live.js';
import { ClusterObserver } from './observer.js';

export interface Aggregator {
  /** http://host:port, as it is bound. */
  readonly url: string;
  /** Sends the last state to live clients and closes everything that was opened, in reverse order. */
  close(): Promise<void>;
}

/** Throws OperatorError LISTEN_FAILED. Closes `source` in the end, and when it throws. */
export async function openAggregator(
  config: Config,
  source: RecordSource,
  redis: LiveOptions['redis'],
): Promise<Aggregator> {
  const { publishIntervalMs, streamIntervalMs } = config.metrics;
  const { host, port } = config.http;
  const observer = new ClusterObserver(source, publishIntervalMs);
  const app = createHttpApp({ observer, version: packageVersion(), maxAgeMs: Math.max(2000, 8 * publishIntervalMs) });
  const server = createServer({ headersTimeout: 10_000, requestTimeout: 10_000 }, app);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(listenError(error, host, port, 'http.port (HTTP_PORT)')));
      server.listen({ host, port }, resolve);
    });
  } catch (error) {
    observer.close();
    await source.close();
    throw error;
  }
  await observer.look();
  const live = new LiveFeeds({ server, observer, streamIntervalMs, redis });
  const { port: boundPort } = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${boundPort}`,
    close: async () => {
      await observer.look();
      await live.close();
      server.closeAllConnections();
      observer.close();
      await source.close();
    },
  };
}

/** The aggregator as a process of its own, beside Redis. */
export async function startAggregator(config: Config): Promise<void> {
  const log = createLog(config.log, { role: 'aggregator', node: config.cluster.node });
  try {
    if (config.redis.url === '') {
      throw new OperatorError(
        'CONFIG_INVALID',
        'an aggregator of its own reads the metrics from Redis: set redis.url (REDIS_URL). Without Redis, `ml-tcp-server start` brings one along',
      );
    }
    const url = maskUrl(config.redis.url);
    const source = new RedisSource(config.redis, config.cluster.name, (state, reason) => {
      if (state === 'back') log.info({ redis: url }, 'redis connected');
      else log.warn({ redis: url, reason }, 'redis lost: serving the last known state');
    });
    const publish = connectRedis(config.redis, () => {});
    const subscribe = connectRedis(config.redis, () => {}, 'subscription');
    const key = `{${config.redis.keyPrefix}:${config.cluster.name}}:socket.io`;
    const aggregator = await openAggregator(config, source, { publish, subscribe, key });
    log.info({ metrics: `${aggregator.url}/metrics`, redis: url, cluster: config.cluster.name }, 'ready');
    process.send?.('ready');
    onStopSignal(
      async (signal) => {
        log.info({ signal }, 'stopping');
        await aggregator.close();
        publish.disconnect();
        subscribe.disconnect();
        process.exit(0);
      },
      () => process.exit(1),
    );
  } catch (error) {
    process.exit(logFatal(log, error));
  }
}
