// What chaos falls upon: a node, an aggregator and a Redis, at addresses that stay, under load of witnesses.

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Redis } from 'ioredis';
import type { Metrics } from '#src/aggregator/metrics.js';
import { readSlabs } from '#src/metrics/slab.js';
import type { ServerStatus } from '#src/operations.js';
import { startNode, TestAggregator } from '../support/cluster.js';
import { temporaryFolder } from '../support/folder.js';
import { freePort, isRunning, root, type TestProcess, workersOf } from '../support/processes.js';
import { RedisServer } from '../support/redis-server.js';
import type { TestServer } from '../support/server.js';
import { until } from '../support/until.js';
import { Witness } from '../support/witness.js';

const clients = 24;
export const initialWorkers = 2;
const hangTimeoutMs = 1000;

export interface Footprint {
  readonly descriptors: number;
  readonly rssMb: number;
}

export class ChaosCluster {
  readonly port: number;
  redis: RedisServer;
  node: TestServer;
  aggregator: TestAggregator;
  readonly witnesses: readonly Witness[];
  /** Of the primary when it began. */
  baseline: Footprint;
  readonly #folder: string;
  /** Every process that was ever seen below a primary. */
  readonly #seen = new Set<number>();
  /** Primaries and aggregators that there were. */
  readonly #started: TestProcess[] = [];

  private constructor(port: number, folder: string, redis: RedisServer, node: TestServer, aggregator: TestAggregator) {
    this.port = port;
    this.#folder = folder;
    this.redis = redis;
    this.node = node;
    this.aggregator = aggregator;
    this.#started.push(node, aggregator);
    this.baseline = this.footprint();
    this.witnesses = Array.from(
      { length: clients },
      (_, i) => new Witness(i, port, { depth: 4, isReconnecting: true }),
    );
  }

  static async start(): Promise<ChaosCluster> {
    const folder = temporaryFolder();
    const port = await freePort();
    const redis = await RedisServer.start();
    writeConfig(folder, true);
    const node = startChaosNode(folder, port, redis);
    await node.event('ready');
    const aggregator = await TestAggregator.start({ REDIS_URL: redis.url }, await freePort());
    return new ChaosCluster(port, folder, redis, node, aggregator);
  }

  /** Pids of the workers that there are now. */
  get workers(): readonly number[] {
    const pids = workersOf(this.node);
    for (const pid of pids) this.#seen.add(pid);
    return pids;
  }

  /** Those of them that have a slab: one that stood still before would be known to its own primary alone. */
  get begun(): readonly number[] {
    const begun = new Set(readSlabs(`${this.#folder}/slabs`).map(({ pid }) => pid));
    return this.workers.filter((pid) => begun.has(pid));
  }

  /** Whole replies that clients have. */
  get replies(): number {
    return this.witnesses.reduce((sum, { replied }) => sum + replied, 0);
  }

  /** Requests that were sent on connections that closed before they were answered. */
  get lost(): number {
    return this.witnesses.reduce((sum, { lost }) => sum + lost, 0);
  }

