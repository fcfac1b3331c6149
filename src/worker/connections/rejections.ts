import type { Duplex } from 'node:stream';
import { lingeringClose, lingerMs } from './lingering-close.js';

/** Rejected connections that linger at once: a flood of them must not take the descriptors of served connections. */
export const maxRejections = 256;

/** Rejects connections that were never served: says so, then closes; in a flood of them it only closes. */
export class Rejections {
  #lingering = 0;

  /** Connections that are being rejected. */
  get lingering(): number {
    return this.#lingering;
  }

  /**
   * The caller listens to the socket's errors.
   * @param words what the client is told
   */
  refuse(socket: Duplex, words: Buffer): void {
    if (this.#lingering >= maxRejections) {
      socket.destroy();
      return;
    }
    if (socket.destroyed) return;
    this.#lingering++;
    socket.once('close', () => this.#lingering--);
    lingeringClose(socket, lingerMs, words);
  }
}
