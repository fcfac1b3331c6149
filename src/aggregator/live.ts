// The aggregator live: the same JSON as GET /metrics, pushed over WebSocket and Socket.IO.

import type { Server } from 'node:http';
import { createAdapter } from '@socket.io/redis-adapter';
import { Server as SocketIoServer } from 'socket.io';
import { WebSocket, WebSocketServer } from 'ws';
import type { Metrics } from './metrics.js';
import type { ClusterObserver } from './observer.js';
import type { Team } from './team.js';

export interface LiveOptions {
  readonly server: Server;
  readonly observer: ClusterObserver;
  readonly streamIntervalMs: number;
  /** The aggregators that share a Redis with this one; null when it is alone. */
  readonly team: Team | null;
}

/** A client that has this many bytes waiting is skipped until it has read them. */
const maxBufferedBytes = 1 << 20;

export class LiveFeeds {
  readonly #ws = new WebSocketServer({ noServer: true, maxPayload: 1024 });
  readonly #io: SocketIoServer;
  readonly #observer: ClusterObserver;
  readonly #team: Team | null;
  readonly #timer: NodeJS.Timeout;

  constructor({ server, observer, streamIntervalMs, team }: LiveOptions) {
    this.#observer = observer;
    this.#team = team;
    this.#io = new SocketIoServer(server, {
      serveClient: false,
      maxHttpBufferSize: 1024,
      ...(team === null ? {} : { adapter: createAdapter(team.adapter.publish, team.adapter.subscribe, team.adapter) }),
    });
    this.#io.on('connection', (socket) => {
      socket.emit('metrics', this.#observer.metrics());
    });
    server.on('upgrade', (request, socket, head) => {
      if (new URL(request.url ?? '/', 'http://localhost').pathname !== '/metrics') return;
      this.#ws.handleUpgrade(request, socket, head, (client) => {
        client.on('error', () => client.terminate());
        this.#sendTo(client, JSON.stringify(this.#observer.metrics()));
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
    const metrics = this.#observer.metrics();
    this.#emit(metrics);
    if (this.#ws.clients.size === 0) return;
    const json = JSON.stringify(metrics);
    for (const client of this.#ws.clients) this.#sendTo(client, json);
  };

  /**
   * The leader's emit reaches the clients of all aggregators; if all emitted, each client would have each update once
   * for each of them. Without Redis there is no leader: then each tells its own clients how old its state is.
   */
  #emit(metrics: Metrics): void {
    if (this.#team === null || metrics.stale) this.#io.local.volatile.emit('metrics', metrics);
    else if (this.#team.isLeader) this.#io.volatile.emit('metrics', metrics);
  }

  #sendTo(client: WebSocket, json: string): void {
    if (client.readyState === WebSocket.OPEN && client.bufferedAmount < maxBufferedBytes) client.send(json);
  }
}
