// The aggregator live: the same JSON as GET /metrics, pushed over WebSocket and Socket.IO.

import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { Server as SocketIoServer } from 'socket.io';
import { WebSocket, WebSocketServer } from 'ws';
import { digest, type Guard, type Refusal } from './guard.js';
import type { Election } from './leader-election.js';
import type { Metrics } from './metrics.js';
import type { ClusterObserver } from './observer.js';
import { SharedPolling } from './polling.js';

export interface LiveOptions {
  readonly server: Server;
  readonly observer: ClusterObserver;
  readonly streamIntervalMs: number;
  /** The leader's updates are of polls that are at most this old. */
  readonly publishIntervalMs: number;
  /** The aggregators that share a Redis with this one; null when it is alone. */
  readonly election: Election | null;
  readonly guard: Guard;
  readonly corsOrigins: readonly string[];
  /** WebSocket and Socket.IO clients together. */
  readonly maxClients: number;
  /** A WebSocket that does not answer a ping before the next one is considered gone. */
  readonly pingIntervalMs: number;
}

/** A WebSocket with more updates than this waiting does not read, and is closed. */
const maxUpdatesBehind = 8;
const minBufferedBytes = 1 << 20;
/**
 * Clients that were just sent this aggregator's snapshot: the leader's next update may be of an older poll, so it goes
 * to all clients except these.
 */
const begun = 'begun';
/** No message that a client sends here is longer. */
const maxMessageBytes = 4096;

export class LiveFeeds {
  readonly #ws = new WebSocketServer({ noServer: true, maxPayload: maxMessageBytes, perMessageDeflate: false });
  readonly #io: SocketIoServer;
  /** Null when this aggregator is alone. */
  readonly #polling: SharedPolling | null;
  readonly #observer: ClusterObserver;
  readonly #election: Election | null;
  readonly #guard: Guard;
  readonly #maxClients: number;
  readonly #alive = new WeakSet<WebSocket>();
  /** Of Socket.IO clients that are connected. */
  readonly #sessions = new Set<string>();
  /** Connections of Socket.IO clients that may not read the metrics. */
  readonly #refused = new WeakSet<object>();
  readonly #timers: readonly NodeJS.Timeout[];
  #isAlone = false;

