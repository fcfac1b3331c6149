import type { Duplex } from 'node:stream';
import { emptyFrame, type LengthFieldSize } from '../protocol/frames.js';
import { lingeringClose, lingerMs } from './lingering-close.js';

/** Refused connections that linger at once: a storm of them must not take the descriptors of those that are served. */
export const maxRejections = 256;

export interface RejectionLimits {
  readonly lengthFieldSize: LengthFieldSize;
}

/** Refuses connections that were never served: an empty frame, then the end; in a storm of them only the end. */
export class Rejections {
  readonly #frame: Buffer;
  #lingering = 0;

  constructor({ lengthFieldSize }: RejectionLimits) {
    this.#frame = emptyFrame(lengthFieldSize);
  }

  /** Connections that are being refused. */
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
