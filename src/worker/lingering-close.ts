// Closing so that the last reply arrives. A socket that is closed while bytes of the client lie unread makes the
// kernel send RST, and a client may lose replies that are on their way. So: write, FIN, and read into nothing until
// the client has closed its side too, or a short time has passed.

import type { Duplex } from 'node:stream';

/** Long enough for a client at the other end of the world to see the FIN; short, since the place may be wanted. */
export const lingerMs = 1000;

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
