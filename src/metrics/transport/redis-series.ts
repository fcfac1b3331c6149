// A bounded series of values, one per second, shared by all its readers: a sorted set with the second as the score.

import type { RedisClient } from './redis-connection.js';

/** Removes later values, written before the clock was set back. ARGV: second, value, oldest second to keep */
const appendScript = `redis.call('ZREMRANGEBYSCORE', KEYS[1], ARGV[1], '+inf')
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[1] - ARGV[3] + 1)
return 1`;

/** The Redis user needs permission for the commands that it runs. */
export const seriesScripts = [appendScript];

export class RedisSeries {
  readonly #redis: RedisClient;
  readonly #key: string;
  readonly #seconds: number;

  /** @param seconds how many seconds are kept */
  constructor(redis: RedisClient, key: string, seconds: number) {
    this.#redis = redis;
    this.#key = key;
    this.#seconds = seconds;
  }

  /** Sets the value of a second. */
  async append(second: number, value: string): Promise<void> {
    await this.#redis.eval(appendScript, 1, this.#key, second, value, second - this.#seconds + 1);
  }

  /** All values, ascending. */
  async read(): Promise<readonly string[]> {
    return this.#redis.zrange(this.#key, 0, -1);
  }
}
