// The aggregator live: the same JSON as GET /metrics, pushed over WebSocket and Socket.IO.

import type { Server } from 'node:http';
import { createAdapter } from '@socket.io/redis-adapter';
import { Server as SocketIoServer } from 'socket.io';
import { WebSocket, WebSocketServer } from 'ws';
import type { Redis } from '../metrics/transport/redis.js';
import type { ClusterObserver } from './observer.js';

export interface LiveOptions {
  readonly server: Server;
  readonly observer: ClusterObserver;
  readonly streamIntervalMs: number;
  /** Connections to publish and subscribe with, when aggregators share a Redis. */
  readonly redis: { readonly publish: Redis; readonly subscribe: Redis; readonly key: string } | null;
}

/** A client that has this many bytes waiting is skipped until it has read them. */
const maxBufferedBytes = 1 << 20;

export class LiveFeeds {
  readonly #ws = new WebSocketServer({ noServer: true, maxPayload: 1024 });
  readonly #io: SocketIoServer;
  readonly #observer: ClusterObserver;
  readonly #timer: NodeJS.Timeout;

  constructor({ server, observer, streamIntervalMs, redis }: LiveOptions) {
    this.#observer = observer;
    this.#io = new SocketIoServer(server, {
      serveClient: false,
      maxHttpBufferSize: 1024,
      ...(redis === null ? {} : { adapter: createAdapter(redis.publish, redis.subscribe, { key: redis.key }) }),
    });
    this.#io.on('connection', (socket) => {
      socket.emit('metrics', this.#observer.state.metrics);
    });
    server.on('upgrade', (request, socket, head) => {
      if (new URL(request.url ?? '/', 'http://localhost').pathname !== '/metrics') return;
      this.#ws.handleUpgrade(request, socket, head, (client) => {
        client.on('error', () => client.terminate());
        this.#sendTo(client, JSON.stringify(this.#observer.state.metrics));
      });
    });
    this.#timer = setInterval(this.#broadcast, streamIntervalMs);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#broadcast();
    for (const client of this.#ws.clients) client.close(1001, 'the aggregator stops');
    await this.#io.close();
  }

  readonly #broadcast = (): void => {
    const { metrics } = this.#observer.state;
    // Each aggregator serves its own clients: with the adapter, a plain emit of every aggregator would reach each
    // client once for each of them.
    this.#io.local.volatile.emit('metrics', metrics);
    if (this.#ws.clients.size === 0) return;
    const json = JSON.stringify(metrics);
    for (const client of this.#ws.clients) this.#sendTo(client, json);
  };

  #sendTo(client: WebSocket, json: string): void {
    if (client.readyState === WebSocket.OPEN && client.bufferedAmount < maxBufferedBytes) client.send(json);
  }
}
