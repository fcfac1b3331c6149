// Both transports of records keep one contract.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { liveRecordsOf, totalCounts } from '#src/metrics/merge.js';
import type { MetricsRecord } from '#src/metrics/snapshot.js';
import { IpcRelay } from '#src/metrics/transport/ipc.js';
import { clusterKeys, RedisPublisher, RedisSource } from '#src/metrics/transport/redis.js';
import { connectRedis, type RedisStateListener } from '#src/metrics/transport/redis-connection.js';
import type { RecordPublisher, RecordSource, RecordsSnapshot, RecordUpdate } from '#src/metrics/transport/transport.js';
import { endProcesses } from '../support/processes.js';
import { countsOf, nodeRecord, workerRecord } from '../support/records.js';
import { RedisServer, redisSettings } from '../support/redis-server.js';
import { until } from '../support/until.js';

interface Transport {
  readonly publisher: RecordPublisher;
  openSource(): Promise<RecordSource>;
  close(): Promise<void>;
}

function keepsTheContract(name: string, open: () => Promise<Transport>): void {
  describe(`the ${name} transport`, () => {
    let transport: Transport;
    let source: RecordSource;
    beforeEach(async () => {
      transport = await open();
      source = await transport.openSource();
    });
    afterEach(() => transport.close());

    const read = async (from = source): Promise<readonly MetricsRecord[]> =>
      (await from.read()).records.map(({ record }) => record);
    const received = async (): Promise<number> => totalCounts(liveRecordsOf(await read())).models.m?.received ?? 0;
    const seen = (what: string, isSeen: (records: readonly MetricsRecord[]) => boolean, from = source) =>
      until(what, async () => isSeen(await read(from)));

    it('starts empty', async () => {
      expect(await read()).to.deep.equal([]);
    });

    it('shows the newest version of each record, whole', async () => {
      const first = workerRecord({ slot: 0, sequence: 1 });
      const second = workerRecord({
        slot: 1,
        sequence: 1,
        counts: countsOf({ received: 2 ** 52 + 1, latency: [3, 4] }),
      });
      await transport.publisher.publish({ record: first, retires: [] });
      await transport.publisher.publish({ record: second, retires: [] });
      await transport.publisher.publish({ record: { ...first, sequence: 2 }, retires: [] });
      await seen('the second version', (records) => records.some(({ sequence }) => sequence === 2));
      expect(await read()).to.have.deep.members([{ ...first, sequence: 2 }, second]);
    });

    it('takes the same version twice without harm', async () => {
      const record = workerRecord({ counts: countsOf({ received: 5 }) });
      for (let i = 0; i < 3; i++) await transport.publisher.publish({ record, retires: [] });
      await seen('the record', (records) => records.length === 1);
      expect(await received()).to.equal(5);
    });

    it('shows everything to a reader that comes late', async () => {
      await transport.publisher.publish({ record: nodeRecord(), retires: [] });
      await transport.publisher.publish({ record: workerRecord(), retires: [] });
      const late = await transport.openSource();
      await seen('both records', (records) => records.length === 2, late);
    });

    it('replaces a worker by its node in one step: no look misses its counts or has them twice', async () => {
      const { publisher } = transport;
      let isDone = false;
      await publisher.publish({ record: nodeRecord({ sequence: 1 }), retires: [] });
      await publisher.publish({
        record: workerRecord({ incarnation: 1, counts: countsOf({ received: 1 }) }),
        retires: [],
      });
      await seen('the first worker', (records) => records.length === 2);
      const looking = (async () => {
        let least = 0;
        while (!isDone) {
          const total = await received();
          expect(total).to.be.at.least(least);
          least = total;
        }
        return least;
      })();
      for (let n = 1; n <= 200; n++) {
        const gone = workerRecord({ incarnation: n });
        const departed = countsOf({ received: n });
        await publisher.publish({
          record: nodeRecord({ sequence: n + 1, departed, folded: { upTo: n, except: [] } }),
          retires: [gone.id],
        });
        const next = workerRecord({ incarnation: n + 1, counts: countsOf({ received: 1 }) });
        await publisher.publish({ record: next, retires: [] });
      }
      await seen('the last worker', (records) =>
        records.some((record) => record.kind === 'worker' && record.incarnation === 201),
      );
      isDone = true;
      expect(await looking).to.be.within(200, 201);
      expect(await received()).to.equal(201);
      expect(await read()).to.have.lengthOf(2);
    });
  });
}

const ipcChild = fileURLToPath(new URL('../support/ipc-child.js', import.meta.url));

/** A publisher and readers in their own processes, with the relay of the primary between them. */
async function openIpc(): Promise<Transport> {
  const relay = new IpcRelay();
  const children: ChildProcess[] = [];
  const start = (): ChildProcess => {
    const child = fork(ipcChild, [], { serialization: 'advanced' });
    children.push(child);
    return child;
  };
  const worker = start();
  worker.on('message', (message: { kind: string; update: RecordUpdate }) => {
    if (message.kind === 'update') void relay.publish(message.update);
  });
  return {
    publisher: {
      publish: async (update) => {
        const published = once(worker, 'message', { signal: AbortSignal.timeout(5000) });
        worker.send({ kind: 'publish', update });
        await published;
      },
      close: async () => {},
    },
    openSource: async () => {
      const aggregator = start();
      await relay.attach(
        (update) => new Promise((resolve) => aggregator.send({ kind: 'update', update }, () => resolve())),
      );
      return {
        read: async () => {
          const answer = once(aggregator, 'message', { signal: AbortSignal.timeout(5000) });
          aggregator.send({ kind: 'read' });
          const [{ snapshot }] = (await answer) as [{ snapshot: RecordsSnapshot }];
          return snapshot;
        },
        close: async () => {},
      };
    },
    close: async () => {
      for (const child of children) {
        const exited = once(child, 'exit');
        child.disconnect();
        await exited;
      }
    },
  };
}

/** A real Redis server. */
async function openRedis(): Promise<Transport> {
  const redis = await RedisServer.start();
  const settings = redisSettings(redis.url);
  const opened: { close(): Promise<void> }[] = [];
  const ready = async <T extends { close(): Promise<void> }>(make: (onState: RedisStateListener) => T): Promise<T> => {
    const made = await new Promise<T>((resolve) => {
      const one: T = make((state) => state === 'back' && resolve(one));
    });
    opened.push(made);
    return made;
  };
  return {
    publisher: await ready((onState) => new RedisPublisher(settings, 'contract', onState)),
    openSource: () =>
      ready((onState) => new RedisSource(connectRedis(settings, onState), clusterKeys(settings, 'contract'))),
    close: async () => {
      for (const one of opened) await one.close();
      await endProcesses();
    },
  };
}

keepsTheContract('IPC', openIpc);
keepsTheContract('Redis', openRedis);
