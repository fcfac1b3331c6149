// The client of the control socket: finds the running server, sends it an operation, and waits for the result.

import { readdirSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { OperatorError } from '../errors.js';
import { isSocketPath, maxSocketPathBytes } from '../net/socket-path.js';
import { isRunning } from '../process/process-identity.js';
import { controlFolder, maxReplyBytes, type Operation, type OperationReply } from './protocol.js';

/** Which server to use, where there are several. */
export interface ServerChoice {
  readonly socket?: string | undefined;
  readonly pid?: string | undefined;
}

/** The control socket of the chosen server. Throws OperatorError SERVER_NOT_FOUND, CONFIG_INVALID. */
export async function findServer({ socket, pid }: ServerChoice): Promise<string> {
  if (socket !== undefined && socket !== '') {
    if (isSocketPath(socket)) return socket;
    throw new OperatorError(
      'CONFIG_INVALID',
      `the path of the control socket (--socket, CONTROL_SOCKET) has ${Buffer.byteLength(socket)} bytes, and that of a unix socket may have ${maxSocketPathBytes}`,
    );
  }
  const folder = controlFolder();
  if (pid !== undefined) return join(folder, `${pid}.sock`);
  const running = await runningServers(folder);
  const [only] = running;
  if (only !== undefined && running.length === 1) return only;
  if (only === undefined) {
    throw notFound(
      `no server of this user runs on this machine (looked in ${folder}); is it another user's, or has it a socket of its own (--socket)?`,
    );
  }
  const pids = running.map(pidOf);
  throw notFound(`several servers run on this machine: choose one with --pid ${pids.join(' or --pid ')}`);
}

/** Sends an operation and resolves to the reply, which comes when it is done. Throws OperatorError SERVER_NOT_FOUND. */
export function operate(path: string, operation: Operation): Promise<OperationReply> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect(path, () => socket.write(`${JSON.stringify(operation)}\n`));
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      text += chunk;
      if (text.length > maxReplyBytes) socket.destroy(new Error('the reply is too long'));
    });
    socket.on('error', (error) => reject(notFound(`no server answers on ${path}: ${error.message}`)));
    socket.on('end', () => {
      try {
        resolve(JSON.parse(text) as OperationReply);
      } catch {
        reject(notFound(`the server on ${path} went away before it answered`));
      }
    });
  });
}

function notFound(message: string): OperatorError {
  return new OperatorError('SERVER_NOT_FOUND', message);
}

/**
 * Sockets that a server listens on; removes those of servers that were killed. A socket that is bound but not listened
 * on yet refuses connections as well: its process is running.
 */
async function runningServers(folder: string): Promise<readonly string[]> {
  let names: readonly string[];
  try {
    names = readdirSync(folder);
  } catch {
    return [];
  }
  const paths = names.filter((name) => /^\d+\.sock$/.test(name)).map((name) => join(folder, name));
  const areRunning = await Promise.all(paths.map(isListening));
  paths.forEach((path, i) => {
    if (areRunning[i] === false && !isRunning(pidOf(path))) rmSync(path, { force: true });
  });
  return paths.filter((_, i) => areRunning[i]);
}

const pidOf = (path: string): number => Number(/(\d+)\.sock$/.exec(path)?.[1]);

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  });
}
