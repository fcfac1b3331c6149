// Agrees on TLS with clients that have a place already: a handshake costs, so nobody gets one who would be refused.

import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import { CertificateWatch, readCertificates, type TlsSettings } from '../certificates.js';
import { messageOf } from '../errors.js';
import type { Log } from '../log.js';

/** The encrypted connection, or null when none came about. */
type Answer = (secured: TLSSocket | null) => void;

export class TlsGate {
  /** Listens to nothing: it is handed accepted connections. */
  readonly #server: Server;
  readonly #watch: CertificateWatch;
  readonly #waiting = new Map<string, Answer>();

  /** Throws OperatorError CONFIG_INVALID when the certificates cannot be used. */
  constructor(settings: TlsSettings, handshakeTimeoutMs: number, log: Log) {
    const section = 'server.tls';
    const certificates = readCertificates(settings, section);
    this.#server = createServer({ ...certificates, handshakeTimeout: handshakeTimeoutMs, allowHalfOpen: true });
    this.#server.on('secureConnection', (secured) => this.#answer(keyOf(secured), secured));
    this.#server.on('tlsClientError', (error, client) => {
      log.debug({ client: client.remoteAddress, reason: messageOf(error, 200) }, 'no TLS with a client');
      client.destroy(); // after a time-out Node leaves that to us
    });
    this.#watch = new CertificateWatch(settings, section, {
      onChange: (renewed) => {
        this.#server.setSecureContext(renewed);
        log.info({ certFile: settings.certFile }, 'certificates read again');
      },
      onFailure: (reason) => log.error({ reason }, 'new certificates cannot be used: the old ones are served on'),
    });
  }

  /** Calls `answer` once. Closes the socket when no TLS comes about. */
  enter(socket: Socket, answer: Answer): void {
    const key = keyOf(socket);
    this.#waiting.set(key, answer);
    socket.once('close', () => this.#answer(key, null));
    this.#server.emit('connection', socket);
  }

  close(): void {
    this.#watch.close();
  }

  #answer(key: string, secured: TLSSocket | null): void {
    const answer = this.#waiting.get(key);
    if (answer === undefined) return;
    this.#waiting.delete(key);
    answer(secured);
  }
}

/** What no two connections have in common that are open at the same time. */
function keyOf({ remoteAddress, remotePort, localAddress, localPort }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`;
}
