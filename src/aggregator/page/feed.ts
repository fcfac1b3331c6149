// The aggregator's feed: the history once, then every update, and the state of the connection.

import { io } from 'socket.io-client';
import { type HistoryPoint, historyPoint, historySeconds } from '../history-point.js';
import type { Metrics } from '../metrics.js';
import { RowHistory } from '../row-history.js';
import { rowsOf } from './rows.js';

/** `silent`: connected, but no update has come for a while; `refused`: the server answers, but does not admit us. */
export type Connection = 'connecting' | 'live' | 'stale' | 'silent' | 'gone' | 'refused';

export interface FeedState {
  readonly connection: Connection;
  /** The age of what is shown, in milliseconds. */
  readonly ageMs: number;
  /** Why there is no connection, where that is known. */
  readonly refusal: string | null;
  readonly metrics: Metrics | null;
  readonly points: readonly HistoryPoint[];
  /** The history of each worker, node and model since the page was opened. */
  readonly rows: RowHistory;
}

const silentAfterMs = 3000;
/** Where the live feed is: below the path of the page, which a proxy may have put before ours. */
const socketIo = new URL('socket.io/', location.href);

export class Feed {
  #metrics: Metrics | null = null;
  #receivedAt = 0;
  #points: HistoryPoint[] = [];
  readonly #rows = new RowHistory(historySeconds);
  #isConnected = false;
  #wasConnected = false;
  #refusal: string | null = null;
  readonly #onChange: () => void;

  /** @param onChange something has changed; called often, so do not redraw at once */
  constructor(onChange: () => void) {
    this.#onChange = onChange;
    const socket = io({
      path: socketIo.pathname,
      // Polling works where a proxy does not pass WebSocket on.
      transports: ['websocket', 'polling'],
      tryAllTransports: true,
      reconnectionDelay: 500,
      reconnectionDelayMax: 2000,
    });
    socket.on('connect', () => {
      this.#isConnected = this.#wasConnected = true;
      this.#refusal = null;
      void this.#loadHistory();
      onChange();
    });
    socket.on('connect_error', () => void this.#askWhy());
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
    return {
      connection: this.#connection(sinceMs),
      ageMs,
      refusal: this.#refusal,
      metrics: this.#metrics,
      points: this.#points,
      rows: this.#rows,
    };
  }

  #connection(sinceMs: number): Connection {
    if (!this.#isConnected && this.#refusal !== null) return 'refused';
    if (!this.#isConnected) return this.#wasConnected ? 'gone' : 'connecting';
    if (this.#metrics === null) return 'connecting';
    if (sinceMs > silentAfterMs) return 'silent';
    return this.#metrics.stale ? 'stale' : 'live';
  }

  /** A browser does not say why a WebSocket was refused: the same request over HTTP gets an answer. */
  async #askWhy(): Promise<void> {
    const refusal = await whyRefused();
    this.#refusal = this.#isConnected ? null : refusal;
    this.#onChange();
  }

  #received(metrics: Metrics): void {
    this.#metrics = metrics;
    this.#receivedAt = performance.now();
    const now = Date.parse(metrics.initial_time) + metrics.uptime * 1000;
    if (!metrics.stale) {
      this.#add(historyPoint(metrics, now));
      this.#rows.note(Math.floor(now / 1000), rowsOf(metrics));
    }
    this.#onChange();
  }

  /** One point a second: the last update in it. */
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
      // Live updates are shown all the same.
    }
  }
}

/** Null when nobody answers. A POST has the header Origin, as a WebSocket has, and this one changes nothing. */
async function whyRefused(): Promise<string | null> {
  try {
    const { status: known } = await fetch('metrics', { method: 'HEAD' });
    if (known === 401) location.reload(); // the token has changed: the page asks for it
    const query = '?EIO=4&transport=polling';
    const response = await fetch(`${socketIo.pathname}${query}`, { method: 'POST' });
    const answer = (await response.json().catch(() => null)) as { error?: unknown; code?: unknown } | null;
    if (typeof answer?.error === 'string') return answer.error;
    if (typeof answer?.code === 'number') return 'something in between lets neither WebSocket nor polling pass';
    if (response.status < 502)
      return `${socketIo.pathname} is answered with ${response.status} by something in between: a proxy must pass on all below ${new URL('.', location.href).pathname}`;
    return `a proxy in between answers ${response.status}: it does not reach the aggregator`;
  } catch {
    return null;
  }
}
