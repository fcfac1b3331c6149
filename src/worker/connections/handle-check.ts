// Checks that connections can be served with this version of Node: uses each of Node's internals that serving needs
// once, on a connection of this process with itself.

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { messageOf, OperatorError } from '../../errors.js';
import { inTime } from '../../in-time.js';
import * as rawHandle from '../../net/raw-handle.js';

/** Long, for a busy machine: what Node does not do by then, it never does. */
const timeoutMs = 20_000;

/** Throws OperatorError NODE_CHANGED, which names the version of Node and what it lacks. */
export async function tryHandles(parts: typeof rawHandle = rawHandle): Promise<void> {
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true });
  const sockets: Socket[] = [];
  let trying = 'a listener';
  try {
    await inTime(
      tryParts(server, sockets, parts, (what) => {
        trying = what;
      }),
      timeoutMs,
    );
  } catch (error) {
    const reason = `Node ${process.version} has changed inside: ${trying} cannot be had (${messageOf(error, 200)}); run the server with another version of Node`;
    throw new OperatorError('NODE_CHANGED', reason, { cause: error });
  } finally {
    server.close();
    for (const socket of sockets) socket.destroy();
  }
}

async function tryParts(
  server: Server,
  sockets: Socket[],
  parts: typeof rawHandle,
  begin: (what: string) => void,
): Promise<void> {
  // `exclusive`: otherwise node:cluster lets all workers share the port, and another one may get the connection.
  await once(server.listen({ port: 0, host: '127.0.0.1', exclusive: true }), 'listening');
  begin('the handle of a connection');
  const accepted = new Promise<rawHandle.RawHandle>((resolve, reject) =>
    parts.acceptHandles(server, resolve, () => reject(new Error('a connection could not be accepted'))),
  );
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  sockets.push(client);
  const [handle] = await Promise.all([accepted, once(client, 'connect')]);
  begin('the address of a client');
  const peer: { address?: string } = {};
  if (parts.isReset(handle) || handle.getpeername(peer) !== 0 || peer.address !== '127.0.0.1')
    throw new Error(`it is said to be ${peer.address}`);
  begin('a socket on a handle');
  const socket = parts.socketOn(handle);
  sockets.push(socket);
  if (parts.rawHandleOf(socket) !== handle) throw new Error('it has another one');
  await expectBytes(client, socket);
  await expectBytes(socket, client);
  begin('how many bytes wait to be sent');
  if (parts.unsentBytes(socket) !== 0) throw new Error(`of none, ${parts.unsentBytes(socket)}`);
  begin('reading that stops and goes on');
  parts.stopReading(socket);
  parts.startReading(socket);
  await expectBytes(client, socket);
}

async function expectBytes(from: Socket, to: Socket): Promise<void> {
  const sent = Buffer.from('a few bytes');
  const received = once(to, 'data') as Promise<[Buffer]>;
  to.resume();
  from.write(sent);
  // The bytes are in memory that the next read uses again.
  const isSame = await received.then(([bytes]) => bytes.equals(sent));
  if (!isSame) throw new Error('other bytes arrive than were sent');
}
