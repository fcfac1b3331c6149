import { expect } from 'chai';
import fc from 'fast-check';
import type { Decision } from '#src/ipc/messages.js';
import { type ConnectionHolder, ConnectionLedger } from '#src/primary/connections/connection-ledger.js';

const unlimited = { maxConnections: 1000, maxConnectionsPerAddress: 0, maxNewConnectionsPerSecond: 0 };
const holder = (): ConnectionHolder => ({ connections: 0, peers: new Map() });
const many = (address: string, count: number): string[] => Array<string>(count).fill(address);

const admit = (
  ledger: ConnectionLedger,
  worker: ConnectionHolder,
  addresses: readonly string[],
  now: number,
): Decision[] => addresses.map((address) => ledger.admit(worker, address, now));

describe('the connection ledger', () => {
  it('never grants more than its limits, over all workers and for each address, and forgets none', () => {
    const steps = fc.array(
      fc.record({
        worker: fc.nat({ max: 2 }),
        to: fc.nat({ max: 2 }),
        kind: fc.constantFrom('admit', 'release', 'move', 'die'),
        address: fc.constantFrom('a', 'b', 'c'),
        count: fc.integer({ min: 1, max: 9 }),
      }),
    );
    fc.assert(
      fc.property(steps, (taken) => {
        const ledger = new ConnectionLedger({ ...unlimited, maxConnections: 10, maxConnectionsPerAddress: 5 }, 0);
        const workers = [holder(), holder(), holder()];
        const of = (address: string): number => workers.reduce((sum, { peers }) => sum + (peers.get(address) ?? 0), 0);
        const all = (): number => workers.reduce((sum, { connections }) => sum + connections, 0);
        for (const { worker: index, to, kind, address, count } of taken) {
          const worker = workers[index] as ConnectionHolder;
          const held = worker.peers.get(address) ?? 0;
          if (kind === 'admit') {
            const room = Math.min(count, 10 - all(), 5 - of(address));
            const verdicts = admit(ledger, worker, many(address, count), 0);
            expect(verdicts.filter((decision) => decision === 'granted')).to.have.length(room);
          }
          if (kind === 'release') ledger.release(worker, many(address, Math.min(count, held)));
          if (kind === 'move' && held > 0) ledger.move(worker, workers[to] as ConnectionHolder, address);
          if (kind === 'die') ledger.releaseAll(worker);
        }
        expect(all()).to.be.at.most(10);
        for (const worker of workers) {
          expect(worker.connections).to.equal([...worker.peers.values()].reduce((a, b) => a + b, 0));
        }
      }),
    );
  });

  it('says which limit it was', () => {
    const ledger = new ConnectionLedger({ ...unlimited, maxConnections: 3, maxConnectionsPerAddress: 2 }, 0);
    expect(admit(ledger, holder(), ['a', 'a', 'a', 'b', 'c'], 0)).to.deep.equal([
      'granted',
      'granted',
      'refusedByAddressLimit',
      'granted',
      'refusedByLimit',
    ]);
  });

  it('takes so many new connections a second, and as many at once when it was quiet before', () => {
    const ledger = new ConnectionLedger({ ...unlimited, maxNewConnectionsPerSecond: 10 }, 0);
    const granted = (count: number, now: number): number =>
      admit(ledger, holder(), many('a', count), now).filter((decision) => decision === 'granted').length;
    expect(granted(15, 0)).to.equal(10);
    expect(granted(15, 500)).to.equal(5);
    expect(granted(15, 500)).to.equal(0);
    expect(granted(50, 60_000)).to.equal(10);
    expect(ledger.admit(holder(), 'a', 60_000)).to.equal('refusedByRate');
  });
});
