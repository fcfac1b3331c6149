import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { expect } from 'chai';
import { acceptHandles, expectBytes, fullRead, socketOn } from '#src/net/raw-handle.js';

/** Turns of the event loop in which a socket that is sent four full reads has read them. */
async function turnsOfReading(onData: (socket: ReturnType<typeof socketOn>, missing: number) => void) {
  const bytes = 4 * fullRead;
  const server = createServer({ pauseOnConnect: true });
  await once(server.listen({ port: 0, host: '127.0.0.1', exclusive: true }), 'listening');
  const accepted = new Promise<ReturnType<typeof socketOn>>((resolve, reject) =>
    acceptHandles(
      server,
      (handle) => resolve(socketOn(handle)),
      () => reject(new Error('none was accepted')),
    ),
  );
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const socket = await accepted;
  const turns = new Set<number>();
  let turn = 0;
  let isOver = false;
  const count = (): void => {
    turn++;
    if (!isOver) setImmediate(count);
  };
  count();
  let left = bytes;
  let full = 0;
  await new Promise<void>((resolve) => {
    socket.on('data', ({ length }: Buffer) => {
      left -= length;
      if (length === fullRead) {
        full++;
        turns.add(turn);
      }
      onData(socket, left);
      if (left === 0) resolve();
    });
    // The kernel has all of it before the first read.
    client.end(Buffer.alloc(bytes), () => socket.resume());
  });
  isOver = true;
  socket.destroy();
  client.destroy();
  server.close();
  return { turns: turns.size, full };
}

describe('a socket on a handle', () => {
  it('lets other work run between two full reads', async () => {
    const { turns, full } = await turnsOfReading(() => {});
    expect(turns).to.equal(full);
  });

  it('reads the rest of one large request at once', async () => {
    const { turns, full } = await turnsOfReading((socket, left) => expectBytes(socket, left));
    expect(full).to.be.above(1);
    expect(turns).to.be.below(full);
  });
});
