// Socket.IO clients that begin with polling, as they do by default, where there are several aggregators. A balancer may
// send each of their requests to another aggregator, so no aggregator owns a session: its state lies in Redis, and
// since all aggregators show the same numbers, any of them can answer.
//
//   GET ─▶ a session id    POST connect ─▶ checked, kept in Redis    GET ─▶ the answer to it, and every update
//   WebSocket with that id, at any of them ─▶ "probe" ─▶ "upgrade" ─▶ the session is over; updates go this way
//
// It speaks the part of Engine.IO 4 and Socket.IO 5 that a one-way feed needs:
// https://socket.io/docs/v4/engine-io-protocol, https://socket.io/docs/v4/socket-io-protocol

import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { WebSocket, WebSocketServer } from 'ws';
import type { RedisValues } from '../metrics/transport/redis-values.js';

export interface SharedPollingOptions {
  readonly sessions: RedisValues;
  /** How often a client is asked whether it is there. */
  readonly pingIntervalMs: number;
  /** No message of a client is longer. */
  readonly maxMessageBytes: number;
  /** How often there is an update. */
  readonly streamIntervalMs: number;
  /** Why a client may not read the metrics; null when it may. @param auth its credentials beside the headers */
  refusalOf(request: IncomingMessage, auth: unknown): string | null;
  /** Sends to a client, or drops one that does not read. */
  send(client: WebSocket, text: string): void;
  onSilent(): void;
}

/** The state of a session. */
interface Session {
  readonly isConnected: boolean;
  /** What is still to be sent to the client. */
  readonly reply: string | null;
  /** The client may not read the metrics: it is told so, and the session ends. */
  readonly isRefused?: boolean;
  /** The time of the snapshot that the client was sent last, by the clock that all aggregators share. */
  readonly shownAt?: number;
}

/** An update as it is sent, with the time of its snapshot. */
interface Update {
  readonly text: string;
  readonly polledAt: number;
}

/** How long a client may take to answer a ping. */
const pingTimeoutMs = 20_000;
/** Time that a client has to connect to Socket.IO after its WebSocket is open. */
const connectTimeoutMs = 10_000;
/** How long a session lives that is not connected. */
const unconnectedMs = 5000;
/** A client sends one or two packets at a time. */
const maxPacketsAtOnce = 8;
/** How long an update is held back that is not newer than the client's last one: a clock may have been set. */
const maxHeldBackMs = 2000;
/** After this time without a request here, a session no longer counts as one of this aggregator. */
const recentMs = 30_000;

/** How long a session lives after the last ping. */
export function sessionLifeMs(pingIntervalMs: number): number {
  return 2 * pingIntervalMs + pingTimeoutMs;
}

const separator = '\x1e';
const packet = { open: '0', close: '1', ping: '2', pong: '3', upgrade: '5', nothing: '6' } as const;
const unknownSession = { code: 1, message: 'Session ID unknown' };

export class SharedPolling {
  readonly #options: SharedPollingOptions;
  readonly #wss: WebSocketServer;
  /** When each connected session was last seen here. */
  readonly #seenAt = new Map<string, number>();
  /** When each session was opened here that is not connected yet, the oldest first. */
  readonly #openedAt = new Map<string, number>();
  /** WebSockets that have updates, and what they were sent before; null when that no longer matters. */
  readonly #live = new Map<WebSocket, { readonly shownAt: number; readonly since: number } | null>();
  readonly #alive = new WeakSet<WebSocket>();
  #waiting: ((update: Update | null) => void)[] = [];

  constructor(options: SharedPollingOptions) {
    this.#options = options;
    this.#wss = new WebSocketServer({ noServer: true, maxPayload: options.maxMessageBytes, perMessageDeflate: false });
  }

  /** Whether the session was seen here lately. */
  knows(sid: string): boolean {
    return this.#seenAt.has(sid) || performance.now() - (this.#openedAt.get(sid) ?? -Infinity) < unconnectedMs;
  }

  /** Clients that were admitted: one that has only asked for a session does not count. */
  get clients(): number {
    return this.#seenAt.size + this.#live.size;
  }

  /** Answers a request by polling. */
  async answer(request: IncomingMessage, response: ServerResponse, sid: string | null): Promise<void> {
    try {
      if (sid === null) await this.#open(request, response);
      else if (request.method === 'GET') await this.#poll(response, sid);
      else if (request.method === 'POST') await this.#take(request, response, sid);
      else respondJson(response, 400, { code: 2, message: 'Bad handshake method' });
    } catch {
      if (!response.headersSent)
        respondJson(response, 503, { error: 'Redis, which has the sessions, cannot be reached' });
    }
  }

