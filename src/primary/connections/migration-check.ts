// Checks whether connections can migrate between processes with the running version of Node, by migrating one: the
// bytes that the kernel has not taken are counted, the handle goes to a worker, the worker writes those bytes, and the
// client must receive every byte of both.

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { rawHandleOf, stopReading, unsentBytes } from '../../net/raw-handle.js';
import type { WorkerHandle } from '../supervision/worker-handle.js';

const timeoutMs = 3000;
/** `maxPieces` of this size are more than a kernel takes for a client that does not read. */
const pieceBytes = 1 << 20;
const maxPieces = 64;

/** Rejects with the reason when it does not work. */
export async function checkMigration(worker: WorkerHandle): Promise<void> {
  const server = createServer({ pauseOnConnect: true });
  const sockets: Socket[] = [];
  const overdue = setTimeout(() => {
    for (const socket of sockets) socket.destroy(new Error(`no answer within ${timeoutMs} ms`));
  }, timeoutMs);
  try {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
    sockets.push(client);
    const [near] = (await once(server, 'connection')) as [Socket];
    sockets.push(near);
    near.on('error', () => {});
    const written = await fill(near);
    const handle = rawHandleOf(near);
    if (handle === null) throw new Error('a socket has no handle that can be sent');
    stopReading(near);
    await worker.sent({ kind: 'check-migration' }, handle);
    const bytes = unsentBytes(near);
    near.destroy();
    if (!(bytes > 0 && bytes < written)) throw new Error(`of ${written} bytes, ${bytes} seem to be unsent`);
    await worker.sent({ kind: 'finish-migration-check', bytes });
    let received = 0;
    client.on('data', (chunk: Buffer) => {
      received += chunk.length;
    });
    await once(client, 'end');
    if (received !== written) throw new Error(`of ${written} bytes, ${received} arrived`);
  } finally {
    clearTimeout(overdue);
    server.close();
    for (const socket of sockets) socket.destroy();
  }
}

/** Writes until the kernel takes no more, since nobody reads; returns the number of bytes. */
async function fill(socket: Socket): Promise<number> {
  const piece = Buffer.alloc(pieceBytes);
  let written = 0;
  for (let i = 0; i < maxPieces && unsentBytes(socket) === 0; i++) {
    socket.write(piece);
    written += piece.length;
    await new Promise((resolve) => setImmediate(resolve));
  }
  return written;
}
