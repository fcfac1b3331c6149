// Any number of aggregators beside one Redis: each reads for itself, one leads. The leader feeds the Socket.IO clients
// of all of them through the adapter, so that each client gets each update once, and compacts the records.

import { randomBytes } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { createAdapter } from '@socket.io/redis-adapter';
import type { Config } from '../config/load.js';
import { clusterKeys, RedisSource } from '../metrics/transport/redis.js';
import { connectRedis, type RedisClient, type RedisStateListener } from '../metrics/transport/redis-connection.js';
import { RedisHealth } from '../metrics/transport/redis-health.js';
import { RedisLease } from '../metrics/transport/redis-lease.js';
import { RedisSeries } from '../metrics/transport/redis-series.js';
import { RedisSubscription } from '../metrics/transport/redis-subscription.js';
import { RedisValues } from '../metrics/transport/redis-values.js';
import { compact } from './compaction.js';
import { lateMs } from './freshness.js';
import type { HistoryStore } from './history.js';
import { type HistoryPoint, historySeconds } from './history-point.js';
import type { ClusterObserver } from './observer.js';
import { sessionLifeMs } from './polling.js';

/** When the leader is killed, another one leads after this time. */
const leaseMs = 1200;

export interface Election {
  readonly source: RedisSource;
  readonly history: HistoryStore;
  /** Of Socket.IO clients that poll. */
  readonly sessions: RedisValues;
  /** Whether this aggregator leads now. */
  readonly isLeader: boolean;
  /** Whether the leader's updates reach the clients of this aggregator: there is a leader, and its messages arrive. */
  readonly hearsLeader: boolean;
  /** Takes what the leader sends to the Socket.IO clients of all aggregators. */
  readonly adapter: ReturnType<typeof createAdapter>;
  /** By connection to Redis: how often it was lost, or refused what it is for. */
  readonly redisFailures: Readonly<Record<string, number>>;
  /** How many aggregators there are. Rejects when Redis does not tell. */
  count(): Promise<number>;
  /** Compacts the records; does nothing when this aggregator does not lead. */
  compactRecords(observer: ClusterObserver): Promise<void>;
  close(): Promise<void>;
}

/**
 * What the adapter publishes with. It ignores failures: the connection's state reports refusals, and an update that is
 * lost is followed by the next one.
 */
class AdapterPublisher extends EventEmitter {
  readonly #redis: RedisClient;

  constructor(redis: RedisClient) {
    super();
    this.#redis = redis;
  }

  publish(channel: string, message: string | Buffer): Promise<number> {
    return this.#redis.publish(channel, message).catch(() => 0);
  }
}

export async function joinElection(
  { redis, cluster, metrics, http }: Pick<Config, 'redis' | 'cluster' | 'metrics' | 'http'>,
  onState: RedisStateListener,
): Promise<Election> {
  const keys = clusterKeys(redis, cluster.name);
  const id = randomBytes(8).toString('hex');
  const health = new RedisHealth(onState, redis.checkIntervalMs + redis.commandTimeoutMs);
  const [records, shared, updates, messages] = ['records', 'shared', 'updates', 'messages'].map((name) =>
    health.of(name),
  ) as [RedisStateListener, RedisStateListener, RedisStateListener, RedisStateListener];
  const commands = connectRedis(redis, records, keys.check);
  const publish = connectRedis(redis, shared, keys.check);
  const broadcast = connectRedis(redis, updates, keys.check);
  const subscribe = new RedisSubscription(redis, messages, broadcast, `${keys.socketIo}-echo#${id}`);
  const source = new RedisSource(commands, keys);
  // With Redis there, the first request is answered with real numbers; without it, no request waits for long.
  const isConnected = Promise.all([commands, publish, broadcast, subscribe].map((client) => client.whenUp()));
  await Promise.race([isConnected, sleep(redis.connectTimeoutMs, undefined, { ref: false })]);
  const lease = new RedisLease(publish, keys.leader, id, leaseMs);
  await lease.renew();
  const series = new RedisSeries(publish, keys.history, historySeconds);
  // A node that publishes less often than that is not silent.
  const retentionMs = Math.max(metrics.nodeRetentionSeconds * 1000, lateMs(metrics.publishIntervalMs));
  return {
    source,
    history: {
      append: (point) => series.append(point.t, JSON.stringify(point)),
      read: async () => (await series.read()).map((json) => JSON.parse(json) as HistoryPoint),
    },
    sessions: new RedisValues(publish, keys.sessions, sessionLifeMs(http.pingIntervalSeconds * 1000)),
    get isLeader() {
      return lease.isHeld;
    },
    get hearsLeader() {
      return subscribe.isUp && lease.isKnown;
    },
    adapter: createAdapter(new AdapterPublisher(broadcast), subscribe, { key: keys.socketIo }),
    redisFailures: health.failures,
    count: () => broadcast.countSubscribers(`${keys.socketIo}-request#/#`),
    compactRecords: async (observer) => {
      if (!lease.isHeld || observer.isStale) return;
      await compact(source, observer.state, observer.silence.silentFor(retentionMs));
    },
    close: async () => {
      await lease.release();
      await source.close();
      publish.disconnect();
      broadcast.disconnect();
      subscribe.disconnect();
    },
  };
}
