// Does the TLS handshake with clients that already have a place: a handshake is expensive, so a client that would be
// refused gets none.

import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket, type TlsOptions } from 'node:tls';
import { messageOf } from '../../errors.js';
import { CertificateWatch, readCertificates, type TlsSettings } from '../../net/certificates.js';
import type { Log } from '../../process/log.js';

/** Gets the encrypted connection, or null, and why, when the handshake failed: then the socket is closed. */
type Answer = (secured: TLSSocket | null, failure: string) => void;

interface Handshake {
  readonly settle: Answer;
  failure: string;
}

/** What a listener offers in handshakes (ALPN): the names of HTTP, or nothing, where clients ask for nothing. */
export type Offer = 'http' | 'nothing';

export class TlsHandshakes {
  /** They do not listen: they are given accepted connections. */
  readonly #servers: Readonly<Record<Offer, Server>>;
  readonly #watch: CertificateWatch;
  readonly #waiting = new Map<string, Handshake>();

  /** Throws OperatorError CONFIG_INVALID when the certificates cannot be used. */
  constructor(settings: TlsSettings, handshakeTimeoutMs: number, log: Log) {
    const section = 'server.tls';
    const certificates = readCertificates(settings, section);
    const serverOffering = (offer: Pick<TlsOptions, 'ALPNProtocols'>): Server =>
      createServer({ ...certificates, handshakeTimeout: handshakeTimeoutMs, ...offer })
        .on('secureConnection', (secured) => {
          const handshake = this.#waiting.get(keyOf(secured));
          if (handshake === undefined)
            secured.destroy(); // its client has reset it: it has no address any more
          else handshake.settle(secured, '');
        })
        .on('tlsClientError', (error, client) => {
          const reason = messageOf(error, 200);
          const handshake = this.#waiting.get(keyOf(client));
          if (handshake !== undefined) handshake.failure = reason;
          log.debug({ client: client.remoteAddress, reason }, 'no TLS with a client');
          client.destroy();
        });
    this.#servers = { http: serverOffering({ ALPNProtocols: ['h2', 'http/1.1'] }), nothing: serverOffering({}) };
    this.#watch = new CertificateWatch(settings, section, {
      onChange: (renewed) => {
        for (const server of Object.values(this.#servers)) server.setSecureContext(renewed);
        log.info({ certFile: settings.certFile }, 'certificates read again');
      },
      onFailure: (reason) => log.error({ reason }, 'new certificates cannot be used: the old ones are served on'),
    });
  }

  /**
   * Calls `answer` once: with the encrypted connection, which is half-open as `socket` is, or with null when `socket`
   * has closed. Anything that aborts the handshake closes `socket`: the end of what the client sends, an error, an
   * alert, the timeout.
   */
  begin(socket: Socket, offer: Offer, answer: Answer): void {
    const key = keyOf(socket);
    const { allowHalfOpen } = socket;
    const settle: Answer = (secured, failure) => {
      socket.off('close', onClose);
      if (this.#waiting.get(key) === handshake) this.#waiting.delete(key);
      if (secured !== null) secured.allowHalfOpen = allowHalfOpen;
      answer(secured, failure);
    };
    const handshake: Handshake = { settle, failure: 'the client has closed the connection, or was too slow' };
    const onClose = (): void => settle(null, handshake.failure);
    socket.once('close', onClose);
    this.#waiting.set(key, handshake);
    // A client that ends its side during the handshake never finishes it: a half-open socket would stay until the
    // timeout.
    socket.allowHalfOpen = false;
    this.#servers[offer].emit('connection', socket);
  }

  close(): void {
    this.#watch.close();
  }
}

/**
 * A key that no two connections share that are open at the same time; a connection that was reset has no addresses any
 * more.
 */
function keyOf({ remoteAddress, remotePort, localAddress, localPort }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`;
}
