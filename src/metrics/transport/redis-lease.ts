// One of many leads: a key in Redis that its holder renews and that ends by itself when the holder does.

import type { RedisClient } from './redis-connection.js';

const renewScript = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') then return 1 end
return 0`;

const releaseScript = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`;

/** What they run is what the user of Redis must be allowed. */
export const leaseScripts = [renewScript, releaseScript];

export class RedisLease {
  readonly #redis: RedisClient;
  readonly #key: string;
  readonly #holder: string;
  readonly #lifeMs: number;
  /** By the monotonic clock of this process, when the lease ends unless it is renewed. */
  #endsAt = Number.NEGATIVE_INFINITY;
  /** By the same clock, until when it is known that somebody holds it. */
  #knownUntil = Number.NEGATIVE_INFINITY;
  readonly #timer: NodeJS.Timeout;
  #isAsking = false;

  /** @param holder unique among all who want it; @param lifeMs after this, the lease of one that has died is free */
  constructor(redis: RedisClient, key: string, holder: string, lifeMs: number) {
    this.#redis = redis;
    this.#key = key;
    this.#holder = holder;
    this.#lifeMs = lifeMs;
    this.#timer = setInterval(() => void this.renew(), lifeMs / 4);
  }

  /** Whether it is held now. It ends here before it ends in Redis, so that two never hold it at once. */
  get isHeld(): boolean {
    return performance.now() < this.#endsAt;
  }

  /** Whether somebody holds it, this one or another. */
  get isKnown(): boolean {
    return performance.now() < this.#knownUntil;
  }

  /** Takes the lease when it is free and keeps it when it is held. */
  async renew(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    const askedAt = performance.now();
    try {
      const isMine = (await this.#redis.eval(renewScript, 1, this.#key, this.#holder, this.#lifeMs)) === 1;
      this.#endsAt = isMine ? askedAt + this.#lifeMs : Number.NEGATIVE_INFINITY;
      this.#knownUntil = askedAt + this.#lifeMs;
    } catch {
      // It ends by itself when it cannot be renewed in time.
    } finally {
      this.#isAsking = false;
    }
  }

  /** Gives it up at once, so that nobody has to wait for its end. */
  async release(): Promise<void> {
    clearInterval(this.#timer);
    this.#endsAt = Number.NEGATIVE_INFINITY;
    await Promise.resolve(this.#redis.eval(releaseScript, 1, this.#key, this.#holder)).catch(() => {});
  }
}
