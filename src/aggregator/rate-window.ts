// Rates from cumulative totals: the growth over the last five seconds, of any number of counters.

const windowMs = 5000;

interface Sample {
  readonly at: number;
  readonly total: number;
}

export class RateWindow {
  readonly #samples = new Map<string, Sample[]>();

  /** Notes that `key` stood at `total` at `now` (ms) and returns its growth a second over the window. */
  rate(key: string, total: number, now: number): number {
    const samples = this.#samples.get(key) ?? [];
    this.#samples.set(key, samples);
    while (samples.length > 1 && (samples[1] as Sample).at <= now - windowMs) samples.shift();
    samples.push({ at: now, total });
    const oldest = samples[0] as Sample;
    return now > oldest.at ? Math.max(0, ((total - oldest.total) * 1000) / (now - oldest.at)) : 0;
  }

  /** Drops the counters that nobody has noted since `now`. */
  forgetBefore(now: number): void {
    for (const [key, samples] of this.#samples) if ((samples.at(-1) as Sample).at < now) this.#samples.delete(key);
  }
}