  writeConfig(isValid: boolean): void {
    writeConfig(this.#folder, isValid);
  }

  async status(): Promise<ServerStatus> {
    return JSON.parse((await this.node.operate('status', '--json')).output) as ServerStatus;
  }

  async restartRedis(): Promise<void> {
    this.redis.signal('SIGKILL');
    await this.redis.ended();
    this.redis = await RedisServer.start(this.redis.port);
  }

  async restartAggregator(): Promise<void> {
    const { port } = new URL(this.aggregator.url);
    this.aggregator.signal('SIGKILL');
    await this.aggregator.ended();
    this.aggregator = await TestAggregator.start({ REDIS_URL: this.redis.url }, Number(port));
    this.#started.push(this.aggregator);
  }

  /** Kills the primary and starts it again under its name, at once. Workers of the old one end, hung ones as well. */
  async restartNode(): Promise<void> {
    const workers = this.workers;
    const { child } = this.node;
    if (child.exitCode !== null || child.signalCode !== null) throw new Error('the primary has ended by itself');
    const exited = new Promise((resolve) => child.once('exit', resolve)); // a hung worker holds its output open
    child.kill('SIGKILL');
    await exited;
    this.node = startChaosNode(this.#folder, this.port, this.redis);
    this.#started.push(this.node);
    await this.node.event('ready');
    this.baseline = this.footprint();
    const haveEnded = (): boolean => !workers.some(isRunning);
    await until('the workers of the old primary to end', haveEnded, { timeoutMs: 5000 });
  }

  /** Resolves when the number of workers is `initialWorkers` again and nothing changes any more. */
  async settle(): Promise<void> {
    let seen = 'nothing';
    const isSettled = async (): Promise<boolean> => {
      const { code, output } = await this.node.operate('scale', String(initialWorkers));
      seen = output;
      if (code !== 0) return false;
      const { state, workers } = await this.status();
      seen = `${state}: ${JSON.stringify(workers)}`;
      return (
        state === 'serving' && workers.length === initialWorkers && workers.every((worker) => worker.state === 'ready')
      );
    };
    await until('the node to settle', isSettled, { timeoutMs: 40_000 }).catch((error: Error) => {
      throw new Error(`${error.message}; it is ${seen}`, { cause: error });
    });
  }

  /** What all primaries and aggregators so far have printed, one after the other. */
  get log(): string {
    return this.#started.map((process) => `process ${process.pid}\n${process.output}\n`).join('\n');
  }

  metricsWhen(what: string, isThere: (metrics: Metrics) => boolean): Promise<Metrics> {
    return this.aggregator.when(what, isThere);
  }

  /** Processes below a primary that are still there. */
  orphans(): readonly number[] {
    return [...this.#seen].filter(isRunning);
  }

  /** Descriptors and memory of the primary. */
  footprint(): Footprint {
    const rssPages = Number(readFileSync(`/proc/${this.node.pid}/statm`, 'utf8').split(' ')[1]);
    return { descriptors: readdirSync(`/proc/${this.node.pid}/fd`).length, rssMb: (rssPages * 4096) / 2 ** 20 };
  }

  /** Files that the node should have removed at its end: all but the ledger of its last run. */
  leftovers(): readonly string[] {
    const slabs = `${this.#folder}/slabs`;
    const files = existsSync(slabs) ? readdirSync(slabs) : [];
    const ledgers = files.filter((name) => name.endsWith('.ledger'));
    return ledgers.length === 1 ? files.filter((name) => name !== ledgers[0]) : files;
  }

  /** Redis and the aggregator lose all that they know in the same moment, and the primary with them. */
  async restartAll(): Promise<void> {
    await Promise.all([this.restartRedis(), this.restartAggregator(), this.restartNode()]);
  }

  /** Redis forgets one record in two. */
  async loseRecords(): Promise<void> {
    const client = new Redis(this.redis.url, { lazyConnect: true, maxRetriesPerRequest: 1 });
    client.on('error', () => {});
    try {
      await client.connect();
      const ids = await client.hkeys('{mltcp:default}:records');
      const lost = ids.filter((_, i) => i % 2 === 0);
      if (lost.length > 0) await client.hdel('{mltcp:default}:records', ...lost);
    } catch {
      // It is gone itself at this moment.
    } finally {
      client.disconnect();
    }
  }
}

function startChaosNode(folder: string, port: number, redis: RedisServer): TestServer {
  const env = { REDIS_URL: redis.url, NODE_NAME: 'chaos', MODEL: 'echo', SLAB_FOLDER: `${folder}/slabs` };
  const settings = [
    `cluster.hangTimeoutMs=${hangTimeoutMs}`,
    'cluster.bootTimeoutSeconds=5',
    'server.maxConnections=500',
    'log.level=debug',
  ];
  const args = ['--config', `${folder}/config.json`, '--port', String(port), ...settings.flatMap((s) => ['--set', s])];
  return startNode({ ...env, WORKERS: String(initialWorkers) }, { args });
}

function writeConfig(folder: string, isValid: boolean): void {
  const path = isValid ? `${root}test/support/models/echo.mjs` : `${folder}/nowhere.mjs`;
  writeFileSync(`${folder}/config.json`, JSON.stringify({ models: [{ name: 'echo', backend: 'module', path }] }));
}
