import { expect } from 'chai';
import fc from 'fast-check';
import type { Refusal } from '#src/ipc/messages.js';
import type { RawHandle } from '#src/net/raw-handle.js';
import { AdmissionControl } from '#src/primary/connections/admission-control.js';
import { ConnectionLedger } from '#src/primary/connections/connection-ledger.js';
import {
  type Connection,
  Dispatcher,
  maxAwaitingPermit,
  maxUnacknowledged,
  permitGraceMs,
  type Receiver,
} from '#src/primary/connections/dispatcher.js';
import { withClock } from '../../../support/clock.js';

interface FakeHandle extends RawHandle {
  isReset: boolean;
  isClosed: boolean;
}

function client(): FakeHandle {
  const handle = {
    isReset: false,
    isClosed: false,
    getpeername: (peer: { address?: string }) => {
      if (handle.isReset) return -107;
      peer.address = '10.0.0.7';
      return 0;
    },
    close: () => {
      handle.isClosed = true;
    },
  };
  return handle as unknown as FakeHandle;
}

class Worker implements Receiver {
  connections = 0;
  readonly peers = new Map<string, number>();
  readonly unacknowledged: Connection[] = [];
  readonly given: RawHandle[] = [];
  readonly #listeners: readonly string[];

  constructor(...listeners: readonly string[]) {
    this.#listeners = listeners;
  }

  hasListener(listener: string): boolean {
    return this.#listeners.includes(listener);
  }

  give({ handle }: Connection): void {
    this.given.push(handle);
  }
}

const timeoutMs = 5000;

function primary({ maxConnections = 1000, maxWaiting = 1000 } = {}) {
  const server = { maxConnections, maxConnectionsPerAddress: 0, maxNewConnectionsPerSecond: 0, allow: [], deny: [] };
  const ledger = new ConnectionLedger(server, 0);
  const refused: Partial<Record<Refusal, number>> = {};
  const admission = new AdmissionControl(
    ledger,
    server as unknown as ConstructorParameters<typeof AdmissionControl>[1],
    (refusals) => {
      for (const [reason, count] of refusals) refused[reason] = (refused[reason] ?? 0) + count;
      return true;
    },
  );
  const dispatcher = new Dispatcher({ ledger, admission, maxWaiting, timeoutMs: () => timeoutMs });
  const accept = (count: number, listener = 'a'): FakeHandle[] =>
    Array.from({ length: count }, () => {
      const handle = client();
      dispatcher.accept(handle, listener);
      return handle;
    });
  return { ledger, dispatcher, accept, refused };
}

