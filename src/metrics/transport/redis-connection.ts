// One way to every kind of Redis: a single server, Sentinel, Cluster; with user, password and TLS.
// Nothing ever queues for Redis: a command that cannot be sent at once fails at once, and one that is not answered in
// time fails with its connection.

import { readFileSync } from 'node:fs';
import { Cluster, Redis, type RedisOptions } from 'ioredis';

/** What commands go to; both have the same ones. */
export type RedisClient = Redis | Cluster;

export interface RedisSettings {
  /** redis://[user:password@]host[:port][/db], or rediss:// for TLS. With `nodes` its host and port are not used. */
  readonly url: string;
  /** host:port of Sentinels, when `masterName` is set, or else of nodes of a Redis Cluster; empty: one server. */
  readonly nodes: readonly string[];
  readonly masterName: string;
  readonly sentinelPassword: string;
  /** Certificates to trust, as PEM; empty: those that Node trusts. */
  readonly caFile: string;
  readonly keyPrefix: string;
  readonly connectTimeoutMs: number;
  readonly commandTimeoutMs: number;
}

/**
 * `lost` and `back` each once an outage, `refusing` when it answers but does not take writes; the first connection is
 * `back` as well.
 */
export type RedisStateListener = (state: 'back' | 'lost' | 'refusing', reason: string) => void;

/**
 * A connection that reconnects for ever, with back-off and jitter.
 * @param use `commands` fail at once when they cannot be sent; a `subscription` waits for Redis to come.
 */
export function connectRedis(
  settings: RedisSettings,
  onState: RedisStateListener,
  use: 'commands' | 'subscription' = 'commands',
): RedisClient {
  const redis = create(settings, use);
  if (use === 'subscription') subscribeWhenReady(redis);
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
  redis.on('end', () => change('lost', reason));
  return redis;
}

/**
 * ioredis sends SUBSCRIBE as soon as it is connected, and then asks whether Redis is ready, which a subscriber may not:
 * it connects anew and has forgotten the subscription. So none is sent before Redis is ready.
 */
function subscribeWhenReady(client: RedisClient): void {
  const isReady = new Promise<void>((resolve) => client.once('ready', resolve));
  const { subscribe, psubscribe } = client;
  Object.assign(client, {
    subscribe: (...args: Parameters<typeof subscribe>) => isReady.then(() => subscribe.apply(client, args)),
    psubscribe: (...args: Parameters<typeof psubscribe>) => isReady.then(() => psubscribe.apply(client, args)),
  });
}

function create(settings: RedisSettings, use: 'commands' | 'subscription'): RedisClient {
  const options = { ...serverOptions(settings), ...bounds(settings, use) };
  if (settings.nodes.length === 0) return new Redis(settings.url, options);
  const nodes = settings.nodes.map(hostAndPort);
  if (settings.masterName === '') {
    return new Cluster(nodes, {
      redisOptions: options,
      enableOfflineQueue: use === 'subscription',
      clusterRetryStrategy: backOffMs,
      // Without it, certificates and ACLs of nodes that announce themselves by address are checked as they are.
      dnsLookup: (address, callback) => callback(null, address),
      slotsRefreshTimeout: settings.connectTimeoutMs,
    });
  }
  const { sentinelPassword, masterName } = settings;
  return new Redis({
    ...options,
    sentinels: nodes,
    name: masterName,
    sentinelRetryStrategy: backOffMs,
    ...(sentinelPassword === '' ? {} : { sentinelPassword }),
  });
}

/** 100 ms doubling up to 2 s, each cut by up to half at random, so that a thousand workers do not come back at once. */
const backOffMs = (attempt: number): number =>
  Math.min(50 * 2 ** Math.min(attempt, 6), 2000) * (0.5 + Math.random() / 2);

function bounds(settings: RedisSettings, use: 'commands' | 'subscription'): RedisOptions {
  const common = { connectTimeout: settings.connectTimeoutMs, retryStrategy: backOffMs };
  if (use === 'subscription') return { ...common, maxRetriesPerRequest: null };
  return {
    ...common,
    commandTimeout: settings.commandTimeoutMs,
    socketTimeout: 2 * settings.commandTimeoutMs,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
  };
}

/** What the URL says beside host and port: ioredis reads it itself only for a single server. */
function serverOptions({ url, nodes, caFile }: RedisSettings): RedisOptions {
  const tls = caFile === '' ? {} : { tls: { ca: readFileSync(caFile) } };
  if (url === '' || nodes.length === 0) return tls;
  const { protocol, username, password, pathname } = new URL(url);
  return {
    ...(protocol === 'rediss:' ? { tls: {} } : {}),
    ...tls,
    ...(username === '' ? {} : { username: decodeURIComponent(username) }),
    ...(password === '' ? {} : { password: decodeURIComponent(password) }),
    ...(pathname.length > 1 ? { db: Number(pathname.slice(1)) } : {}),
  };
}

function hostAndPort(node: string): { host: string; port: number } {
  const { hostname, port } = new URL(`redis://${node}`);
  return { host: hostname, port: Number(port || 6379) };
}

/** `error` is Redis's own refusal, not a failure to reach it: out of memory, a read-only replica, no permission. */
export function isRefusal(error: unknown): error is Error {
  return error instanceof Error && error.name === 'ReplyError';
}
