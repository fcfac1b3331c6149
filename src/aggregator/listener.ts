// The HTTP server of an aggregator: with TLS or without, and with time limits for slow and silent clients.

import { createServer, type IncomingMessage, type RequestListener, type Server, STATUS_CODES } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { httpSettings } from '../config/addresses.js';
import type { HttpSettings } from '../config/schema/http.js';
import { listenError } from '../errors.js';
import { CertificateWatch, readCertificates, usesTls } from '../net/certificates.js';
import type { Log } from '../process/log.js';
import type { Refusals } from './refusals.js';

export interface HttpListener {
  readonly server: Server;
  /** Closes all open connections at once. */
  close(): void;
}

const maxHeaderBytes = 16 * 1024;
/** How often the time limits are checked. */
const checkIntervalMs = 500;

/** Throws OperatorError LISTEN_FAILED, or CONFIG_INVALID when the certificates cannot be used. */
export async function openListener(
  http: HttpSettings,
  app: RequestListener,
  refusals: Refusals,
  log: Log,
): Promise<HttpListener> {
  const { host, port, tls, token } = http;
  const timeoutMs = http.requestTimeoutSeconds * 1000;
  const limits = {
    headersTimeout: timeoutMs,
    requestTimeout: timeoutMs,
    keepAliveTimeout: timeoutMs,
    connectionsCheckingInterval: checkIntervalMs,
    maxHeaderSize: maxHeaderBytes,
    keepAlive: http.keepAliveSeconds > 0,
    keepAliveInitialDelay: http.keepAliveSeconds * 1000,
  };
  const isSecure = usesTls(tls);
  const server = isSecure
    ? createSecureServer({ ...limits, handshakeTimeout: timeoutMs, ...readCertificates(tls, 'http.tls') }, app)
    : createServer(limits, app);
  server.maxConnections = http.maxConnections;
  server.on('drop', () => refusals.connections++);
  server.on(isSecure ? 'secureConnection' : 'connection', (socket: Socket) =>
    cutSilent(socket, timeoutMs, () => refusals.timeout++),
  );
  server.on('tlsClientError', (_error, client) => client.destroy());
  server.on('clientError', (error: NodeJS.ErrnoException, client) => {
    if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') refusals.timeout++;
    else if (error.code === 'HPE_HEADER_OVERFLOW') refusals.size++;
    answerBadRequest(error, client);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(listenError(error, host, port, httpSettings)));
    server.listen({ host, port }, resolve);
  });
  if (token === '' && !isLoopback(host)) {
    log.warn(
      { host },
      'who can reach http.host can see all metrics: set http.token (HTTP_TOKEN), or http.host to 127.0.0.1',
    );
  }
  const watch = isSecure ? watchCertificates(http, server as ReturnType<typeof createSecureServer>, log) : null;
  return {
    server,
    close: () => {
      watch?.close();
      server.closeAllConnections();
    },
  };
}

/** Strips the base path that a proxy has left in the URL; requests without it are served as well. */
export function takeAwayPath(server: Server, basePath: string): void {
  if (basePath === '/') return;
  const path = basePath.slice(0, -1);
  const takeAway = (request: IncomingMessage): void => {
    const { url = '/' } = request;
    const rest = url.startsWith(path) ? url.slice(path.length) : null;
    if (rest !== null && /^[/?]|^$/.test(rest)) request.url = rest.startsWith('/') ? rest : `/${rest}`;
  };
  server.prependListener('request', takeAway);
  server.prependListener('upgrade', takeAway);
}

const isLoopback = (host: string): boolean => /^(localhost|127\..*|::1)$/.test(host);

/** A connection that has sent nothing is no request yet, and Node has no time limit for that. */
function cutSilent(socket: Socket, timeoutMs: number, onCut: () => void): void {
  const timer = setTimeout(() => {
    if (socket.bytesRead > 0) return;
    onCut();
    socket.destroy();
  }, timeoutMs);
  socket.once('close', () => clearTimeout(timer));
}

/** What Node does by itself when nobody listens for the event. */
function answerBadRequest({ code }: NodeJS.ErrnoException, client: Duplex): void {
  const statuses: Readonly<Record<string, number>> = { ERR_HTTP_REQUEST_TIMEOUT: 408, HPE_HEADER_OVERFLOW: 431 };
  const status = statuses[code ?? ''] ?? 400;
  if (!client.writable) client.destroy();
  else client.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nconnection: close\r\n\r\n`, () => client.destroy());
}

function watchCertificates(
  { tls }: HttpSettings,
  server: ReturnType<typeof createSecureServer>,
  log: Log,
): CertificateWatch {
  return new CertificateWatch(tls, 'http.tls', {
    onChange: (renewed) => {
      server.setSecureContext(renewed);
      log.info({ certFile: tls.certFile }, 'certificates read again');
    },
    onFailure: (reason) => log.error({ reason }, 'new certificates cannot be used: the old ones are served on'),
  });
}
