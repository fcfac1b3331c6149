/** Estimates how long a repeated task takes from its past times: Jacobson's estimator (RFC 6298). */
export class TimeEstimate {
  #meanMs = 0;
  #deviationMs = 0;

  add(ms: number): void {
    const error = ms - this.#meanMs;
    this.#meanMs += error / 8;
    this.#deviationMs += (Math.abs(error) - this.#deviationMs) / 4;
  }

  /** An upper estimate: the task will rarely take longer. */
  get highMs(): number {
    return this.#meanMs + 4 * this.#deviationMs;
  }
}
