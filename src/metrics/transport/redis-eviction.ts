// Whether Redis may evict our records when its memory is full. Processes that still know evicted records restore them;
// an operator should hear of it before it happens again and again.

import type { RedisClient } from './redis-connection.js';

/** Returns an empty string where INFO is not allowed, so that this is no failure of the connection. */
const policyScript = `local info = redis.pcall('INFO', 'memory') return type(info) == 'string' and info or ''`;

/** The policy by which Redis may evict records; null where it may not, or does not tell. @param key one of ours */
export async function evictingPolicy(redis: RedisClient, key: string): Promise<string | null> {
  const policy = policyIn(String(await redis.eval(policyScript, 1, key).catch(() => '')));
  return mayEvict(policy) ? policy : null;
}

/** maxmemory-policy as INFO reports it; empty where it does not. */
export const policyIn = (info: string): string => /maxmemory_policy:(\S+)/.exec(info)?.[1] ?? '';

/** Our records have no time to live, so volatile-* spares them. */
export const mayEvict = (policy: string): boolean => policy.startsWith('allkeys-');

export const evictionAdvice =
  'set maxmemory-policy to noeviction or one of volatile-*, which spare them, or give them a Redis of their own';
