// The control socket: takes an operation, carries it out, and replies with the result.

import { chmodSync, lstatSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { messageOf, OperatorError } from '../errors.js';
import { isSocketPath, maxSocketPathBytes } from '../net/socket-path.js';
import { makeFolder } from '../process/folder.js';
import type { Log } from '../process/log.js';
import { controlFolder, maxRequestBytes, type Operation, type OperationReply } from './protocol.js';

/** There are never more operators than this at once. */
const maxConnections = 16;
const requestTimeoutMs = 5000;

/** Carries out the operation and resolves to the result. */
export type Operate = (operation: Operation) => Promise<OperationReply>;

export class ControlServer {
  readonly path: string;
  readonly #server: Server;

  private constructor(path: string, operate: Operate) {
    this.path = path;
    this.#server = createServer((socket) => void serve(socket, operate));
    this.#server.maxConnections = maxConnections;
  }

  /**
   * Throws OperatorError LISTEN_FAILED.
   * @param path empty: a default path, in a folder that only this user can enter
   */
  static async open(path: string, operate: Operate): Promise<ControlServer> {
    try {
      const control = new ControlServer(path || ownPath(), operate);
      // Node would cut the path, and bind another file.
      if (!isSocketPath(control.path))
        throw new Error(`a unix socket's path may have ${maxSocketPathBytes} bytes, and ${control.path} has more`);
      await removeStale(control.path);
      await control.#listen();
      return control;
    } catch (error) {
      throw new OperatorError(
        'LISTEN_FAILED',
        `the control socket cannot be opened: ${messageOf(error)}; choose another path with control.socket (CONTROL_SOCKET), or none`,
        { cause: error },
      );
    }
  }

  close(): void {
    this.#server.close();
    rmSync(this.path, { force: true });
  }

  async #listen(): Promise<void> {
    // Other users must not be able to open the file even for a moment.
    const before = process.umask(0o177);
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.once('error', reject);
        this.#server.listen(this.path, resolve);
      });
    } finally {
      process.umask(before);
    }
    this.#server.on('error', () => {});
    this.#server.unref();
  }
}

/**
 * Opens the control socket that config asks for; null when it asks for none, or when the default one cannot be opened:
 * nothing relies on that one. Throws OperatorError LISTEN_FAILED when config names a path and it cannot be opened.
 */
export async function openControl(setting: string, operate: Operate, log: Log): Promise<ControlServer | null> {
  if (setting === 'none') return null;
  try {
    return await ControlServer.open(setting, operate);
  } catch (error) {
    if (setting !== '') throw error;
    log.warn({ reason: messageOf(error) }, 'no control socket: signals do the same');
    return null;
  }
}

function ownPath(): string {
  const folder = controlFolder();
  makeFolder(folder);
  const { uid, mode } = lstatSync(folder);
  if (uid !== process.getuid?.()) throw new Error(`${folder} belongs to somebody else`);
  if ((mode & 0o077) !== 0) chmodSync(folder, 0o700);
  return join(folder, `${process.pid}.sock`);
}

/** A server that was killed leaves its socket behind, which is removed; the socket of a running server is kept. */
async function removeStale(path: string): Promise<void> {
  const isInUse = await new Promise<boolean>((resolve) => {
    const probe = connect(path, () => resolve(true)).once('error', () => resolve(false));
    probe.once('connect', () => probe.destroy());
  });
  if (isInUse) throw new Error(`${path} is in use by another server`);
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket()) rmSync(path, { force: true });
}

async function serve(socket: Socket, operate: Operate): Promise<void> {
  socket.on('error', () => socket.destroy());
  const reply = await receive(socket)
    .then(operate)
    .catch((error: unknown): OperationReply => ({ ok: false, reason: messageOf(error, 20_000) }));
  if (!socket.destroyed) socket.end(`${JSON.stringify(reply)}\n`);
}

/** Rejects with what is wrong with the request. */
function receive(socket: Socket): Promise<Operation> {
  return new Promise((resolve, reject) => {
    let text = '';
    socket.setTimeout(requestTimeoutMs, () => reject(new Error('no request came')));
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      text += chunk;
      if (text.length > maxRequestBytes) reject(new Error('the request is too long'));
      else if (text.includes('\n')) {
        socket.setTimeout(0);
        try {
          resolve(parseOperation(JSON.parse(text)));
        } catch (error) {
          reject(error);
        }
      }
    });
    socket.once('close', () => reject(new Error('closed before a request came')));
  });
}

function parseOperation(value: unknown): Operation {
  const { command, workers, only } = (value ?? {}) as { command?: unknown; workers?: unknown; only?: unknown };
  if (command === 'status' || command === 'drain') return { command };
  if (command === 'reload' && (only === undefined || only === 'models')) {
    return only === undefined ? { command } : { command, only };
  }
  if (command === 'scale' && typeof workers === 'number' && Number.isSafeInteger(workers)) return { command, workers };
  throw new Error('the request is none of: status, reload, scale, drain');
}
