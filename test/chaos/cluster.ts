// The target of the chaos: two nodes, an aggregator and a Redis at fixed addresses, under load of clients.
//
//   clients ───────────────▶ near ─────────▶ Redis ◀─ aggregator
//   clients ── clientLink ─▶ near               ▲
//   clients ───────────────▶ far ── redisLink ──┘

import type { Metrics } from '#src/aggregator/metrics.js';
import type { CheckedClient } from '../support/checked-client.js';
import { TestAggregator } from '../support/cluster.js';
import { freePort } from '../support/processes.js';
import { RedisServer } from '../support/redis-server.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { ChaosNode, retentionSeconds } from './node.js';

export class ChaosCluster {
  redis: RedisServer;
  aggregator: TestAggregator;
  /** While it is restarting, nobody can know which aggregator answers. */
  isAggregatorRestarting = false;
  readonly near: ChaosNode;
  readonly far: ChaosNode;
  /** `clientLink` is between some clients and `near`, `redisLink` between `far` and Redis. */
  readonly clientLink: TcpProxy;
  readonly redisLink: TcpProxy;
  /** What events have found wrong, in words. */
  readonly faults: string[] = [];
  /** Requests that did not come from `clients`: they may have been answered. */
  othersAsked = 0;
  /** What events have begun and not finished yet; each mends by itself. */
  readonly #pending = new Set<Promise<void>>();
  readonly #aggregators: TestAggregator[];

  private constructor(
    redis: RedisServer,
    aggregator: TestAggregator,
    [near, far]: readonly [ChaosNode, ChaosNode],
    [clientLink, redisLink]: readonly [TcpProxy, TcpProxy],
  ) {
    this.redis = redis;
    this.aggregator = aggregator;
    this.#aggregators = [aggregator];
    this.near = near;
    this.far = far;
    this.clientLink = clientLink;
    this.redisLink = redisLink;
    near.addCheckedClients(12, 0);
    near.addCheckedClients(4, 12, clientLink.port);
    far.addCheckedClients(8, 16);
  }

  static async start(): Promise<ChaosCluster> {
    const redis = await RedisServer.start();
    const redisLink = await TcpProxy.start(redis.port);
    const farRedis = `redis://127.0.0.1:${redisLink.port}`;
    const near = await ChaosNode.start({ name: 'near', workers: 2, redisUrl: redis.url });
    const far = await ChaosNode.start({ name: 'far', workers: 1, redisUrl: farRedis });
    const clientLink = await TcpProxy.start(near.port);
    const aggregator = await startAggregator(redis, await freePort());
    return new ChaosCluster(redis, aggregator, [near, far], [clientLink, redisLink]);
  }

  get nodes(): readonly ChaosNode[] {
    return [this.near, this.far];
  }

  get clients(): readonly CheckedClient[] {
    return this.nodes.flatMap(({ clients }) => clients);
  }

  /** Whole replies that clients have received. */
  get replies(): number {
    return this.clients.reduce((sum, { replied }) => sum + replied, 0);
  }

  /** Requests that were sent, had no reply, and may have been answered. */
  get lost(): number {
    return this.clients.reduce((sum, { lost }) => sum + lost, this.othersAsked);
  }

  /** Runs beside everything else; it must be over before the calm. */
  meanwhile(goOn: () => Promise<void>): void {
    const going = goOn().finally(() => this.#pending.delete(going));
    going.catch((error: Error) => this.faults.push(error.message));
    this.#pending.add(going);
  }

  /** Resolves when everything that events began is mended, and every node is as it was. */
  async settle(): Promise<void> {
    while (this.#pending.size > 0) await Promise.allSettled(this.#pending);
    for (const node of this.nodes) await node.settle();
  }

  async restartRedis(): Promise<void> {
    this.redis.signal('SIGKILL');
    await this.redis.ended();
    this.redis = await RedisServer.start(this.redis.port);
  }

  async restartAggregator(): Promise<void> {
    this.isAggregatorRestarting = true;
    const { port } = new URL(this.aggregator.url);
    this.aggregator.signal('SIGKILL');
    await this.aggregator.ended();
    this.aggregator = await startAggregator(this.redis, Number(port));
    this.#aggregators.push(this.aggregator);
    this.isAggregatorRestarting = false;
  }

  /** What all primaries and aggregators have printed so far. */
  get log(): string {
    const aggregators = this.#aggregators.map(({ pid, output }) => `aggregator ${pid}\n${output}`);
    return [...this.nodes.map(({ log }) => log), ...aggregators].join('\n\n');
  }

  metricsWhen(what: string, isThere: (metrics: Metrics) => boolean): Promise<Metrics> {
    return this.aggregator.when(what, isThere);
  }
}

function startAggregator(redis: RedisServer, port: number): Promise<TestAggregator> {
  return TestAggregator.start({ REDIS_URL: redis.url }, port, [
    '--set',
    `metrics.nodeRetentionSeconds=${retentionSeconds}`,
  ]);
}
