// The last fifteen minutes, one point a second, so that a page that has just been opened shows the past at once.

import { type HistoryPoint, historySeconds } from './history-point.js';

/** Stores points: in Redis for all aggregators, or in this process. One point a second; the last one wins. */
export interface HistoryStore {
  /** Rejects when the point cannot be stored. */
  append(point: HistoryPoint): Promise<void>;
  /** All points, ascending. Rejects when they cannot be read. */
  read(): Promise<readonly HistoryPoint[]>;
}

export class MemoryHistory implements HistoryStore {
  readonly #points: HistoryPoint[] = [];

  async append(point: HistoryPoint): Promise<void> {
    if (this.#points.at(-1)?.t === point.t) this.#points.pop();
    this.#points.push(point);
    while ((this.#points[0] as HistoryPoint).t <= point.t - historySeconds) this.#points.shift();
  }

  async read(): Promise<readonly HistoryPoint[]> {
    return [...this.#points];
  }
}
