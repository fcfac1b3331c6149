// Leader election: a key in Redis that its holder renews and that expires by itself when the holder dies. It expires by
// the clock of Redis, which may be set back by hours: so its value changes with each renewal, and a process that sees
// the same value for longer than a lease lives, by its own clock, takes the lease over.

import type { RedisClient } from './redis-connection.js';

/**
 * Returns an empty string when the caller now holds the lease, else the value of the lease.
 * ARGV: holder, life in ms, a value that has outlived its holder, number of this renewal
 */
const renewScript = `local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[3] and string.sub(held, 1, #ARGV[1] + 1) ~= ARGV[1] .. ' ' then return held end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[4], 'PX', ARGV[2])
return ''`;

const releaseScript = `local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1] + 1) == ARGV[1] .. ' ' then return redis.call('DEL', KEYS[1]) end return 0`;

/** The Redis user needs permission for the commands that they run. */
export const leaseScripts = [renewScript, releaseScript];

export class RedisLease {
  readonly #redis: RedisClient;
  readonly #key: string;
  readonly #holder: string;
  readonly #lifeMs: number;
  /** When the lease ends unless it is renewed, by the monotonic clock of this process. */
  #endsAt = Number.NEGATIVE_INFINITY;
  /** Until when it is known that some process holds the lease, by the same clock. */
  #knownUntil = Number.NEGATIVE_INFINITY;
  readonly #timer: NodeJS.Timeout;
  /** The value of another holder, and since when it has been the same, by the monotonic clock. */
  #others = { value: '', since: 0 };
  #renewals = 0;
  #isAsking = false;

  /** @param holder unique among all candidates; @param lifeMs after this, the lease of a dead holder is free */
  constructor(redis: RedisClient, key: string, holder: string, lifeMs: number) {
    this.#redis = redis;
    this.#key = key;
    this.#holder = holder;
    this.#lifeMs = lifeMs;
    this.#timer = setInterval(() => void this.renew(), lifeMs / 4);
  }

  /** Whether this process holds it now. It ends here before it ends in Redis, so that two never hold it at once. */
  get isHeld(): boolean {
    return performance.now() < this.#endsAt;
  }

  /** Whether it is known that some process holds it, this one or another. */
  get isKnown(): boolean {
    return performance.now() < this.#knownUntil;
  }

  /** Takes the lease when it is free, and renews it when this process holds it. */
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

  /** Releases it at once, so that no other candidate has to wait for its end. */
  async release(): Promise<void> {
    clearInterval(this.#timer);
    this.#endsAt = Number.NEGATIVE_INFINITY;
    await Promise.resolve(this.#redis.eval(releaseScript, 1, this.#key, this.#holder)).catch(() => {});
  }
}