  /** A client that has polled goes on over WebSocket. */
  async upgrade(request: IncomingMessage, sid: string): Promise<void> {
    const { socket } = request;
    socket.on('error', () => socket.destroy());
    const isKnown = await this.#options.sessions.read(sid).catch(() => null);
    if (isKnown === null) socket.destroy();
    else this.#wss.handleUpgrade(request, socket, Buffer.alloc(0), (client) => this.#serve(client, request, sid));
  }

  /**
   * @param json gives the metrics as they are now
   * @param polledAt the time of the snapshot, by the clock that all aggregators share
   */
  broadcast(json: () => string, polledAt: number): void {
    if (this.#waiting.length === 0 && this.#live.size === 0) return;
    const update = { text: `42["metrics",${json()}]`, polledAt };
    for (const [client, before] of this.#live) {
      if (before !== null && !this.#isDue(update, before.shownAt, before.since)) continue;
      if (before !== null) this.#live.set(client, null);
      this.#options.send(client, update.text);
    }
    for (const resolve of this.#waiting.splice(0)) resolve(update);
  }

  /**
   * Aggregators poll at different times: a client that comes from another one may have been sent a snapshot that is
   * newer than this one, or hardly older.
   */
  #isDue({ polledAt }: Update, shownAt: number, since: number): boolean {
    return polledAt >= shownAt + this.#options.streamIntervalMs / 2 || performance.now() - since > maxHeldBackMs;
  }

  /** Pings every client, and closes those that did not answer the last ping. */
  ping(): void {
    const oldest = performance.now() - recentMs;
    for (const [sid, at] of this.#seenAt) if (at < oldest) this.#seenAt.delete(sid);
    for (const client of this.#wss.clients) {
      if (this.#alive.delete(client)) client.send(packet.ping);
      else {
        this.#options.onSilent();
        client.terminate();
      }
    }
  }

  close(): void {
    for (const resolve of this.#waiting.splice(0)) resolve(null);
    for (const client of this.#wss.clients) client.close(1001, 'the aggregator stops');
  }

  async #open({ method }: IncomingMessage, response: ServerResponse): Promise<void> {
    if (method !== 'GET') return respondJson(response, 400, { code: 2, message: 'Bad handshake method' });
    const { pingIntervalMs: pingInterval, maxMessageBytes: maxPayload } = this.#options;
    const sid = randomBytes(15).toString('base64url');
    await this.#options.sessions.create(sid, toJson({ isConnected: false, reply: null }), unconnectedMs);
    const now = performance.now();
    for (const [other, at] of this.#openedAt) {
      if (now - at < unconnectedMs) break;
      this.#openedAt.delete(other);
    }
    this.#openedAt.set(sid, now);
    const session = { sid, upgrades: ['websocket'], pingInterval, pingTimeout: pingTimeoutMs, maxPayload };
    respond(response, packet.open + JSON.stringify(session));
  }

  async #poll(response: ServerResponse, sid: string): Promise<void> {
    const { sessions, pingIntervalMs } = this.#options;
    const since = performance.now();
    for (;;) {
      const update = await new Promise<Update | null>((resolve) => this.#waiting.push(resolve));
      if (response.destroyed) return; // its reply waits for the next request
      const found = await sessions.read(sid);
      if (found === null) return respondJson(response, 400, unknownSession);
      const session = fromJson(found.value);
      const { isConnected, reply, isRefused = false, shownAt = -Infinity } = session;
      if (isConnected) this.#note(sid);
      const isPingDue = isConnected && found.ageMs >= pingIntervalMs;
      const news = isConnected && update !== null && this.#isDue(update, shownAt, since) ? update : null;
      const packets = [reply, news?.text ?? null, isPingDue ? packet.ping : null].filter((part) => part !== null);
      if (packets.length === 0 && isConnected && update !== null) continue;
      if (isRefused) await this.#forget(sid);
      else if (packets.length > 0) {
        const next = { ...session, reply: null, ...(news === null ? {} : { shownAt: news.polledAt }) };
        // The age of the value tells when the next ping is due.
        const isAsNew = isPingDue || (isConnected && reply !== null);
        await sessions.replace(sid, toJson(next), isAsNew ? undefined : Math.max(1, found.leftMs));
      }
      return respond(response, packets.join(separator) || packet.nothing);
    }
  }

  async #take(request: IncomingMessage, response: ServerResponse, sid: string): Promise<void> {
    const { maxMessageBytes, sessions } = this.#options;
    const body = await bodyOf(request, maxMessageBytes);
    if (body === null) return respondJson(response, 413, { code: 3, message: 'Bad request' });
    const packets = body.split(separator);
    if (packets.length > maxPacketsAtOnce) {
      const message = `a request has at most ${maxPacketsAtOnce} packets`;
      return respondJson(response, 400, { code: 3, message });
    }
    const [first] = packets.flatMap((text, i) => (isConnect(text) ? i : []));
    if (first !== undefined) {
      const found = await sessions.read(sid);
      if (found === null || fromJson(found.value).isRefused) return respondJson(response, 400, unknownSession);
      // One attempt a session: a client that wants another needs a new session.
      const session = this.#connected(packets[first] as string, sid, request);
      const lifeMs = session?.isConnected ? undefined : unconnectedMs;
      if (session !== null && !(await sessions.replace(sid, toJson(session), lifeMs)))
        return respondJson(response, 400, unknownSession);
      if (session?.isConnected) this.#note(sid);
    }
    if (packets.some(isEnd)) await this.#forget(sid);
    response.setHeader('content-type', 'text/html');
    respond(response, 'ok');
  }

  #serve(client: WebSocket, request: IncomingMessage, sid: string): void {
    const overdue = setTimeout(() => {
      if (!this.#live.has(client)) client.terminate();
    }, connectTimeoutMs);
    this.#alive.add(client);
    client.on('error', () => client.terminate());
    client.on('close', () => {
      clearTimeout(overdue);
      this.#live.delete(client);
    });
    // In order, although some of them wait for Redis.
    let turn = Promise.resolve();
    client.on('message', (data) => {
      this.#alive.add(client);
      turn = turn.then(() => this.#heard(client, String(data), request, sid)).catch(() => client.terminate());
    });
  }

  async #heard(client: WebSocket, text: string, request: IncomingMessage, sid: string): Promise<void> {
    if (client.readyState !== WebSocket.OPEN) return;
    if (text === `${packet.ping}probe`) client.send(`${packet.pong}probe`);
    else if (text === packet.upgrade) {
      const found = await this.#options.sessions.read(sid);
      if (found === null) client.terminate();
      else this.#begin(client, fromJson(found.value));
      await this.#forget(sid);
    } else if (isEnd(text)) client.close();
    else {
      const session = this.#connected(text, sid, request);
      if (session !== null) this.#begin(client, session);
      if (session?.isRefused) {
        client.close();
        await this.#forget(sid);
      }
    }
  }

  #begin(client: WebSocket, { isConnected, reply, shownAt }: Session): void {
    if (client.readyState !== WebSocket.OPEN) return;
    if (reply !== null) client.send(reply);
    if (isConnected) this.#live.set(client, shownAt === undefined ? null : { shownAt, since: performance.now() });
  }

  /** The session after this packet; null when the packet does not connect. */
  #connected(text: string, sid: string, request: IncomingMessage): Session | null {
    const [, namespace, json] = /^40(?:(\/[^,]*),)?(.*)$/s.exec(text) ?? [];
    if (json === undefined) return null;
    if (namespace !== undefined)
      return { isConnected: false, reply: `44${namespace},${JSON.stringify({ message: 'Invalid namespace' })}` };
    const message = this.#options.refusalOf(request, parsed(json));
    if (message !== null) return { isConnected: false, isRefused: true, reply: `44${JSON.stringify({ message })}` };
    return { isConnected: true, reply: `40${JSON.stringify({ sid })}` };
  }

  #note(sid: string): void {
    this.#openedAt.delete(sid);
    this.#seenAt.set(sid, performance.now());
  }

  async #forget(sid: string): Promise<void> {
    this.#seenAt.delete(sid);
    this.#openedAt.delete(sid);
    await this.#options.sessions.remove(sid);
  }
}

const isConnect = (text: string): boolean => text.startsWith('40');

/** The client closes the session, or leaves the feed. */
const isEnd = (text: string): boolean => text === packet.close || text.startsWith('41');

const toJson = (session: Session): string => JSON.stringify(session);
const fromJson = (json: string): Session => JSON.parse(json) as Session;

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return null;
  }
}

/** Null when it is longer than allowed. */
async function bodyOf(request: IncomingMessage, maxBytes: number): Promise<string | null> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function respond(response: ServerResponse, text: string): void {
  if (!response.hasHeader('content-type')) response.setHeader('content-type', 'text/plain; charset=UTF-8');
  response.setHeader('cache-control', 'no-store');
  response.end(text);
}

function respondJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' });
  response.end(JSON.stringify(body));
}
