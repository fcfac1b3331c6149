// The way between machines: all records of a cluster are fields of one Redis hash, as JSON.
//   HSET {prefix:cluster}:records  <record id>  <record>
// The braces are a hash tag: on Redis Cluster all keys of one of our clusters share a slot, so that a step that writes
// one record and removes others stays atomic (MULTI).
// Nothing ever queues for Redis: a command that cannot be sent at once fails at once, and one that is not answered in
// time fails with its connection. Records are cumulative, so what was missed is made good by the next one.

import { Redis } from 'ioredis';
import type { MetricsRecord } from '../snapshot.js';
import type { RecordPublisher, RecordSource, RecordUpdate } from './transport.js';

export type { Redis };

export interface RedisSettings {
  /** redis://[user:password@]host[:port][/db], or rediss:// for TLS. */
  readonly url: string;
  readonly keyPrefix: string;
  readonly connectTimeoutMs: number;
  readonly commandTimeoutMs: number;
}

/** `lost` and `back` each once an outage; the first connection is `back` as well. */
export type RedisStateListener = (state: 'back' | 'lost', reason: string) => void;

/**
 * A connection that reconnects for ever, with back-off and jitter.
 * @param use `commands` fail at once when they cannot be sent; a `subscription` waits for Redis to come.
 */
export function connectRedis(
  settings: RedisSettings,
  onState: RedisStateListener,
  use: 'commands' | 'subscription' = 'commands',
): Redis {
  const bounds =
    use === 'subscription'
      ? { maxRetriesPerRequest: null }
      : {
          commandTimeout: settings.commandTimeoutMs,
          socketTimeout: 2 * settings.commandTimeoutMs,
          enableOfflineQueue: false,
          autoResendUnfulfilledCommands: false,
          maxRetriesPerRequest: 0,
        };
  const redis = new Redis(settings.url, {
    connectTimeout: settings.connectTimeoutMs,
    retryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 6), 2000) * (0.5 + Math.random() / 2),
    ...bounds,
  });
  let state: 'back' | 'lost' | null = null;
  let reason = 'connection closed';
  const change = (next: 'back' | 'lost', why: string): void => {
    if (state === next) return;
    state = next;
    onState(next, why);
  };
  redis.on('ready', () => change('back', ''));
  redis.on('error', (error: Error) => {
    reason = error.message || (error as NodeJS.ErrnoException).code || error.name;
  });
  redis.on('close', () => change('lost', reason));
  return redis;
}

export function recordsKey(settings: Pick<RedisSettings, 'keyPrefix'>, cluster: string): string {
  return `{${settings.keyPrefix}:${cluster}}:records`;
}

export class RedisPublisher implements RecordPublisher {
  readonly #redis: Redis;
  readonly #key: string;

  constructor(settings: RedisSettings, cluster: string, onState: RedisStateListener) {
    this.#redis = connectRedis(settings, onState);
    this.#key = recordsKey(settings, cluster);
  }

  async publish({ record, retires }: RecordUpdate): Promise<void> {
    const json = JSON.stringify(record);
    if (retires.length === 0) {
      await this.#redis.hset(this.#key, record.id, json);
      return;
    }
    const replies = await this.#redis
      .multi()
      .hset(this.#key, record.id, json)
      .hdel(this.#key, ...retires)
      .exec();
    const failed = replies?.find(([error]) => error !== null)?.[0];
    if (failed !== undefined && failed !== null) throw failed;
  }

  async close(): Promise<void> {
    this.#redis.disconnect();
  }
}

export class RedisSource implements RecordSource {
  readonly #redis: Redis;
  readonly #key: string;

  constructor(settings: RedisSettings, cluster: string, onState: RedisStateListener) {
    this.#redis = connectRedis(settings, onState);
    this.#key = recordsKey(settings, cluster);
  }

  async read(): Promise<readonly MetricsRecord[]> {
    const fields = await this.#redis.hgetall(this.#key);
    return Object.values(fields).map((json) => JSON.parse(json) as MetricsRecord);
  }

  async close(): Promise<void> {
    this.#redis.disconnect();
  }
}
