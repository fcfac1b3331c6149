// One of many leads: a key in Redis that its holder renews and that ends by itself when the holder does. Its end is by
// the clock of Redis, which may be set back by hours: so its value changes with each renewal, and who sees the same
// value for longer than a lease lives, by his own clock, takes it over.

import type { RedisClient } from './redis-connection.js';

/**
 * Returns an empty text when it is the asker's now, else its value.
 * ARGV: holder, life in ms, a value that has outlived its holder, number of this renewal
 */
const renewScript = `local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[3] and string.sub(held, 1, #ARGV[1] + 1) ~= ARGV[1] .. ' ' then return held end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[4], 'PX', ARGV[2])
return ''`;

const releaseScript = `local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1] + 1) == ARGV[1] .. ' ' then return redis.call('DEL', KEYS[1]) end return 0`;

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
  /** What another holds, and since when it has been the same, by the monotonic clock. */
  #others = { value: '', since: 0 };
  #renewals = 0;
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
      const { value, since } = this.#others;
      const outlived = askedAt - since > 1.5 * this.#lifeMs ? value : '';
      const args = [this.#holder, this.#lifeMs, outlived, ++this.#renewals];
      const answer = String(await this.#redis.eval(renewScript, 1, this.#key, ...args));
      this.#endsAt = answer === '' ? askedAt + this.#lifeMs : Number.NEGATIVE_INFINITY;
      if (answer !== value) this.#others = { value: answer, since: askedAt };
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
