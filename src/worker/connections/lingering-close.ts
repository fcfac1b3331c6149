// Closes a connection so that the last reply arrives. When a socket is closed while bytes from the client are unread,
// the kernel sends RST, and the client may lose replies that are on their way. So this writes, sends FIN, and discards
// what it reads until the client has closed its side too, or a short time has passed.

import type { Duplex } from 'node:stream';

/**
 * Long enough for a client at the other end of the world to see the FIN; short, since another client may need the
 * place.
 */
export const lingerMs = 1000;

/** @param readTimeoutMs how long the client has to read what was written before; then the connection is cut */
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
