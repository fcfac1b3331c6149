// A lock that lives exactly as long as its process, and that every process can ask about which sees the folder: a unix
// socket that the holder listens on. The kernel takes it back however the holder ends, and answers for one that hangs
// or is stopped. It holds across pid and network namespaces (containers that share the folder), where pids say nothing.

import { closeSync, openSync, renameSync, rmSync } from 'node:fs';
import { connect, createServer, type ListenOptions } from 'node:net';
import { join } from 'node:path';
import { isSocketPath } from '../socket-path.js';

export const lockEnding = '.lock';
/** Of one that is not listened on yet. */
export const unbornEnding = '.lock.new';

export interface Lock {
  /** At the exit of the process that is done by itself. */
  release(): void;
}

/** Rejects when the socket cannot be made; as ENOSPC, EROFS, EACCES. @param name unique */
export async function holdLock(folder: string, name: string): Promise<Lock> {
  const path = lockFile(folder, name);
  const server = createServer((socket) => socket.destroy());
  await withShortPath(folder, `${name}${unbornEnding}`, async (unborn) => {
    const listening = new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.once('listening', resolve);
    });
    // By itself: a worker of node:cluster would have its primary listen.
    server.listen({ path: unborn, exclusive: true } satisfies ListenOptions);
    await listening;
    // Under its name it is listened on from the first moment: nobody sees it and takes its holder for dead.
    renameSync(join(folder, `${name}${unbornEnding}`), path);
  });
  server.on('error', () => {});
  server.unref();
  const release = (): void => {
    process.removeListener('exit', release);
    removeLock(folder, name);
    server.close();
  };
  process.once('exit', release);
  return { release };
}

/** Whether its holder lives. In doubt it does. */
export function isHeld(folder: string, name: string): Promise<boolean> {
  return withShortPath(
    folder,
    `${name}${lockEnding}`,
    (path) =>
      new Promise<boolean>((resolve) => {
        const socket = connect(path, () => {
          socket.destroy();
          resolve(true);
        });
        // Too many wait to be let in (EAGAIN): the holder hangs, and lives.
        socket.once('error', ({ code }: NodeJS.ErrnoException) =>
          resolve(code !== 'ECONNREFUSED' && code !== 'ENOENT'),
        );
      }),
  );
}

export function removeLock(folder: string, name: string): void {
  rmSync(lockFile(folder, name), { force: true });
}

function lockFile(folder: string, name: string): string {
  return join(folder, `${name}${lockEnding}`);
}

/** A path to a socket that the kernel does not cut: by way of the open folder, where the folder's own is too long. */
async function withShortPath<T>(folder: string, file: string, use: (path: string) => Promise<T>): Promise<T> {
  const path = join(folder, file);
  if (isSocketPath(path)) return use(path);
  if (process.platform !== 'linux')
    throw new Error(`the path ${path} is too long for a socket: choose a shorter folder`);
  const descriptor = openSync(folder, 'r');
  try {
    return await use(`/proc/self/fd/${descriptor}/${file}`);
  } finally {
    closeSync(descriptor);
  }
}
