// Named values that all processes that share the Redis read and write, and that expire by themselves.

import type { RedisClient } from './redis-connection.js';

export class RedisValues {
  readonly #redis: RedisClient;
  readonly #prefix: string;
  readonly #lifeMs: number;

  /** @param lifeMs how long a value lives after it was last written */
  constructor(redis: RedisClient, prefix: string, lifeMs: number) {
    this.#redis = redis;
    this.#prefix = prefix;
    this.#lifeMs = lifeMs;
  }

  /** Null when there is none. `ageMs`: since it was last written with the full life, by the clock of Redis. */
  async read(
    name: string,
  ): Promise<{ readonly value: string; readonly ageMs: number; readonly leftMs: number } | null> {
    const key = this.#key(name);
    const [value, leftMs] = await Promise.all([this.#redis.call('get', key), this.#redis.call('pttl', key)]);
    if (value === null) return null;
    return { value: String(value), ageMs: Math.max(0, this.#lifeMs - Number(leftMs)), leftMs: Number(leftMs) };
  }

  async create(name: string, value: string, lifeMs = this.#lifeMs): Promise<void> {
    await this.#redis.call('set', this.#key(name), value, 'PX', lifeMs);
  }

  /** @returns false when the value no longer exists; then nothing is written. */
  async replace(name: string, value: string, lifeMs = this.#lifeMs): Promise<boolean> {
    return (await this.#redis.call('set', this.#key(name), value, 'PX', lifeMs, 'XX')) !== null;
  }

  async remove(name: string): Promise<void> {
    await this.#redis.call('del', this.#key(name));
  }

  #key(name: string): string {
    return `${this.#prefix}:${name}`;
  }
}
