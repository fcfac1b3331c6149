// What the primary publishes: the node's own record at an interval, and what workers left behind as soon as possible.
// Counts taken over from workers and from earlier runs are in the ledger before their sources are removed.

import { clusterIdentity } from '../../config/describe.js';
import type { Config } from '../../config/load.js';
import { messageOf, OperatorError } from '../../errors.js';
import type { CounterFileOwner, DepartedCounterFile } from '../../metrics/counter-file.js';
import type { WorkerCounter } from '../../metrics/counters.js';
import { CountsSum } from '../../metrics/merge.js';
import { nodeRecordId, type WorkerCounts } from '../../metrics/snapshot.js';
import type { RecordPublisher } from '../../metrics/transport/transport.js';
import type { Log } from '../../process/log.js';
import type { WorkerHandle } from '../supervision/worker-handle.js';
import { DepartedCounters } from './departed-counters.js';
import { Ledger } from './ledger.js';
import { Leftovers } from './leftovers.js';
import type { NodeRecordKeeper } from './node-record.js';

/**
 * A worker that was just starting when its primary was killed may open its counter file as late as this: until then
 * each publication sweeps the folder.
 */
const latestOrphanMs = 10_000;
/** How often the folder is swept after that, for what other servers leave behind. */
const sweepEveryMs = 5000;
/**
 * The shortest time between two saves of counts that belong to no worker: each save waits for the disk, and log lines
 * may be lost all the time.
 */
const saveCountsEveryMs = 1000;

/** A worker of this run, as its counts concern it. */
export type CountingWorker = Pick<WorkerHandle, 'slot' | 'incarnation' | 'lastRecord'>;

export interface NodePublishingOptions {
  readonly config: Pick<Config, 'redis' | 'cluster' | 'metrics'>;
  readonly run: string;
  readonly record: NodeRecordKeeper;
  readonly publisher: RecordPublisher;
  /** Whether what is published outlives this process tree. */
  readonly isLasting: boolean;
  /** The folder of counter files; null when there are none. */
  readonly folder: string | null;
  readonly log: Log;
}

export class NodePublishing {
  readonly #options: NodePublishingOptions;
  readonly #cluster: string;
  readonly #node: string;
  readonly #departedCounters: DepartedCounters;
  readonly #leftovers: Leftovers | null;
  #ledger: Ledger | null = null;
  #timer: NodeJS.Timeout | undefined;
  #saving: NodeJS.Immediate | null = null;
  /** Whether the ledger is out of date. */
  #isDirty = false;
  /** Whether it lacks counts that belong to no worker, and when those were last written. */
  #hasCounted = false;
  #countsSavedAt = Number.NEGATIVE_INFINITY;
  /** The ledger belongs to the successor: nothing is written to it, and nothing that it lacks is removed. */
  #isEnded = false;
  #sweptAt = Number.NEGATIVE_INFINITY;
  #underWay: Promise<void> | null = null;

  constructor(options: NodePublishingOptions) {
    const { config, folder, run, record, publisher, log } = options;
    const { metrics } = config;
    this.#options = options;
    this.#cluster = clusterIdentity(config);
    this.#node = config.cluster.node;
    this.#departedCounters = new DepartedCounters(folder);
    this.#leftovers =
      folder === null
        ? null
        : new Leftovers({
            folder,
            run,
            cluster: this.#cluster,
            node: this.#node,
            publisher,
            heir: {
              hasRun: (earlier) => record.hasContained(earlier),
              take: (counterFile) => this.#takeOver(counterFile),
            },
            // Once the aggregators have folded that node away, it is too late.
            takeOverMs: Math.min(metrics.takeOverSeconds, metrics.nodeRetentionSeconds / 2) * 1000,
            retentionMs: metrics.leftoverRetentionDays * 86_400_000,
            log,
          });
  }

  /**
   * Takes over the counts of earlier runs of the node, and publishes from then on. Throws OperatorError CONFIG_INVALID.
   */
  async begin(): Promise<void> {
    this.#ledger = await this.#openLedger();
    await this.#claim();
    await this.#leftovers?.sweep(true);
    this.#isDirty = true;
    this.#save();
    // At once, since /metrics would otherwise show the first workers without their node.
    void this.publish();
    this.#timer = setInterval(() => void this.publish(), this.#options.config.metrics.publishIntervalMs);
  }

  /** A worker is gone: its counts belong to the node from now on. */
  fold(worker: CountingWorker): void {
    const { incarnation, lastRecord } = worker;
    const counts = this.#departedCounters.take(this.#ownerOf(worker)) ?? lastRecord?.counts ?? null;
    this.#options.record.fold(incarnation, counts);
    this.#saveSoon();
    void this.publish();
  }

