import type { Duplex } from 'node:stream';
import { emptyFrame, type LengthFieldSize } from '../../protocol/frames.js';
import { lingeringClose, lingerMs } from './lingering-close.js';

/** Rejected connections that linger at once: a flood of them must not take the descriptors of served connections. */
export const maxRejections = 256;

export interface RejectionLimits {
  readonly lengthFieldSize: LengthFieldSize;
}

/** Rejects connections that were never served: sends an empty frame, then closes; in a flood of them it only closes. */
export class Rejections {
  readonly #frame: Buffer;
  #lingering = 0;

  constructor({ lengthFieldSize }: RejectionLimits) {
    this.#frame = emptyFrame(lengthFieldSize);
  }

  /** Connections that are being rejected. */
  get lingering(): number {
    return this.#lingering;
  }

  /** The caller listens to the socket's errors. */
  refuse(socket: Duplex): void {
    if (this.#lingering >= maxRejections) {
      socket.destroy();
      return;
    }
    if (socket.destroyed) return;
    this.#lingering++;
    socket.once('close', () => this.#lingering--);
    lingeringClose(socket, lingerMs, this.#frame);
  }
}
