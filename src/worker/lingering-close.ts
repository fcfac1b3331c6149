// Closing so that the last reply arrives. A socket that is closed while bytes of the client lie unread makes the
// kernel send RST, and a client may lose replies that are on their way. So: write, FIN, and read into nothing until
// the client has closed its side too, or a short time has passed.

import type { Duplex } from 'node:stream';
import { emptyFrame, type LengthFieldSize } from '../protocol/frames.js';

/** Long enough for a client at the other end of the world to see the FIN; short, since the place may be wanted. */
const lingerMs = 1000;

/** @param readTimeoutMs time that the client has to read what was written before; then the connection is cut. */
export function lingeringClose(socket: Duplex, readTimeoutMs: number, lastBytes?: Uint8Array): void {
  if (socket.destroyed) return;
  let timer = setTimeout(() => socket.destroy(), readTimeoutMs);
  socket.once('finish', () => {
    clearTimeout(timer);
    timer = setTimeout(() => socket.destroy(), lingerMs);
  });
  socket.once('close', () => clearTimeout(timer));
  socket.removeAllListeners('data');
  socket.on('data', () => {});
  if (lastBytes === undefined) socket.end();
  else socket.end(lastBytes);
  socket.resume();
}

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

  /** Whoever calls this listens to the socket's errors. */
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
