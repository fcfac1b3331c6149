// What the primary publishes: the node's own record every so often, and what workers left behind as soon as it can.

import { clusterIdentity } from '../config/describe.js';
import type { Config } from '../config/load.js';
import type { Log } from '../log.js';
import type { RecordPublisher } from '../metrics/transport/transport.js';
import { Estate } from './estate.js';
import { Leftovers } from './leftovers.js';
import type { NodeRecordKeeper } from './node-record.js';
import type { WorkerHandle } from './worker-handle.js';

/** One that was just starting when its primary was killed may open its slab as late as this: until then each publication looks. */
const latestOrphanMs = 10_000;
/** And later only so often, for what other servers leave behind. */
const sweepEveryMs = 5000;

export interface NodePublishingOptions {
  readonly config: Config;
  readonly run: string;
  readonly record: NodeRecordKeeper;
  readonly publisher: RecordPublisher;
  /** Whether what is published outlives this process tree. */
  readonly isLasting: boolean;
  /** Where slabs are; null: nowhere. */
  readonly folder: string | null;
  readonly log: Log;
}

export class NodePublishing {
  readonly #options: NodePublishingOptions;
  readonly #cluster: string;
  readonly #estate: Estate;
  readonly #timer: NodeJS.Timeout;
  readonly #leftovers: Leftovers | null;
  #sweptAt = Number.NEGATIVE_INFINITY;
  #underWay: Promise<void> | null = null;

  constructor(options: NodePublishingOptions) {
    const { config, folder, run, publisher, log } = options;
    const { metrics } = config;
    this.#options = options;
    this.#cluster = clusterIdentity(config);
    this.#estate = new Estate(folder);
    this.#leftovers =
      folder === null
        ? null
        : new Leftovers({
            folder,
            run,
            cluster: this.#cluster,
            node: config.cluster.node,
            publisher,
            // When the aggregators have folded that node away, it is too late.
            takeOverMs: Math.min(metrics.takeOverSeconds, metrics.nodeRetentionSeconds / 2) * 1000,
            retentionMs: metrics.leftoverRetentionDays * 86_400_000,
            log,
          });
    this.#timer = setInterval(() => void this.publish(), metrics.publishIntervalMs);
  }

  /** A worker has gone: what it counted is the node's from now on. */
  fold({ slot, incarnation, lastRecord }: WorkerHandle): void {
    const { config, run, record } = this.#options;
    const owner = { cluster: this.#cluster, node: config.cluster.node, run, slot, incarnation };
    record.fold(incarnation, this.#estate.take(owner) ?? lastRecord?.counts ?? null);
    void this.publish();
  }

  /** Never rejects: a failure is known from the connection's state already, and the next one carries all again. */
  publish(): Promise<void> {
    // Nothing queues: while one is under way, the next waits for its turn of the clock.
    this.#underWay ??= this.#publishOnce()
      .catch(() => {})
      .finally(() => {
        this.#underWay = null;
      });
    return this.#underWay;
  }

  /** Publishes for the last time. */
  async end(): Promise<void> {
    clearInterval(this.#timer);
    await this.#underWay;
    this.#options.record.isStopping = true;
    this.#sweptAt = Number.NEGATIVE_INFINITY;
    await this.publish();
    if (!this.#options.isLasting) this.#estate.clear();
  }

  async #publishOnce(): Promise<void> {
    const { publisher, record } = this.#options;
    const { retires } = this.#estate;
    await publisher.publish({ record: record.snapshot(), retires });
    this.#estate.published(retires);
    await this.#sweep();
  }

  async #sweep(): Promise<void> {
    const isEarly = process.uptime() * 1000 < latestOrphanMs;
    if (!isEarly && performance.now() - this.#sweptAt < sweepEveryMs) return;
    this.#sweptAt = performance.now();
    await this.#leftovers?.sweep();
  }
}
