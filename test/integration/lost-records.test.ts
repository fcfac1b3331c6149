// Redis may lose any part of what it keeps at any moment, and go back to an older state; living nodes may be taken for
// gone; primaries and aggregators die. Totals never fall, never exceed what was counted, and are exact as soon as the
// living nodes have published.

import { expect } from 'chai';
import fc from 'fast-check';
import { Redis } from 'ioredis';
import { compact } from '#src/aggregator/compaction.js';
import { liveRecordsOf, totalCounts } from '#src/metrics/merge.js';
import { workerRecordId } from '#src/metrics/snapshot.js';
import { type ClusterKeys, clusterKeys, RedisPublisher, RedisSource } from '#src/metrics/transport/redis.js';
import { connectRedis, type RedisClient } from '#src/metrics/transport/redis-connection.js';
import { RedisLease } from '#src/metrics/transport/redis-lease.js';
import { NodeRecordKeeper } from '#src/primary/metrics/node-record.js';
import { endProcesses } from '../support/processes.js';
import { countsOf, workerRecord } from '../support/records.js';
import { RedisServer, redisSettings } from '../support/redis-server.js';
import { until } from '../support/until.js';

interface ModelWorker {
  readonly slot: number;
  readonly incarnation: number;
  received: number;
  sequence: number;
}

/** A node, reduced to its records. */
class ModelNode {
  readonly #name: string;
  readonly #publisher: RedisPublisher;
  #runs = 0;
  #incarnations = 0;
  #keeper: NodeRecordKeeper;
  #workers: ModelWorker[] = [];
  #retires: string[] = [];
  isGone = false;

  constructor(name: string, publisher: RedisPublisher) {
    this.#name = name;
    this.#publisher = publisher;
    this.#keeper = this.#begin();
  }

  get run(): string {
    return `${this.#name}${this.#runs}`;
  }

  count(worker: number, requests: number): void {
    this.#worker(worker).received += requests;
  }

  killWorker(worker: number): void {
    const { slot, incarnation, received } = this.#worker(worker);
    this.#keeper.fold(incarnation, countsOf({ received, answered: received }));
    this.#retires.push(workerRecordId(this.#name, this.run, slot, incarnation));
    this.#workers[slot] = this.#newWorker(slot);
  }

  /** The primary is killed with its workers; its successor finds the ledger and what the workers left. */
  restart(): void {
    const { counts } = this.#keeper;
    const left = this.#workers;
    this.#keeper = this.#begin();
    this.#keeper.contain(counts);
    for (const { incarnation, received } of left)
      this.#keeper.foldEarlier(counts.run, incarnation, countsOf({ received, answered: received }));
  }

  async publishNode(): Promise<void> {
    await this.#publisher.publish({ record: this.#keeper.snapshot(), retires: this.#retires });
    this.#retires = [];
  }

  async publishWorker(worker: number): Promise<void> {
    const one = this.#worker(worker);
    const { slot, incarnation, received } = one;
    const counts = countsOf({ received, answered: received });
    const ids = { node: this.#name, run: this.run, slot, incarnation, sequence: ++one.sequence };
    await this.#publisher.publish({ record: workerRecord({ ...ids, counts }), retires: [] });
  }

  async publishAll(): Promise<void> {
    await this.publishNode();
    for (const { slot } of this.#workers) await this.publishWorker(slot);
  }

  #begin(): NodeRecordKeeper {
    this.#runs++;
    this.#incarnations = 0;
    this.#keeper = new NodeRecordKeeper({ node: this.#name, run: this.run, version: '' });
    this.#workers = [0, 1].map((slot) => this.#newWorker(slot));
    return this.#keeper;
  }

  #newWorker(slot: number): ModelWorker {
    const incarnation = ++this.#incarnations;
    this.#keeper.born(incarnation);
    return { slot, incarnation, received: 0, sequence: 0 };
  }

  #worker(worker: number): ModelWorker {
    return this.#workers[worker] as ModelWorker;
  }
}

class ModelAggregator {
  readonly #redis: RedisClient;
  readonly #keys: ClusterKeys;
  #source: RedisSource;
  #highest = 0;

  constructor(redis: RedisClient, keys: ClusterKeys) {
    this.#redis = redis;
    this.#keys = keys;
    this.#source = new RedisSource(redis, keys);
  }

