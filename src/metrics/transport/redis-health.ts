// How all connections of a process to Redis are together, told once for each change: four connections that are lost
// with one server are one piece of news.

import type { RedisStateListener } from './redis-link.js';
import type { RedisProblem } from './redis-problems.js';

export class RedisHealth {
  readonly #onState: RedisStateListener;
  /** By connection: what is wrong with it; null when nothing is. */
  readonly #problems = new Map<string, RedisProblem | null | undefined>();
  /** What has been told since all was well. */
  readonly #told = new Set<string>();
  #wasBack = false;
  readonly #failures: Record<string, number> = {};
  readonly #settleMs: number;
  #settling: NodeJS.Timeout | undefined;

  /**
   * @param settleMs time that all must have been well before it is told: connections that lead to one server find out
   *   one after the other that it is the wrong one, and are well one after the other
   */
  constructor(onState: RedisStateListener, settleMs = 0) {
    this.#onState = onState;
    this.#settleMs = settleMs;
  }

  /** A listener for one of the connections. All of them are to be made before the first is connected. */
  of(connection: string): RedisStateListener {
    this.#problems.set(connection, undefined);
    this.#failures[connection] = 0;
    return (state, problem) => {
      if (problem !== null && this.#problems.get(connection) === null) this.#failed(connection);
      this.#problems.set(connection, problem);
      clearTimeout(this.#settling);
      if (state === 'back' || problem === null) return this.#settle();
      const key = `${state} ${problem.code}`;
      if (this.#told.has(key)) return;
      this.#told.add(key);
      this.#onState(state, problem);
    };
  }

  /** By connection: how often it was well and then was not. */
  get failures(): Readonly<Record<string, number>> {
    return this.#failures;
  }

  #failed(connection: string): void {
    this.#failures[connection] = (this.#failures[connection] ?? 0) + 1;
  }

  #settle(): void {
    const isNews = this.#told.size > 0 || !this.#wasBack;
    if (!isNews || [...this.#problems.values()].some((problem) => problem !== null)) return;
    if (!this.#wasBack || this.#settleMs === 0) this.#back();
    else this.#settling = setTimeout(() => this.#back(), this.#settleMs).unref();
  }

  #back(): void {
    this.#told.clear();
    this.#wasBack = true;
    this.#onState('back', null);
  }
}
