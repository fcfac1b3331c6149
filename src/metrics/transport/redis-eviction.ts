// Whether Redis may throw away our records when its memory is full. What it throws away is given back by whoever knows
// it still; an operator should hear of it before it happens again and again.

import type { RedisClient } from './redis-connection.js';

/** Where INFO is not allowed it says nothing, which is no failure of this connection. */
const policyScript = `local info = redis.pcall('INFO', 'memory') return type(info) == 'string' and info or ''`;

/** The policy by which it may; null where it may not, or does not tell. @param key one of ours */
export async function evictingPolicy(redis: RedisClient, key: string): Promise<string | null> {
  const policy = policyIn(String(await redis.eval(policyScript, 1, key).catch(() => '')));
  return mayEvict(policy) ? policy : null;
}

/** maxmemory-policy, as INFO tells it; empty where it does not. */
export const policyIn = (info: string): string => /maxmemory_policy:(\S+)/.exec(info)?.[1] ?? '';

/** Our records have no time to live, so that volatile-* spares them. */
export const mayEvict = (policy: string): boolean => policy.startsWith('allkeys-');

export const evictionAdvice =
  'set maxmemory-policy to noeviction or one of volatile-*, which spare them, or give them a Redis of their own';
