import { expect } from 'chai';
import type { RawHandle } from '#src/net/raw-handle.js';
import { ConnectionLedger } from '#src/primary/connections/connection-ledger.js';
import { Migrations } from '#src/primary/connections/migrations.js';
import type { WorkerHandle } from '#src/primary/supervision/worker-handle.js';
import { createLog } from '#src/process/log.js';

/** The part of a worker that migrations use. */
function worker(slot: number) {
  const config = {
    server: { lengthFieldSize: 4 },
    listeners: [{ host: 'h', port: 1, protocol: 'frames', models: ['m'], model: 'm' }],
  };
  const sent: { kind: string }[] = [];
  const fake = {
    slot,
    pid: slot,
    state: 'ready',
    revision: 1,
    connections: 1,
    peers: new Map([['a', 1]]),
    deployment: { revision: 1, config },
    send: (message: { kind: string }) => void sent.push(message),
  };
  return { handle: fake as unknown as WorkerHandle, sent };
}

function connection(): { handle: RawHandle; isClosed: () => boolean } {
  let isClosed = false;
  const close = (): void => {
    isClosed = true;
  };
  return { handle: { close } as unknown as RawHandle, isClosed: () => isClosed };
}

describe('a connection that moves', () => {
  const limits = { maxConnections: 10, maxConnectionsPerAddress: 0, maxNewConnectionsPerSecond: 0 };
  const log = createLog({ level: 'silent', format: 'json' }, { role: 'primary', node: 'n' });
  const move = { kind: 'migrate', id: '1.1', route: 'm', address: 'a' } as const;

  function migrationsOf(workers: readonly WorkerHandle[]) {
    let lost = 0;
    const migrations = new Migrations({
      ledger: new ConnectionLedger(limits, 0),
      log,
      workers: () => workers,
      wantedRevision: () => 1,
      isReloading: () => false,
      onLost: () => {
        lost++;
      },
    });
    migrations.stop();
    return { migrations, lost: () => lost };
  }

  it('goes to another worker, and is let go of here when that has it', () => {
    const [from, to] = [worker(0), worker(1)];
    const { migrations, lost } = migrationsOf([from.handle, to.handle]);
    const { handle, isClosed } = connection();
    migrations.begin(from.handle, move, handle);
    expect(to.sent.map(({ kind }) => kind)).to.deep.equal(['attach']);
    migrations.attached({ kind: 'attached', id: '1.1' });
    expect([isClosed(), lost()]).to.deep.equal([true, 0]);
  });

  it('is lost, and closed, when either worker ends before it has moved whole', () => {
    for (const ended of ['from', 'to'] as const) {
      const [from, to] = [worker(0), worker(1)];
      const { migrations, lost } = migrationsOf([from.handle, to.handle]);
      const { handle, isClosed } = connection();
      migrations.begin(from.handle, move, handle);
      migrations.gone({ from, to }[ended].handle);
      expect(lost()).to.equal(1);
      if (ended === 'from') migrations.attached({ kind: 'attached', id: '1.1' }); // told that nothing more comes
      expect(to.sent.map(({ kind }) => kind)).to.deep.equal(ended === 'to' ? ['attach'] : ['attach', 'attach-state']);
      expect(isClosed()).to.equal(true);
    }
  });
});
