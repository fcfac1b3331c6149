// When requests expire that have a time limit of their own. Thousands of them share a few timers: one expires up to
// 1 ms, or 1/32 of its time, too late, never too early.

/** Something that expires. */
export interface Expiring {
  expire(): void;
}

/** The others that expire at the same time. */
export interface Expiry {
  remove(item: Expiring): void;
}

const finestMs = 1;
const steps = 32;

class Bucket implements Expiry {
  readonly items = new Set<Expiring>();
  readonly at: number;

  constructor(at: number) {
    this.at = at;
  }

  remove(item: Expiring): void {
    this.items.delete(item);
  }
}

export class Deadlines {
  readonly #buckets = new Map<number, Bucket>();
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;

  /**
   * Has `item` expire at this time of the monotonic clock.
   * @param spanMs how long that is from its beginning: how coarse the time may be
   */
  add(item: Expiring, at: number, spanMs: number): Expiry {
    const step = Math.max(finestMs, 2 ** Math.floor(Math.log2(spanMs / steps)));
    const time = Math.ceil(at / step) * step;
    let bucket = this.#buckets.get(time);
    if (bucket === undefined) {
      bucket = new Bucket(time);
      this.#buckets.set(time, bucket);
      if (time < this.#timerAt) this.#wait(time);
    }
    bucket.items.add(item);
    return bucket;
  }

  #wait(at: number): void {
    clearTimeout(this.#timer);
    this.#timerAt = at;
    // Timers that are longer than this would fire at once.
    const ms = Math.min(2 ** 31 - 1, Math.max(0, Math.ceil(at - performance.now())));
    this.#timer = setTimeout(this.#tick, ms);
    this.#timer.unref();
  }

  readonly #tick = (): void => {
    const now = performance.now();
    let next = Number.POSITIVE_INFINITY;
    for (const [at, bucket] of this.#buckets) {
      if (at > now) {
        if (at < next) next = at;
        continue;
      }
      this.#buckets.delete(at);
      for (const item of bucket.items) item.expire();
    }
    this.#timerAt = Number.POSITIVE_INFINITY;
    if (next < Number.POSITIVE_INFINITY) this.#wait(next);
  };
}
