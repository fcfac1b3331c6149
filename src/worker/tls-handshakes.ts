// Agrees on TLS with clients that have a place already: a handshake costs, so nobody gets one who would be refused.

import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import { CertificateWatch, readCertificates, type TlsSettings } from '../certificates.js';
import { messageOf } from '../errors.js';
import type { Log } from '../log.js';

/** The encrypted connection, or null when none came about: then the socket is closed. */
type Answer = (secured: TLSSocket | null) => void;

export class TlsHandshakes {
  /** Listens to nothing: it is handed accepted connections. */
  readonly #server: Server;
  readonly #watch: CertificateWatch;
  readonly #waiting = new Map<string, Answer>();

  /** Throws OperatorError CONFIG_INVALID when the certificates cannot be used. */
  constructor(settings: TlsSettings, handshakeTimeoutMs: number, log: Log) {
    const section = 'server.tls';
    const certificates = readCertificates(settings, section);
    this.#server = createServer({ ...certificates, handshakeTimeout: handshakeTimeoutMs });
    this.#server.on('secureConnection', (secured) => {
      const answer = this.#waiting.get(keyOf(secured));
      if (answer === undefined)
        secured.destroy(); // its client has reset it: it has no address any more
      else answer(secured);
    });
    this.#server.on('tlsClientError', (error, client) => {
      log.debug({ client: client.remoteAddress, reason: messageOf(error, 200) }, 'no TLS with a client');
      client.destroy();
    });
    this.#watch = new CertificateWatch(settings, section, {
      onChange: (renewed) => {
        this.#server.setSecureContext(renewed);
        log.info({ certFile: settings.certFile }, 'certificates read again');
      },
      onFailure: (reason) => log.error({ reason }, 'new certificates cannot be used: the old ones are served on'),
    });
  }

  /**
   * Calls `answer` once: with the encrypted connection, which is half-open as `socket` is, or when `socket` has closed.
   * Whatever ends the handshake closes it: an end of what the client sends, an error, an alert, the time that it has.
   */
  begin(socket: Socket, answer: Answer): void {
    const key = keyOf(socket);
    const { allowHalfOpen } = socket;
    const settle: Answer = (secured) => {
      socket.off('close', onClose);
      if (this.#waiting.get(key) === settle) this.#waiting.delete(key);
      if (secured !== null) secured.allowHalfOpen = allowHalfOpen;
      answer(secured);
    };
    const onClose = (): void => settle(null);
    socket.once('close', onClose);
    this.#waiting.set(key, settle);
    // A client that ends in the handshake will never finish it: half open, it would have all the time that there is.
    socket.allowHalfOpen = false;
    this.#server.emit('connection', socket);
  }

  close(): void {
    this.#watch.close();
  }
}

/**
 * What no two connections have in common that are open at the same time; one that was reset has no addresses any more.
 */
function keyOf({ remoteAddress, remotePort, localAddress, localPort }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`;
}