  /**
   * What the node has counted so far: these workers, who have not been folded yet, and those who have, of earlier runs
   * too. Of a worker without a counter file, it is what it last published.
   */
  counts(workers: readonly CountingWorker[]): WorkerCounts {
    const sum = new CountsSum();
    sum.add(this.#options.record.counts.departed);
    for (const worker of workers) {
      const counts = this.#departedCounters.read(this.#ownerOf(worker)) ?? worker.lastRecord?.counts;
      if (counts !== undefined) sum.add(counts);
    }
    return sum.value();
  }

  #ownerOf({ slot, incarnation }: CountingWorker): CounterFileOwner {
    return { cluster: this.#cluster, node: this.#node, run: this.#options.run, slot, incarnation };
  }

  /** Counts what belongs to no worker. */
  count(counter: WorkerCounter, by = 1): void {
    this.#options.record.count(counter, by);
    this.#hasCounted = true;
  }

  /** Never rejects: the connection's state already shows a failure, and the next publication has everything again. */
  publish(): Promise<void> {
    // Publications do not queue: after one that is under way, the next comes with the timer.
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
    this.#save();
    this.#isEnded = true;
    this.#ledger?.close();
  }

  async #publishOnce(): Promise<void> {
    const { publisher, record } = this.#options;
    const isDue = this.#hasCounted && performance.now() - this.#countsSavedAt >= saveCountsEveryMs;
    if (this.#isDirty || isDue) this.#save();
    const { retires, unsafe } = this.#departedCounters;
    await publisher.publish({ record: record.snapshot(), retires });
    this.#departedCounters.published(retires);
    if (this.#ledger === null) this.#departedCounters.safe(unsafe);
    await this.#sweep();
  }

  async #sweep(): Promise<void> {
    if (this.#isEnded) return;
    const isEarly = this.#options.record.uptimeMs < latestOrphanMs;
    if (!isEarly && performance.now() - this.#sweptAt < sweepEveryMs) return;
    this.#sweptAt = performance.now();
    // Another primary of this node may have died and not been restarted.
    await this.#claim();
    await this.#leftovers?.sweep();
  }

  /** Null when no ledger is wanted, or none can be kept. */
  async #openLedger(): Promise<Ledger | null> {
    const { config, run, folder, isLasting, log } = this.#options;
    const { ledgerFolder } = config.metrics;
    // Counts that do not last begin with this process tree, unless config asks for a ledger.
    const where = ledgerFolder || (isLasting ? folder : null);
    if (where === null) return null;
    try {
      return await Ledger.open(where, { cluster: this.#cluster, node: this.#node, run }, log);
    } catch (error) {
      const reason = messageOf(error, 300);
      if (ledgerFolder !== '' && (error as NodeJS.ErrnoException).code !== 'ENOSPC')
        throw new OperatorError(
          'CONFIG_INVALID',
          `the ledger cannot be kept in ${where}: ${reason}; choose a local folder of this user with metrics.ledgerFolder (LEDGER_FOLDER)`,
          { cause: error },
        );
      log.error({ folder: where, reason }, 'no ledger: what earlier runs of this node counted is in Redis alone');
      return null;
    }
  }

  async #claim(): Promise<void> {
    const { record } = this.#options;
    for (const earlier of (await this.#ledger?.claim()) ?? []) {
      record.contain(earlier);
      this.#departedCounters.retire([earlier, ...earlier.contains].map(({ run }) => nodeRecordId(this.#node, run)));
      this.#saveSoon();
    }
  }

  #takeOver({ owner, file }: DepartedCounterFile): void {
    const counts = this.#departedCounters.takeFile(owner, file);
    if (counts !== null) this.#options.record.foldEarlier(owner.run, owner.incarnation, counts);
    this.#saveSoon();
  }

  /** Everything that departs in one turn of the event loop is written at once. */
  #saveSoon(): void {
    this.#isDirty = true;
    this.#saving ??= setImmediate(() => this.#save());
  }

  #save(): void {
    if (this.#saving !== null) clearImmediate(this.#saving);
    this.#saving = null;
    if (this.#isEnded) return;
    if (this.#ledger === null) {
      // Counts that do not last are kept nowhere else: there is nothing to wait for.
      if (!this.#options.isLasting) this.#departedCounters.safe(this.#departedCounters.unsafe);
      this.#isDirty = false;
      return;
    }
    const { unsafe } = this.#departedCounters;
    this.#countsSavedAt = performance.now();
    if (!this.#ledger.save(this.#options.record.counts)) return;
    this.#isDirty = false;
    this.#hasCounted = false;
    this.#departedCounters.safe(unsafe);
  }
}
