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
  readonly #timers: readonly NodeJS.Timeout[];
  #isAlone = false;

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
        this.#sendTo(client, this.#observer.json());
      });
    });
    const broadcasting = setInterval(this.#broadcast, streamIntervalMs);
    this.#timers = team === null ? [broadcasting] : [broadcasting, setInterval(this.#countTeam, 1000)];
  }

  async close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#broadcast();
    for (const client of this.#ws.clients) client.close(1001, 'the aggregator stops');
    await this.#io.close();
  }

  readonly #broadcast = (): void => {
    const metrics = this.#observer.metrics();
    this.#emit(metrics);
    if (this.#ws.clients.size === 0) return;
    const json = this.#observer.json();
    for (const client of this.#ws.clients) this.#sendTo(client, json);
  };

  /**
   * The leader's emit reaches the clients of all aggregators; if all emitted, each client would have each update once
   * for each of them. Without Redis there is no leader: then each tells its own clients how old its state is.
   */
  #emit(metrics: Metrics): void {
    if (this.#team === null || metrics.stale || (this.#team.isLeader && this.#isAlone)) this.#emitHere(metrics);
    else if (this.#team.isLeader) this.#io.volatile.emit('metrics', metrics);
  }

  /** To encode the state of a thousand workers for nobody costs as much as for many. */
  #emitHere(metrics: Metrics): void {
    if (this.#io.engine.clientsCount > 0) this.#io.local.volatile.emit('metrics', metrics);
  }

  /** Without other aggregators there is nobody to send updates to through Redis. */
  readonly #countTeam = async (): Promise<void> => {
    const count = await this.#io
      .of('/')
      .adapter.serverCount()
      .catch(() => 2);
    this.#isAlone = count <= 1;
  };

  #sendTo(client: WebSocket, json: string): void {
    if (client.readyState === WebSocket.OPEN && client.bufferedAmount < maxBufferedBytes) client.send(json);
  }
}
