// Receives the metrics that an aggregator streams; when the connection ends, tries again until it succeeds.

import { WebSocket } from 'ws';
import type { Metrics } from '../../aggregator/metrics.js';

const retryMs = 1000;

export interface FeedListener {
  onMetrics(metrics: Metrics): void;
  /** The aggregator cannot be reached, or the connection has ended. */
  onGone(reason: string): void;
}

export class Feed {
  readonly #url: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #listener: FeedListener;
  #socket: WebSocket | null = null;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** @param url of the aggregator: http://host:port; `token`: as its http.token, or empty */
  constructor(url: string, token: string, listener: FeedListener) {
    this.#headers = token === '' ? {} : { authorization: `Bearer ${token}` };
    this.#url = `${url.replace(/^http/, 'ws').replace(/\/+$/, '')}/metrics`;
    this.#listener = listener;
    this.#connect();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#socket?.terminate();
  }

  #connect(): void {
    const socket = new WebSocket(this.#url, { handshakeTimeout: 5000, headers: this.#headers });
    this.#socket = socket;
    let reason = 'it has closed the connection';
    socket.on('message', (data) => this.#listener.onMetrics(JSON.parse(String(data)) as Metrics));
    socket.on('error', (error) => {
      reason = error.message || (error as NodeJS.ErrnoException).code || error.name;
    });
    socket.on('close', () => {
      if (this.#isClosed) return;
      this.#listener.onGone(reason);
      if (!this.#isClosed) this.#timer = setTimeout(() => this.#connect(), retryMs);
    });
  }
}
