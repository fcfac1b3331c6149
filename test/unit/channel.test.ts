// Channels between real processes: what Node leaves undone there.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createConnection, createServer, type Server, type Socket } from 'node:net';
import { expect } from 'chai';
import { hearOfEnd, holdOpen, type RawHandle, rawHandleOf } from '#src/net/raw-handle.js';
import { within } from '../support/until.js';

describe('the channel to another process', () => {
  let child: ChildProcess;
  let server: Server;

  /** Answers each message with its first characters. */
  const listener = `process.on('message', (message) => process.send(String(message).slice(0, 9))); process.send('here');`;

  beforeEach(async () => {
    child = spawn(process.execPath, ['-e', listener], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    server = createServer().listen(0, '127.0.0.1');
    await Promise.all([once(child, 'message'), once(server, 'listening')]);
  });
  afterEach(() => {
    child.kill('SIGKILL');
    server.close();
  });

  it('is known to have ended when the other died before it had taken a handle', async () => {
    hearOfEnd(child);
    child.kill('SIGSTOP');
    child.send('a handle that it will not take', server, () => {});
    child.send('what waits behind it', () => {});
    child.kill('SIGKILL');
    await within(5000, 'both events', Promise.all([once(child, 'disconnect'), once(child, 'exit')]));
    expect(child.connected).to.equal(false);
  });

  it('goes on when a connection is closed that is on its way to the other', async () => {
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const client = createConnection((server.address() as AddressInfo).port).on('error', () => {});
    const [socket] = await accepted;
    const heard: string[] = [];
    child.on('message', (message: string) => heard.push(message));
    child.kill('SIGSTOP');
    child.send('x'.repeat(1 << 20)); // more than the channel holds: what follows has to wait
    const handle = rawHandleOf(socket) as RawHandle;
    const release = holdOpen(handle);
    child.send('a handle', handle as never, undefined, release);
    child.send('last');
    const closed = once(socket, 'close');
    socket.destroy();
    child.kill('SIGCONT');
    while (heard.length < 3) await within(5000, `the third message after ${heard}`, once(child, 'message'));
    expect(heard).to.deep.equal(['xxxxxxxxx', 'a handle', 'last']);
    await within(5000, 'the connection to be closed here', closed);
    client.destroy();
  });
});
