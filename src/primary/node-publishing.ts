// What the primary publishes: the node's own record every so often, and what workers left behind as soon as it can.

import { clusterIdentity } from '../config/describe.js';
import type { Config } from '../config/load.js';
import { type DepartedSlab, defaultSlabFolder, removeSlab } from '../metrics/slab.js';
import type { RecordPublisher } from '../metrics/transport/transport.js';
import { Estate, isWorking, orphans, publishOrphan } from './estate.js';
import type { NodeRecordKeeper } from './node-record.js';
import type { WorkerHandle } from './worker-handle.js';

/** Time that workers of a primary that was killed have to end by themselves; then they are killed. */
const orphanGraceMs = 1500;
/** One that was just starting when its primary was killed may open its slab as late as this. */
const latestOrphanMs = 10_000;

export interface NodePublishingOptions {
  readonly config: Config;
  readonly run: string;
  readonly record: NodeRecordKeeper;
  readonly publisher: RecordPublisher;
  /** Whether what is published outlives this process tree. */
  readonly isLasting: boolean;
}

export class NodePublishing {
  readonly #options: NodePublishingOptions;
  readonly #cluster: string;
  readonly #estate: Estate;
  readonly #timer: NodeJS.Timeout;
  readonly #folder: string;
  #orphans: readonly DepartedSlab[];
  #underWay: Promise<void> | null = null;

  constructor(options: NodePublishingOptions) {
    const { metrics } = options.config;
    this.#folder = metrics.slabFolder || defaultSlabFolder();
    this.#options = options;
    this.#cluster = clusterIdentity(options.config);
    this.#estate = new Estate(this.#folder);
    this.#orphans = this.#findOrphans();
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
    await this.publish();
    if (!this.#options.isLasting) this.#estate.clear();
  }

  async #publishOnce(): Promise<void> {
    const { publisher, record } = this.#options;
    const { retires } = this.#estate;
    await publisher.publish({ record: record.snapshot(), retires });
    this.#estate.published(retires);
    await this.#publishOrphans();
  }

  #findOrphans(): readonly DepartedSlab[] {
    return orphans(this.#folder, { cluster: this.#cluster, node: this.#options.config.cluster.node });
  }

  async #publishOrphans(): Promise<void> {
    if (process.uptime() * 1000 < latestOrphanMs) this.#orphans = this.#findOrphans();
    for (const orphan of this.#orphans) {
      if (isWorking(orphan)) {
        // It ends by itself when its primary has gone, unless it hangs.
        if (process.uptime() * 1000 > orphanGraceMs) process.kill(orphan.pid, 'SIGKILL');
        continue;
      }
      // What does not last begins with this process tree.
      if (this.#options.isLasting) await publishOrphan(orphan, this.#options.publisher);
      else removeSlab(orphan.file);
      this.#orphans = this.#orphans.filter((other) => other !== orphan);
    }
  }
}
