// What the processes that use Redis log about it.

import { describeRedis } from './config/describe.js';
import { type Config, usesRedis } from './config/load.js';
import { messageOf, OperatorError } from './errors.js';
import { tlsFor } from './metrics/transport/redis-address.js';
import { evictionAdvice } from './metrics/transport/redis-eviction.js';
import { RedisHealth } from './metrics/transport/redis-health.js';
import type { RedisStateListener } from './metrics/transport/redis-link.js';
import type { Log } from './process/log.js';

export interface RedisMessages {
  readonly lost: string;
  readonly refusing: string;
}

/** Logs a line for each change: what is wrong, in the server's words, and how to fix it. */
export function logRedis(log: Log, config: Pick<Config, 'redis'>, messages: RedisMessages): RedisStateListener {
  const redis = describeRedis(config.redis);
  const health = new RedisHealth((state, problem) => {
    if (state === 'back' || problem === null) return log.info({ redis }, 'redis connected');
    const { reason, advice } = problem;
    log.warn({ redis, reason, ...(advice === '' ? {} : { advice }) }, messages[state]);
  });
  return health.of('redis');
}

/** Warns when Redis may evict our records. */
export async function warnOfEviction(
  log: Log,
  { redis }: Pick<Config, 'redis'>,
  from: { evictingPolicy(): Promise<string | null> },
): Promise<void> {
  const policy = await from.evictingPolicy();
  if (policy !== null)
    log.warn(
      { redis: describeRedis(redis), policy, advice: evictionAdvice },
      'redis may evict metrics when its memory is full',
    );
}

/** Throws OperatorError CONFIG_INVALID when the files of redis.caFile, certFile or keyFile cannot be used. */
export function checkRedisFiles(config: Pick<Config, 'redis'>): void {
  if (!usesRedis(config)) return;
  try {
    tlsFor(config.redis, 'server');
    if (config.redis.masterName !== '') tlsFor(config.redis, 'sentinel');
  } catch (error) {
    throw new OperatorError('CONFIG_INVALID', messageOf(error));
  }
}
