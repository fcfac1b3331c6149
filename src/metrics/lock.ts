// A lock that lives exactly as long as its process, and that every process that sees the folder can check: a unix
// socket that the holder listens on. The kernel releases it however the holder ends, and answers for a holder that
// hangs or is stopped. It works across pid and network namespaces (containers that share the folder), where pids say
// nothing.

import { closeSync, openSync, renameSync, rmSync } from 'node:fs';
import { connect, createServer, type ListenOptions } from 'node:net';
import { join } from 'node:path';
import { isSocketPath } from '../net/socket-path.js';

export const lockEnding = '.lock';
/** The ending of a lock whose socket is not listened on yet. */
export const unbornEnding = '.lock.new';

export interface Lock {
  /** Happens by itself when the process exits. */
  release(): void;
}

/** Rejects when the socket cannot be created, for example with ENOSPC, EROFS or EACCES. @param name unique */
export async function holdLock(folder: string, name: string): Promise<Lock> {
  const path = lockFile(folder, name);
  const server = createServer((socket) => socket.destroy());
  await withShortPath(folder, `${name}${unbornEnding}`, async (unborn) => {
    const listening = new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.once('listening', resolve);
    });
    // Exclusive, since otherwise a worker of node:cluster would have its primary listen.
    server.listen({ path: unborn, exclusive: true } satisfies ListenOptions);
    await listening;
    // Gets its name only once it listens, so that no process sees a silent socket and takes the holder for dead.
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

/** Whether the holder is alive; true when in doubt. */
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
        // EAGAIN means that the backlog is full: the holder hangs, but it is alive.
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

/** Calls `use` with a path that is short enough for a socket: through the open folder where the plain one is not. */
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
