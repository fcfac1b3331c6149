// What the aggregator says, as it says it: the history once, then every update; and whether it says anything at all.

import { io } from 'socket.io-client';
import { type HistoryPoint, historyPoint, historySeconds } from '../history-point.js';
import type { Metrics } from '../metrics.js';

/** `silent`: connected, and no update has come for a while. */
export type Connection = 'connecting' | 'live' | 'stale' | 'silent' | 'gone';

export interface FeedState {
  readonly connection: Connection;
  /** How old what is shown is, in milliseconds. */
  readonly ageMs: number;
  readonly metrics: Metrics | null;
  readonly points: readonly HistoryPoint[];
}

const silentAfterMs = 3000;

export class Feed {
  #metrics: Metrics | null = null;
  #receivedAt = 0;
  #points: HistoryPoint[] = [];
  #isConnected = false;
  #wasConnected = false;
  readonly #onChange: () => void;

  /** @param onChange something is new; asked often, so better not answered at once */
  constructor(onChange: () => void) {
    this.#onChange = onChange;
    const socket = io({ transports: ['websocket'], reconnectionDelay: 500, reconnectionDelayMax: 2000 });
    socket.on('connect', () => {
      this.#isConnected = this.#wasConnected = true;
      void this.#loadHistory();
      onChange();
    });
    socket.on('disconnect', () => {
      this.#isConnected = false;
      onChange();
    });
    socket.on('metrics', (metrics: Metrics) => this.#received(metrics));
    setInterval(onChange, 1000); // ages grow
  }

  get state(): FeedState {
    const sinceMs = this.#metrics === null ? 0 : performance.now() - this.#receivedAt;
    const ageMs = sinceMs + (this.#metrics?.age_ms ?? 0);
    return { connection: this.#connection(sinceMs), ageMs, metrics: this.#metrics, points: this.#points };
  }

  #connection(sinceMs: number): Connection {
    if (!this.#isConnected) return this.#wasConnected ? 'gone' : 'connecting';
    if (this.#metrics === null) return 'connecting';
    if (sinceMs > silentAfterMs) return 'silent';
    return this.#metrics.stale ? 'stale' : 'live';
  }

  #received(metrics: Metrics): void {
    this.#metrics = metrics;
    this.#receivedAt = performance.now();
    const now = Date.parse(metrics.initial_time) + metrics.uptime * 1000;
    if (!metrics.stale) this.#add(historyPoint(metrics, now));
    this.#onChange();
  }

  /** A point a second, the last one of it. */
  #add(point: HistoryPoint): void {
    const last = this.#points.at(-1);
    if (last !== undefined && last.t > point.t) return;
    if (last?.t === point.t) this.#points.pop();
    this.#points.push(point);
    while ((this.#points[0] as HistoryPoint).t <= point.t - historySeconds) this.#points.shift();
  }

  async #loadHistory(): Promise<void> {
    try {
      const response = await fetch('api/history');
      const { points } = (await response.json()) as { points: readonly HistoryPoint[] };
      const last = points.at(-1)?.t ?? 0;
      this.#points = [...points, ...this.#points.filter(({ t }) => t > last)];
      this.#onChange();
    } catch {
      // What comes live is shown all the same.
    }
  }
}