describe('a connection that the primary has accepted', () => {
  const clock = withClock();

  it('goes to the worker that has the fewest, in turn where several have', () => {
    const { dispatcher, accept, ledger } = primary();
    const workers = [new Worker('a'), new Worker('a'), new Worker('a')];
    for (const worker of workers) dispatcher.join(worker);
    accept(6);
    expect(workers.map(({ connections }) => connections)).to.deep.equal([2, 2, 2]);
    ledger.release(workers[1] as Worker, ['10.0.0.7', '10.0.0.7']);
    accept(2);
    expect(workers.map(({ given }) => given.length)).to.deep.equal([2, 4, 2]);
    for (const worker of workers) ledger.release(worker, ['10.0.0.7', '10.0.0.7']);
    for (let i = 0; i < 3; i++) {
      accept(1);
      for (const worker of workers) if (worker.connections > 0) ledger.release(worker, ['10.0.0.7']);
    }
    expect(workers.map(({ given }) => given.length)).to.have.members([3, 5, 3]);
  });

  it('goes to a worker whose config has its listener', () => {
    const { dispatcher, accept } = primary();
    const [one, other] = [new Worker('a'), new Worker('a', 'b')];
    dispatcher.join(one);
    dispatcher.join(other);
    accept(3, 'b');
    expect([one.given.length, other.given.length]).to.deep.equal([0, 3]);
  });

  it('waits, in its order, while each worker has sixteen that it has not acknowledged', () => {
    const { dispatcher, accept } = primary();
    const worker = new Worker('a');
    dispatcher.join(worker);
    const clients = accept(maxUnacknowledged + 5);
    expect(worker.given).to.deep.equal(clients.slice(0, maxUnacknowledged));
    dispatcher.acknowledged(worker, 3);
    expect(worker.given).to.deep.equal(clients.slice(0, maxUnacknowledged + 3));
    expect(clients.map(({ isClosed }) => isClosed)).to.deep.equal(clients.map((_, i) => i < 3));
    accept(1);
    expect(worker.given.length, 'nobody overtakes').to.equal(maxUnacknowledged + 3);
  });

  it('goes to another worker when the first dies and has not acknowledged it', () => {
    const { dispatcher, accept, ledger } = primary();
    const [dead, heir] = [new Worker('a'), new Worker('a')];
    dispatcher.join(dead);
    const clients = accept(6);
    dispatcher.acknowledged(dead, 2);
    dispatcher.gone(dead);
    ledger.releaseAll(dead);
    expect(heir.given).to.deep.equal([]);
    dispatcher.join(heir);
    expect(heir.given).to.deep.equal(clients.slice(2));
    expect([dead.connections, dispatcher.connections, heir.connections]).to.deep.equal([0, 0, 4]);
    expect(clients.filter(({ isClosed }) => isClosed)).to.deep.equal(clients.slice(0, 2));
  });

  it('waits no longer than config says where no worker lives: then it is closed, counted, and its permit free', () => {
    const { dispatcher, accept, refused } = primary({ maxConnections: 3 });
    const early = accept(2);
    clock().tick(timeoutMs / 2);
    const late = accept(1);
    clock().tick(timeoutMs / 2);
    expect([...early, ...late].map(({ isClosed }) => isClosed)).to.deep.equal([true, true, false]);
    clock().tick(100);
    expect(refused).to.deep.equal({ refusedByWait: 2 });
    const worker = new Worker('a');
    accept(1);
    dispatcher.join(worker);
    expect(worker.given.length).to.equal(2);
  });

  it('is refused when more wait than there are descriptors for, or permits', () => {
    const { dispatcher, accept, refused } = primary({ maxConnections: 4, maxWaiting: 2 });
    expect(accept(3).map(({ isClosed }) => isClosed)).to.deep.equal([false, false, true]);
    clock().tick(100);
    expect(refused).to.deep.equal({ refusedByDescriptors: 1 });
    expect(dispatcher.connections).to.equal(2);
  });

  it('is let go of when its client has left, or its listener is closed, before a worker could have it', () => {
    const { dispatcher, accept, refused } = primary();
    const [gone, there] = accept(2);
    const [other] = accept(1, 'b');
    if (gone !== undefined) gone.isReset = true;
    dispatcher.forget('b');
    const worker = new Worker('a', 'b');
    dispatcher.join(worker);
    expect(worker.given).to.deep.equal([there]);
    expect([gone?.isClosed, other?.isClosed, dispatcher.connections]).to.deep.equal([true, true, 0]);
    clock().tick(timeoutMs);
    expect(refused).to.deep.equal({});
  });

  it('that is refused is told so by a worker, however many that has not acknowledged', () => {
    const { dispatcher, accept } = primary({ maxConnections: maxUnacknowledged });
    const worker = new Worker('a');
    dispatcher.join(worker);
    accept(maxUnacknowledged + 2);
    clock().tick(permitGraceMs);
    const decisions = worker.unacknowledged.slice(-3).map(({ permit }) => permit.decision);
    expect(decisions).to.deep.equal(['granted', 'refusedByLimit', 'refusedByLimit']);
  });

  it('waits a moment for a permit, since the end of another connection may just be on its way here', () => {
    const { dispatcher, accept, ledger, refused } = primary({ maxConnections: 2 });
    const worker = new Worker('a');
    dispatcher.join(worker);
    accept(2);
    const [third, fourth, fifth] = accept(3);
    expect(worker.given).to.have.lengthOf(2);
    ledger.release(worker, ['10.0.0.7']);
    dispatcher.released();
    expect(worker.given).to.deep.equal([...worker.given.slice(0, 2), third]);
    if (fourth !== undefined) fourth.isReset = true;
    clock().tick(permitGraceMs);
    expect(worker.unacknowledged.slice(2).map(({ handle, permit }) => [handle, permit.decision])).to.deep.equal([
      [third, 'granted'],
      [fifth, 'refusedByLimit'],
    ]);
    expect(fourth?.isClosed).to.equal(true);
    expect(refused, 'the worker counts the fifth').to.deep.equal({});
  });

  it('waits for a permit only with so many others: in a storm all further ones are refused at once', () => {
    const { dispatcher, accept } = primary({ maxConnections: 1 });
    const worker = new Worker('a');
    dispatcher.join(worker);
    accept(1 + maxAwaitingPermit);
    expect(worker.unacknowledged).to.have.lengthOf(1);
    accept(3);
    expect(worker.unacknowledged).to.have.lengthOf(4);
    dispatcher.forget('a');
    clock().tick(100);
    expect(worker.unacknowledged, 'those that waited were closed with the listener').to.have.lengthOf(4);
  });

  it('is held by one process at every moment, whoever comes, acknowledges and dies', () => {
    const steps = fc.array(
      fc.record({ kind: fc.constantFrom('accept', 'acknowledge', 'end', 'die', 'join'), who: fc.nat(2) }),
      { maxLength: 120 },
    );
    fc.assert(
      fc.property(steps, (taken) => {
        const { dispatcher, accept, ledger } = primary();
        const workers = new Set<Worker>();
        const handles: FakeHandle[] = [];
        let ended = 0;
        for (const { kind, who } of taken) {
          const worker = [...workers][who];
          if (kind === 'accept') handles.push(...accept(10));
          else if (kind === 'join' && workers.size < 3) {
            const joined = new Worker('a');
            workers.add(joined);
            dispatcher.join(joined);
          } else if (worker === undefined) continue;
          else if (kind === 'acknowledge') dispatcher.acknowledged(worker, who + 1);
          else if (kind === 'end' && worker.connections > worker.unacknowledged.length) {
            ledger.release(worker, ['10.0.0.7']);
            ended++;
          } else if (kind === 'die') {
            workers.delete(worker);
            dispatcher.gone(worker);
            ended += worker.connections;
            ledger.releaseAll(worker);
          }
          const inFlight = [...workers].flatMap(({ unacknowledged }) => unacknowledged);
          const held = [...workers].reduce((sum, { connections }) => sum + connections, dispatcher.connections);
          expect(held + ended).to.equal(handles.length);
          expect(handles.filter(({ isClosed }) => !isClosed).length).to.equal(inFlight.length + dispatcher.connections);
          for (const { unacknowledged } of workers) expect(unacknowledged.length).to.be.at.most(maxUnacknowledged);
        }
        for (const listener of ['a']) dispatcher.forget(listener);
      }),
    );
  });
});
