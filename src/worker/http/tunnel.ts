// Requests of HTTP that come over HTTP/2, beside gRPC: each is handed to the server of HTTP/1.1 of this worker through a
// pair of streams in memory, as a proxy would hand it on. So it means the same, and has the same limits.
//
//   HTTP/2 stream ─▶ request of node:http ─▶ in memory ─▶ HttpServer ─▶ in memory ─▶ response ─▶ HTTP/2 stream
//
// A client is as many clients as its requests take at once, up to `mostAtOnce`; more of its requests wait.

import { Agent, type IncomingMessage, type OutgoingHttpHeaders, request } from 'node:http';
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { type Duplex, duplexPair } from 'node:stream';
import type { CallListener } from '../oip/service.js';
import type { HttpConnection } from './connection.js';
import type { HttpServer } from './server.js';

/** As browsers do with a server of HTTP/1.1. */
const mostAtOnce = 6;
const sweepMs = 1000;

/**
 * What belongs to one connection, and not to what is asked (RFC 9113, 8.2.2). Trailers are not handed on, and node:http
 * throws when it shall announce them.
 */
const ofConnection = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

export class HttpTunnel {
  readonly #server: HttpServer;
  readonly #listener: CallListener;
  readonly #address: string;
  readonly #writeTimeoutMs: number;
  readonly #connections = new Set<HttpConnection>();
  readonly #agent: Agent;
  #sweep: NodeJS.Timeout | undefined;

  /** @param writeTimeoutMs how long a client may take nothing of an answer */
  constructor(server: HttpServer, listener: CallListener, address: string, writeTimeoutMs: number) {
    this.#server = server;
    this.#listener = listener;
    this.#address = address;
    this.#writeTimeoutMs = writeTimeoutMs;
    this.#agent = new Agent({ keepAlive: true, maxSockets: mostAtOnce });
    Object.assign(this.#agent, { createConnection: () => this.#connect() });
  }

  /** Answers a request. */
  readonly serve = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void => {
    stream.on('error', () => {});
    stream.setTimeout(this.#writeTimeoutMs, () => stream.close());
    const { ':method': method = 'GET', ':path': path, ':authority': host, ...others } = headers;
    if (method === 'CONNECT' || path === undefined) {
      stream.respond({ ':status': 405, allow: 'GET, HEAD, POST' }, { endStream: true });
      return;
    }
    const asked = request({
      agent: this.#agent,
      method,
      path,
      headers: {
        ...plain(others),
        ...(host === undefined ? {} : { host }),
        // Without a length, node:http would send the body of a GET as if it were the next request.
        ...(stream.endAfterHeaders || 'content-length' in headers ? {} : { 'transfer-encoding': 'chunked' }),
      },
    });
    asked.on('continue', () => {
      if (canRespond(stream)) stream.additionalHeaders({ ':status': 100 });
    });
    asked.on('response', (answer) => respond(stream, answer));
    asked.on('error', () => {
      if (canRespond(stream)) stream.respond({ ':status': 503 }, { endStream: true });
      else stream.close();
    });
    stream.once('close', () => {
      if (!asked.destroyed) asked.destroy();
    });
    stream.pipe(asked);
  };

  /** The client is gone, and all that it asked. */
  close(): void {
    clearInterval(this.#sweep);
    this.#agent.destroy();
  }

  #connect(): Duplex {
    const [ours, theirs] = duplexPair();
    const connection = this.#server.serve(theirs, {
      listener: this.#listener,
      address: this.#address,
      onClose: () => this.#connections.delete(connection),
    });
    this.#connections.add(connection);
    this.#sweep ??= setInterval(this.#checkTimeouts, sweepMs).unref();
    connection.start();
    // What node:http expects of a socket.
    return Object.assign(ours, {
      setTimeout: () => ours,
      setNoDelay: () => ours,
      setKeepAlive: () => ours,
      ref: () => ours,
      unref: () => ours,
    });
  }

  readonly #checkTimeouts = (): void => {
    const now = performance.now();
    for (const connection of this.#connections) connection.checkTimeouts(now);
  };
}

function plain(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => !name.startsWith(':') && !ofConnection.has(name)),
  );
}

/** Also false when the client has closed the stream, and not all that it sent is read. */
const canRespond = ({ headersSent, closed, destroyed }: ServerHttp2Stream): boolean =>
  !(headersSent || closed || destroyed);

function respond(stream: ServerHttp2Stream, answer: IncomingMessage): void {
  if (!canRespond(stream)) {
    answer.resume();
    return;
  }
  stream.respond({ ...plain(answer.headers), ':status': answer.statusCode ?? 500 });
  answer.pipe(stream);
  answer.on('error', () => stream.close());
}
