// HTTP/1.1 for the connections of a worker: the paths of the Open Inference Protocol, read by Node's parser. It listens
// nowhere: sockets, with TLS or without, are handed to it, and may hold bytes that were read before.
//
//   socket ─▶ node:http ─▶ HttpRequest: head, then body ─▶ Exchange ─▶ ClientCalls ─▶ … ─▶ Exchange ─▶ ServerResponse

import { createServer, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { connectionOn, HttpConnection } from './connection.js';
import type { HttpClientOptions, HttpContext } from './context.js';
import { JsonCodec } from './json/codec.js';
import { malformed } from './refusal.js';
import { HttpRequest } from './request.js';

/** The head of a request that is larger is refused with 431. */
const statusesOfParser: Readonly<Record<string, readonly [number, string]>> = {
  HPE_HEADER_OVERFLOW: [431, 'the head of the request is larger than server.maxHeaderKb'],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: [413, 'the extensions of a chunk are too large'],
};

export class HttpServer {
  readonly #context: HttpContext;
  readonly #codec = new JsonCodec();
  readonly #server: Server<typeof HttpRequest>;

  constructor(context: HttpContext) {
    this.#context = context;
    this.#server = createServer<typeof HttpRequest>({
      IncomingMessage: HttpRequest,
      maxHeaderSize: context.limits.maxHeaderBytes,
      insecureHTTPParser: false, // whatever the command line says
      requireHostHeader: false, // it is checked with the rest of the head
      // Times are checked by `checkTimeouts`, with those of the other protocols.
      headersTimeout: 0,
      requestTimeout: 0,
      keepAliveTimeout: 0,
    });
    // A client that has closed its side after a request is answered: not in the types.
    Object.assign(this.#server, { httpAllowHalfOpen: true });
    const begin = (request: HttpRequest, response: ServerResponse, expects: '100-continue' | 'other' | null): void =>
      connectionOn(request.socket)?.begin(request, response, expects);
    this.#server.on('request', (request, response) => begin(request, response, null));
    this.#server.on('checkContinue', (request, response) => begin(request, response, '100-continue'));
    this.#server.on('checkExpectation', (request, response) => begin(request, response, 'other'));
    this.#server.on('clientError', (error: NodeJS.ErrnoException, socket) => onBroken(error, socket));
    this.#server.on('connect', (_request, socket) => {
      const refusal = malformed(405, 'this server is no proxy: CONNECT is not served', ['Allow', 'GET, HEAD, POST']);
      connectionOn(socket)?.broken(refusal);
    });
  }

  /** Serves a client on a socket; it begins to read when `start` is called. */
  serve(socket: Duplex, options: HttpClientOptions): HttpConnection {
    return new HttpConnection(socket, this.#server, this.#codec, this.#context, options);
  }

  /** Ends what is shared. To be called when all connections have ended. */
  close(): Promise<void> {
    return this.#codec.close();
  }
}

function onBroken({ code = '', message }: NodeJS.ErrnoException, socket: Duplex): void {
  const connection = connectionOn(socket);
  if (connection === null || !code.startsWith('HPE_')) {
    socket.destroy();
    return;
  }
  const [status, text] = statusesOfParser[code] ?? [400, `this is no request of HTTP/1.1: ${message}`];
  connection.broken(malformed(status, text));
}