  /** @returns the total; @param silent the runs that it takes for gone */
  async poll(truth: number, silent?: ReadonlySet<string>): Promise<number> {
    const { records, now } = await this.#source.read();
    const counting = liveRecordsOf(records.map(({ record }) => record));
    const total = totalCounts(counting).models.m?.received ?? 0;
    expect(total, 'a total that never falls').to.be.at.least(this.#highest);
    expect(total, 'a total that counts nothing twice').to.be.at.most(truth);
    this.#highest = total;
    if (silent !== undefined) await compact(this.#source, { live: counting, now }, silent);
    return total;
  }

  restart(): void {
    this.#source = new RedisSource(this.#redis, this.#keys);
    this.#highest = 0;
  }
}

const node = fc.nat(2);
const worker = fc.nat(1);
const aggregator = fc.nat(1);
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('count' as const), node, worker, requests: fc.nat(9) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('publish worker' as const), node, worker }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('publish node' as const), node }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('kill worker' as const), node, worker }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('restart node' as const), node }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('end node' as const), node }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('look' as const), aggregator }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('take for gone' as const), aggregator, node }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('lose fields' as const), which: fc.nat(255) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('lose all' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('keep a dump' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('restore the dump' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restart aggregator' as const), aggregator }) },
);

describe('records that Redis loses', function () {
  this.timeout(60_000);
  let redis: RedisClient;
  /** The connection by which a test changes what Redis keeps. */
  let store: Redis;
  let publisher: RedisPublisher;
  let clusters = 0;
  let settings: ReturnType<typeof redisSettings>;
  before(async () => {
    settings = redisSettings((await RedisServer.start()).url);
    redis = connectRedis(settings, () => {});
    store = new Redis(settings.url);
    await redis.whenUp();
  });
  after(async () => {
    redis.disconnect();
    store.disconnect();
    await endProcesses();
  });

  it('cost no count and add none, in whatever order nodes, aggregators and Redis fail', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), async (steps) => {
        const cluster = `c${++clusters}`;
        const keys = clusterKeys(settings, cluster);
        publisher = await new Promise<RedisPublisher>((resolve) => {
          const made: RedisPublisher = new RedisPublisher(settings, cluster, () => resolve(made));
        });
        const nodes = ['a', 'b', 'c'].map((name) => new ModelNode(name, publisher));
        const aggregators = [0, 1].map(() => new ModelAggregator(redis, keys));
        let truth = 0;
        let dump: Record<string, string> = {};
        const at = <T>(all: readonly T[], i: number): T => all[i] as T;
        try {
          for (const one of steps) {
            const model = 'node' in one ? at(nodes, one.node) : null;
            if (model?.isGone && one.do !== 'take for gone') continue;
            switch (one.do) {
              case 'count':
                truth += one.requests;
                model?.count(one.worker, one.requests);
                break;
              case 'publish worker':
                await model?.publishWorker(one.worker);
                break;
              case 'publish node':
                await model?.publishNode();
                break;
              case 'kill worker':
                model?.killWorker(one.worker);
                break;
              case 'restart node':
                model?.restart();
                break;
              case 'end node': {
                // What it counts last is published and seen: no other process could know it.
                if (model === null || nodes.filter(({ isGone }) => !isGone).length === 1) break;
                await model.publishAll();
                model.isGone = true;
                for (const each of aggregators) await each.poll(truth);
                break;
              }
              case 'look':
                await at(aggregators, one.aggregator).poll(truth);
                break;
              case 'take for gone':
                await at(aggregators, one.aggregator).poll(truth, new Set(model === null ? [] : [model.run]));
                break;
              case 'lose fields': {
                const fields = await store.hkeys(keys.records);
                const lost = fields.filter((_, i) => (one.which >> (i % 8)) & 1);
                if (lost.length > 0) await store.call('hdel', keys.records, ...lost);
                break;
              }
              case 'lose all':
                await store.del(keys.records);
                break;
              case 'keep a dump':
                dump = await store.hgetall(keys.records);
                break;
              case 'restore the dump':
                await store.del(keys.records);
                if (Object.keys(dump).length > 0) await store.hset(keys.records, dump);
                break;
              case 'restart aggregator':
                // The other aggregator has looked since Redis lost something.
                await at(aggregators, 1 - one.aggregator).poll(truth);
                at(aggregators, one.aggregator).restart();
                await at(aggregators, one.aggregator).poll(truth);
            }
          }
          for (let round = 0; round < 3; round++) {
            for (const model of nodes) if (!model.isGone) await model.publishAll();
            for (const each of aggregators) await each.poll(truth, new Set());
          }
          for (const each of [...aggregators, new ModelAggregator(redis, keys)])
            expect(await each.poll(truth), 'the total of all that was counted').to.equal(truth);
        } finally {
          await publisher.close();
          await store.flushall();
        }
      }),
      { numRuns: 120 },
    );
  });

  it('and a clock of Redis that is set leave ages true', async () => {
    const keys = clusterKeys(settings, 'clock');
    let stepMs = 0;
    const stepping = {
      eval: async (...args: Parameters<RedisClient['eval']>) => {
        const [now, fields] = (await redis.eval(...args)) as [string, string[]];
        return [String(Number(now) + stepMs), fields];
      },
    } as unknown as RedisClient;
    const clocked = new RedisPublisher(settings, 'clock', () => {});
    const model = new ModelNode('a', clocked);
    await until('a publication', () => model.publishAll().then(() => true));
    const source = new RedisSource(stepping, keys);
    const ages = async () => (await source.read()).records.map(({ ageMs }) => ageMs);
    const startedAt = performance.now();
    expect(await ages()).to.have.lengthOf(3);
    for (const hours of [1, -1, 24, 0]) {
      stepMs = hours * 3_600_000;
      for (const ageMs of await ages()) expect(ageMs).to.be.within(0, performance.now() - startedAt + 1000);
      await model.publishAll();
    }
    await clocked.close();
  });

  it('and a lease whose holder died before the clock was set back has a new holder soon', async () => {
    const keys = clusterKeys(settings, 'lease');
    await store.set(keys.leader, 'who has died 17'); // never expires, like one that would end only in hours
    const lease = new RedisLease(redis, keys.leader, 'another', 200);
    await until('the lease', () => lease.isHeld, { timeoutMs: 3000 });
    const rival = new RedisLease(redis, keys.leader, 'rival', 200);
    for (let look = 0; look < 20; look++) {
      await rival.renew();
      await new Promise((resolve) => setTimeout(resolve, 25)); // several lives of a lease
      expect([lease.isHeld, rival.isHeld]).to.deep.equal([true, false]);
    }
    await lease.release();
    await until('the lease to be the rival’s', () => rival.isHeld, { timeoutMs: 1000 });
    await rival.release();
  });
});
