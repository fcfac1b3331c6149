// Checks whether the running version of Node can pass connections to workers alongside its own messages: a few are
// sent, one right after the other, and the worker must answer each.

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { inTime } from '../../in-time.js';
import { acceptHandles, type RawHandle } from '../../net/raw-handle.js';
import type { WorkerHandle } from '../supervision/worker-handle.js';

const timeoutMs = 10_000;
const connections = 3;

/** Rejects with the reason when it does not work. */
export async function checkHandles(worker: Pick<WorkerHandle, 'giveTrial'>): Promise<void> {
  const server = createServer({ pauseOnConnect: true });
  const clients: Socket[] = [];
  const handles: RawHandle[] = [];
  try {
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as AddressInfo;
    const accepted = new Promise<void>((resolve, reject) => {
      const onHandle = (handle: RawHandle): void => void (handles.push(handle) === connections && resolve());
      acceptHandles(server, onHandle, () => reject(new Error('a connection could not be accepted')));
    });
    for (let i = 0; i < connections; i++) clients.push(connect(port, '127.0.0.1'));
    const answered = Promise.all(clients.map(answerOf));
    answered.catch(() => {});
    await inTime(accepted, timeoutMs);
    for (const handle of handles) worker.giveTrial(handle);
    await inTime(answered, timeoutMs);
  } finally {
    server.close();
    for (const handle of handles) handle.close();
    for (const client of clients) client.destroy();
  }
}

async function answerOf(client: Socket): Promise<void> {
  await once(client, 'data');
}
