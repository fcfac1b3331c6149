import { createServer, type Server } from 'node:net';
import { expect } from 'chai';
import { collisions, listenerSettings, overlap } from '#src/config/addresses.js';
import { listenError } from '#src/errors.js';

function listen(host: string, port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen({ host, port }, () => resolve(server));
  });
}

const close = (server: Server): Promise<void> => new Promise((resolve) => server.close(() => resolve()));

/** Whether the system refuses the second because of the first: another process may have one port, but not each. */
async function collides(one: string, other: string): Promise<boolean> {
  for (let i = 0; i < 5; i++) if (!(await collidesOnce(one, other))) return false;
  return true;
}

async function collidesOnce(one: string, other: string): Promise<boolean> {
  const first = await listen(one, 0);
  try {
    await close(await listen(other, (first.address() as { port: number }).port));
    return false;
  } catch (error) {
    expect(error).to.have.property('code', 'EADDRINUSE');
    return true;
  } finally {
    await close(first);
  }
}

describe('two addresses of ours', () => {
  it('overlap exactly when the system would not bind both', async () => {
    const hosts = ['0.0.0.0', '127.0.0.1', '127.0.0.2', '::', '::1', '0:0:0:0:0:0:0:1', '::ffff:127.0.0.1'];
    for (const one of hosts) {
      for (const other of hosts)
        expect(overlap(one, other), `${one} and ${other}`).to.equal(await collides(one, other));
    }
  });

  it('overlap when a name is the same, is loopback, or anything is bound', () => {
    expect(overlap('localhost', '127.0.0.1')).to.equal(true);
    expect(overlap('::1', 'LOCALHOST')).to.equal(true);
    expect(overlap('db.example', 'db.example.')).to.equal(true);
    expect(overlap('db.example', '0.0.0.0')).to.equal(true);
    expect(overlap('db.example', '127.0.0.1')).to.equal(false);
    expect(overlap('localhost', '127.0.0.2')).to.equal(false);
    expect(overlap('fe80::1%eth0', 'fe80::1%eth1')).to.equal(false);
  });

  it('collide on one port only, and never on port 0', () => {
    const address = (port: number, name: string) => ({
      host: '127.0.0.1',
      port,
      settings: { host: `${name}.host`, port: `${name}.port` },
    });
    expect(collisions([address(0, 'a'), address(0, 'b'), address(5, 'c'), address(6, 'd')])).to.deep.equal([]);
    expect(collisions([address(5, 'a'), address(6, 'b'), address(5, 'c')])).to.deep.equal([
      'c.port: 127.0.0.1:5 is taken by a.port, which is 127.0.0.1:5: give each a port of its own',
    ]);
  });
});

describe('what keeps a listener off its address', () => {
  const settings = { host: 'server.host (HOST)', port: 'server.port (PORT)' };

  for (const host of ['no.such.host.invalid', '203.0.113.9', 'fe80::1', 'a'.repeat(300), '127.0.0.1:80', '[::1]']) {
    it(`names the setting of the host when that is wrong: ${host.slice(0, 30)}`, async () => {
      const error = (await listen(host, 0).then(close, (thrown: Error) => thrown)) as NodeJS.ErrnoException;
      const { message } = listenError(error, host, 8081, settings);
      expect(message).to.include('server.host (HOST)').and.not.include('server.port');
      expect(message.length).to.be.below(500);
    });
  }

  it('names the setting of the port when that is taken', async () => {
    const first = await listen('127.0.0.1', 0);
    const { port } = first.address() as { port: number };
    const error = (await listen('127.0.0.1', port).then(close, (thrown: Error) => thrown)) as NodeJS.ErrnoException;
    await close(first);
    expect(listenError(error, '127.0.0.1', port, settings).message)
      .to.include('server.port (PORT)')
      .and.not.include('server.host');
  });

  it('is named by the entry of the list of listeners, where there is one', () => {
    const listeners = [{ host: '10.0.0.1' }, { host: '127.0.0.1' }];
    const server = { host: '127.0.0.1' };
    expect(listenerSettings({ hasListenerList: false, listeners, server }, 0)).to.deep.equal(settings);
    const listed = { hasListenerList: true, listeners, server };
    expect(listenerSettings(listed, 0)).to.deep.equal({ host: 'listeners[0].host', port: 'listeners[0].port' });
    expect(listenerSettings(listed, 1).host).to.equal('listeners[1].host, or server.host (HOST) where it has none');
  });
});