  constructor(options: LiveOptions) {
    const {
      server,
      observer,
      streamIntervalMs,
      publishIntervalMs,
      election,
      guard,
      corsOrigins,
      maxClients,
      pingIntervalMs,
    } = options;
    this.#observer = observer;
    this.#election = election;
    this.#guard = guard;
    this.#maxClients = maxClients;
    this.#io = new SocketIoServer(server, {
      serveClient: false,
      maxHttpBufferSize: maxMessageBytes,
      connectTimeout: 5000,
      ...(corsOrigins.length === 0 ? {} : { cors: { origin: [...corsOrigins] } }),
      ...(election === null ? {} : { adapter: election.adapter }),
    });
    this.#polling =
      election &&
      new SharedPolling({
        sessions: election.sessions,
        pingIntervalMs,
        maxMessageBytes,
        streamIntervalMs,
        refusalOf: (request, auth) => this.#refusalOf(request, auth)?.message ?? null,
        send: (client, text) => this.#sendTo(client, text),
        onSilent: () => guard.refusals.silent++,
      });
    this.#guardSocketIo();
    this.#io.on('connection', (socket) => {
      if (election !== null && !election.isLeader) {
        void socket.join(begun);
        setTimeout(() => void socket.leave(begun), publishIntervalMs).unref();
      }
      socket.emit('metrics', this.#observer.metrics());
    });
    server.on('upgrade', (request, socket, head) => {
      if (/^\/metrics(\?|$)/.test(request.url ?? '')) void this.#upgrade(request, socket, head);
    });
    const timers = [setInterval(this.#broadcast, streamIntervalMs), setInterval(this.#ping, pingIntervalMs)];
    this.#timers = election === null ? timers : [...timers, setInterval(this.#countAggregators, 1000)];
  }

  /** The token may also come in the `auth` of a Socket.IO client, which arrives only after the connection. */
  #guardSocketIo(): void {
    this.#io.engine.on('connection', (session: { readonly id: string } & NodeJS.EventEmitter) => {
      this.#sessions.add(session.id);
      session.once('close', () => this.#sessions.delete(session.id));
    });
    this.#io.engine.use(this.#guard.headers);
    this.#io.engine.use(async (request: IncomingMessage, response: ServerResponse, next: () => void) => {
      const sid = /[?&]sid=([\w-]+)/.exec(request.url ?? '')?.[1] ?? null;
      // Polling clients ask many times a second for what they may have already; they rarely send anything.
      const isNew = sid === null || request.method !== 'GET' || !(this.#sessions.has(sid) || this.#polling?.knows(sid));
      const refusal =
        this.#guard.checkOrigin(request) ??
        (isNew ? ((await this.#guard.checkRequest(request)) ?? (sid === null ? this.#checkRoom() : null)) : null);
      if (refusal !== null) {
        response.writeHead(refusal.status, { 'content-type': 'application/json' });
        response.end(JSON.stringify({ error: refusal.message, reason: refusal.reason }));
      } else if (this.#polling !== null && isOfSharedPolling(request)) {
        if (request.headers.upgrade === undefined) await this.#polling.answer(request, response, sid);
        else await this.#polling.upgrade(request, sid ?? '');
      } else next();
    });
    this.#io.use(({ request, handshake, conn }, next) => {
      // One attempt a connection: a client that wants another must connect again.
      const refusal = this.#refused.has(conn) ? null : this.#refusalOf(request, handshake.auth);
      if (refusal === null && !this.#refused.has(conn)) return next();
      this.#refused.add(conn);
      next(new Error(refusal?.message ?? 'refused before'));
      setImmediate(() => conn.close());
    });
  }

  #refusalOf(request: IncomingMessage, auth: unknown): Refusal | null {
    const { token } = (auth ?? {}) as { token?: unknown };
    const isKnown = typeof token === 'string' && this.#guard.knows(digest(token));
    return (isKnown ? null : this.#guard.checkToken(request)) ?? this.#checkRoom();
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => socket.destroy());
    const refusal =
      (await this.#guard.checkRequest(request)) ??
      this.#guard.checkOrigin(request) ??
      this.#guard.checkToken(request) ??
      this.#checkRoom();
    if (refusal !== null) {
      const { status, reason, message } = refusal;
      const body = JSON.stringify({ error: message, reason });
      socket.end(
        `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
        () => socket.destroy(),
      );
      return;
    }
    this.#ws.handleUpgrade(request, socket, head, (client) => {
      this.#alive.add(client);
      client.on('error', () => client.terminate());
      client.on('pong', () => this.#alive.add(client));
      this.#sendTo(client, this.#observer.json());
    });
  }

  /** A client that has connected but is not admitted yet does not count. */
  #checkRoom(): Refusal | null {
    const polling = this.#polling?.clients ?? 0;
    if (this.#ws.clients.size + this.#io.of('/').sockets.size + polling < this.#maxClients) return null;
    return this.#guard.refuse('live_clients', 503, 'too many live clients (http.maxLiveClients)');
  }

  readonly #ping = (): void => {
    this.#polling?.ping();
    for (const client of this.#ws.clients) {
      if (this.#alive.delete(client)) client.ping();
      else this.#drop(client, 'silent');
    }
  };

  async close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#broadcast();
    for (const client of this.#ws.clients) client.close(1001, 'the aggregator stops');
    this.#polling?.close();
    await this.#io.close();
  }

  readonly #broadcast = (): void => {
    const metrics = this.#observer.metrics();
    this.#emit(metrics);
    this.#polling?.broadcast(() => this.#observer.json(), this.#observer.state.now);
    if (this.#ws.clients.size === 0) return;
    const json = this.#observer.json();
    for (const client of this.#ws.clients) this.#sendTo(client, json);
  };

  /**
   * The leader emits to the clients of all aggregators; if every aggregator did, each client would get each update once
   * from each of them. Where the leader cannot be heard, each aggregator emits to its own clients.
   */
  #emit(metrics: Metrics): void {
    const election = this.#election;
    if (election === null || metrics.stale || (election.isLeader && this.#isAlone)) this.#emitHere(metrics);
    else if (election.isLeader) this.#io.except(begun).volatile.emit('metrics', metrics);
    else if (!election.hearsLeader) this.#emitHere(metrics);
  }

  /** Encoding the state of a thousand workers costs the same for no client as for many. */
  #emitHere(metrics: Metrics): void {
    if (this.#io.engine.clientsCount > 0) this.#io.local.volatile.emit('metrics', metrics);
  }

  /** Without other aggregators, updates need not go through Redis. */
  readonly #countAggregators = async (): Promise<void> => {
    const count = await this.#election?.count().catch(() => 2);
    this.#isAlone = (count ?? 1) <= 1;
  };

  #sendTo(client: WebSocket, json: string): void {
    if (client.readyState !== WebSocket.OPEN) return;
    if (client.bufferedAmount > Math.max(minBufferedBytes, maxUpdatesBehind * json.length)) this.#drop(client, 'slow');
    else client.send(json);
  }

  #drop(client: WebSocket, reason: 'silent' | 'slow'): void {
    this.#guard.refusals[reason]++;
    client.terminate();
  }
}

/** Polling, and a WebSocket that follows it, in the current protocol; Socket.IO itself refuses older ones. */
function isOfSharedPolling({ url = '', headers }: IncomingMessage): boolean {
  if (!/[?&]EIO=4(&|$)/.test(url)) return false;
  return headers.upgrade === undefined ? /[?&]transport=polling(&|$)/.test(url) : /[?&]sid=/.test(url);
}
