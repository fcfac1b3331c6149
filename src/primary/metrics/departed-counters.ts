// Departed counters: each worker keeps its counts in a counter file that outlives it. The primary takes them over
// exactly once, and removes the counter file only when its counts are safe: in the node's ledger or, without one,
// published. So nothing is lost if the primary dies as well: the next primary of the node takes over what it finds.

import {
  type CounterFileOwner,
  counterFilePath,
  type DepartedCounterFile,
  lockName,
  readCounterFile,
  removeCounterFile,
} from '../../metrics/counter-file.js';
import { removeLock } from '../../metrics/lock.js';
import { departed, unsettledOf } from '../../metrics/merge.js';
import { type WorkerCounts, type WorkerRecord, workerRecordId } from '../../metrics/snapshot.js';
import type { RecordPublisher } from '../../metrics/transport/transport.js';

export class DepartedCounters {
  readonly #folder: string | null;
  /** Ids of records that the node's record contains, until that has been published. */
  #unpublished: readonly string[] = [];
  /** Counter files whose counts the node's record contains, until they are safe. */
  #unsafe: readonly string[] = [];

  /** @param folder null: workers keep no counter files */
  constructor(folder: string | null) {
    this.#folder = folder;
  }

  /** Takes over the counts of a worker that is gone; null when it left none. */
  take(owner: CounterFileOwner): WorkerCounts | null {
    if (this.#folder === null) {
      this.retire([recordIdOf(owner)]);
      return null;
    }
    removeLock(this.#folder, lockName(owner));
    return this.takeFile(owner, counterFilePath(this.#folder, owner));
  }

  /** The same, for a counter file that has been found. */
  takeFile(owner: CounterFileOwner, file: string): WorkerCounts | null {
    this.retire([recordIdOf(owner)]);
    if (!this.#unsafe.includes(file)) this.#unsafe = [...this.#unsafe, file];
    return readCounterFile(file)?.counts ?? null;
  }

  /** What a worker that may still live has counted so far; null when it has no counter file. */
  read(owner: CounterFileOwner): WorkerCounts | null {
    return this.#folder === null ? null : (readCounterFile(counterFilePath(this.#folder, owner))?.counts ?? null);
  }

  /** Adds records that the node's record contains from now on. */
  retire(ids: readonly string[]): void {
    this.#unpublished = [...new Set([...this.#unpublished, ...ids])];
  }

  /** The records that the next publication of the node's record retires. */
  get retires(): readonly string[] {
    return this.#unpublished;
  }

  /** The counter files that wait for `safe`. */
  get unsafe(): readonly string[] {
    return this.#unsafe;
  }

  /** The counts of these counter files are safe elsewhere: removes the files. */
  safe(files: readonly string[]): void {
    for (const file of files) removeCounterFile(file);
    this.#unsafe = this.#unsafe.filter((file) => !files.includes(file));
  }

  /** The node's record that retired these has been published. */
  published(retired: readonly string[]): void {
    this.#unpublished = this.#unpublished.filter((id) => !retired.includes(id));
  }
}

const recordIdOf = ({ node, run, slot, incarnation }: CounterFileOwner): string =>
  workerRecordId(node, run, slot, incarnation);

/**
 * Publishes the last counts of an orphan under its own name. That does no harm if its node has already folded them.
 */
export async function publishOrphan(counterFile: DepartedCounterFile, publisher: RecordPublisher): Promise<void> {
  const counts = readCounterFile(counterFile.file)?.counts;
  if (counts === undefined) return;
  // Newer than every record that the worker published itself.
  const record = orphanRecord({ ...counterFile, counts: departed(counts) }, Number.MAX_SAFE_INTEGER);
  await publisher.publish({ record, retires: [] });
  removeCounterFile(counterFile.file);
}

/** An orphan's counts so far as a record of its own, in case Redis has none: older than all that it published. */
export function earlyOrphanRecord(counterFile: DepartedCounterFile): WorkerRecord {
  return orphanRecord(counterFile, 0);
}

function orphanRecord({ owner, pid, counts }: DepartedCounterFile, sequence: number): WorkerRecord {
  const { node, run, slot, incarnation } = owner;
  return {
    kind: 'worker',
    id: recordIdOf(owner),
    node,
    run,
    slot,
    incarnation,
    sequence,
    uptimeMs: 0,
    pid,
    counts,
    gauges: {
      state: 'draining',
      connections: 0,
      inFlight: unsettledOf(counts),
      models: {},
      rssBytes: 0,
      cpuSeconds: 0,
      cpuShare: 0,
      eventLoopUtilization: 0,
      eventLoopDelayP99Ms: 0,
    },
  };
}
