// The joint state of all connections of a process to Redis. Each change is reported once, even when four connections
// are lost with one server.

import type { RedisStateListener } from './redis-link.js';
import type { RedisProblem } from './redis-problems.js';

export class RedisHealth {
  readonly #onState: RedisStateListener;
  /** By connection: what is wrong with it; null when nothing is, undefined before its first report. */
  readonly #problems = new Map<string, RedisProblem | null | undefined>();
  /** What has been reported since all was last well. */
  readonly #told = new Set<string>();
  #wasBack = false;
  readonly #failures: Record<string, number> = {};
  readonly #settleMs: number;
  #settling: NodeJS.Timeout | undefined;

  /**
   * @param settleMs how long all must have been well before this is reported: connections to one server discover one
   *   after the other that it is the wrong one, and recover one after the other
   */
  constructor(onState: RedisStateListener, settleMs = 0) {
    this.#onState = onState;
    this.#settleMs = settleMs;
  }

  /** A listener for one of the connections. Create all listeners before the first connection is up. */
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

  /** By connection: how often it failed after it had been well. */
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
