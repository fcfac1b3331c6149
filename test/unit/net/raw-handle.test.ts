import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { expect } from 'chai';
import { acceptHandles, expectBytes, fullRead, socketOn } from '#src/net/raw-handle.js';

/** Four full reads, which the kernel holds for each socket before the first one reads. */
const bytes = 4 * fullRead;

/** How many full reads there are in each turn of the event loop, when so many sockets begin to read in one. */
async function fullReadsByTurn(
  sockets: number,
  onData: (socket: Socket, missing: number) => void,
): Promise<readonly number[]> {
  const server = createServer({ pauseOnConnect: true });
  await once(server.listen({ port: 0, host: '127.0.0.1', exclusive: true }), 'listening');
  const accepted: Socket[] = [];
  const areAccepted = new Promise<void>((resolve, reject) =>
    acceptHandles(
      server,
      (handle) => {
        if (accepted.push(socketOn(handle)) === sockets) resolve();
      },
      () => reject(new Error('one was not accepted')),
    ),
  );
  const { port } = server.address() as AddressInfo;
  const clients = Array.from({ length: sockets }, () => connect(port, '127.0.0.1'));
  await areAccepted;
  await Promise.all(
    clients.map((client) => new Promise<void>((resolve) => client.end(Buffer.alloc(bytes), () => resolve()))),
  );
  const reads = new Map<number, number>();
  let turn = 0;
  let isOver = false;
  const count = (): void => {
    turn++;
    if (!isOver) setImmediate(count);
  };
  count();
  const areRead = accepted.map((socket) => {
    let left = bytes;
    return new Promise<void>((resolve) => {
      socket.on('data', ({ length }: Buffer) => {
        left -= length;
        if (length === fullRead) reads.set(turn, (reads.get(turn) ?? 0) + 1);
        onData(socket, left);
        if (left === 0) resolve();
      });
    });
  });
  for (const socket of accepted) socket.resume();
  await Promise.all(areRead);
  isOver = true;
  for (const socket of [...accepted, ...clients]) socket.destroy();
  server.close();
  return [...reads.values()];
}

describe('a socket on a handle', () => {
  it('lets other work run between two full reads', async () => {
    const reads = await fullReadsByTurn(1, () => {});
    expect(Math.max(...reads)).to.equal(1);
  });

  it('reads the rest of one large request at once', async () => {
    const reads = await fullReadsByTurn(1, (socket, left) => expectBytes(socket, left));
    expect(Math.max(...reads)).to.be.above(1);
  });

  it('reads no more than a mebibyte at once with all others that do so, however many they are', async () => {
    const sockets = 100;
    const reads = await fullReadsByTurn(sockets, (socket, left) => expectBytes(socket, left));
    // The first read of each is its own.
    expect(Math.max(...reads)).to.be.within(2, sockets + 2 ** 20 / fullRead);
  });
});
