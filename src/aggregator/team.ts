// Any number of aggregators beside one Redis: each reads for itself, one leads. The leader feeds the Socket.IO clients
// of all of them through the adapter, so that each client has each update once, and takes care of the records.

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config/load.js';
import { clusterKeys, RedisSource } from '../metrics/transport/redis.js';
import {
  connectRedis,
  isRefusal,
  type RedisClient,
  type RedisStateListener,
} from '../metrics/transport/redis-connection.js';
import { RedisLease } from '../metrics/transport/redis-lease.js';
import { RedisSeries } from '../metrics/transport/redis-series.js';
import { tidy } from './caretaker.js';
import type { HistoryStore } from './history.js';
import { type HistoryPoint, historySeconds } from './history-point.js';
import type { ClusterObserver } from './observer.js';

/** When the leader is killed, another one leads after this time. */
const leaseMs = 1200;

export interface Team {
  readonly source: RedisSource;
  readonly history: HistoryStore;
  /** Whether this aggregator leads now. */
  readonly isLeader: boolean;
  /** Connections for the Socket.IO adapter, and the first part of its channels. */
  readonly adapter: { readonly publish: RedisClient; readonly subscribe: RedisClient; readonly key: string };
  /** Does what the leader does for all; nothing when this one does not lead. */
  care(observer: ClusterObserver): Promise<void>;
  close(): Promise<void>;
}

/** The adapter does not look what comes of what it asks for: here a refusal is told, and an update that is lost is not. */
function forAdapter(client: RedisClient, onRefused: (reason: string) => void): RedisClient {
  const { publish, subscribe, psubscribe } = client;
  const told = (error: unknown): number => {
    if (isRefusal(error)) onRefused(error.message);
    return 0;
  };
  return Object.assign(client, {
    publish: (...args: Parameters<typeof publish>) => publish.apply(client, args).catch(told),
    subscribe: (...args: Parameters<typeof subscribe>) => subscribe.apply(client, args).catch(told),
    psubscribe: (...args: Parameters<typeof psubscribe>) => psubscribe.apply(client, args).catch(told),
  });
}

export async function joinTeam({ redis, cluster, metrics }: Config, onState: RedisStateListener): Promise<Team> {
  const keys = clusterKeys(redis, cluster.name);
  const commands = connectRedis(redis, onState);
  const publish = connectRedis(redis, () => {});
  const onRefused = (reason: string): void => onState('refusing', reason);
  const broadcast = forAdapter(
    connectRedis(redis, () => {}),
    onRefused,
  );
  const subscribe = forAdapter(
    connectRedis(redis, () => {}, 'subscription'),
    onRefused,
  );
  const source = new RedisSource(commands, keys);
  // With Redis there, the first who asks is answered with what there is; without it, nobody waits for long.
  const isConnected = Promise.all([commands, publish].map((client) => once(client, 'ready')));
  await Promise.race([isConnected, sleep(redis.connectTimeoutMs, undefined, { ref: false })]).catch(() => {});
  const lease = new RedisLease(publish, keys.leader, randomBytes(8).toString('hex'), leaseMs);
  const series = new RedisSeries(publish, keys.history, historySeconds);
  return {
    source,
    history: {
      append: (point) => series.append(point.t, JSON.stringify(point)),
      read: async () => (await series.read()).map((json) => JSON.parse(json) as HistoryPoint),
    },
    get isLeader() {
      return lease.isHeld;
    },
    adapter: { publish: broadcast, subscribe, key: keys.socketIo },
    care: async (observer) => {
      if (lease.isHeld && !observer.isStale) await tidy(source, observer.state, metrics.nodeRetentionSeconds * 1000);
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
