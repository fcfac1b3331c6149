// What workers leave behind. Each keeps its counts in a slab that outlives it; the primary takes them over exactly once,
// and removes the slab only when what it held is safe: in the node's ledger or, without one, published. So nothing is
// lost if the primary dies as well: then the next primary of the node takes over what it finds.

import { removeLock } from '../metrics/lock.js';
import { departed, unsettledOf } from '../metrics/merge.js';
import { type DepartedSlab, lockName, readSlab, removeSlab, type SlabOwner, slabFile } from '../metrics/slab.js';
import { type WorkerCounts, type WorkerRecord, workerRecordId } from '../metrics/snapshot.js';
import type { RecordPublisher } from '../metrics/transport/transport.js';

export class Estate {
  readonly #folder: string | null;
  /** Ids of records that the node's record contains, until that has been published. */
  #unpublished: readonly string[] = [];
  /** Slabs whose counts the node's record has, until that is safe. */
  #unsafe: readonly string[] = [];

  /** @param folder null: workers keep no slabs */
  constructor(folder: string | null) {
    this.#folder = folder;
  }

  /** The counts of a worker that is gone; null when it left none. */
  take(owner: SlabOwner): WorkerCounts | null {
    if (this.#folder === null) {
      this.retire([recordIdOf(owner)]);
      return null;
    }
    removeLock(this.#folder, lockName(owner));
    return this.takeFile(owner, slabFile(this.#folder, owner));
  }

  /** The same, where the slab has been found. */
  takeFile(owner: SlabOwner, file: string): WorkerCounts | null {
    this.retire([recordIdOf(owner)]);
    if (!this.#unsafe.includes(file)) this.#unsafe = [...this.#unsafe, file];
    return readSlab(file)?.counts ?? null;
  }

  /** Records that the node's record contains from now on. */
  retire(ids: readonly string[]): void {
    this.#unpublished = [...new Set([...this.#unpublished, ...ids])];
  }

  /** What the next publication of the node's record retires. */
  get retires(): readonly string[] {
    return this.#unpublished;
  }

  /** The slabs that wait for `safe`. */
  get unsafe(): readonly string[] {
    return this.#unsafe;
  }

  /** What these slabs held is safe elsewhere. */
  safe(files: readonly string[]): void {
    for (const file of files) removeSlab(file);
    this.#unsafe = this.#unsafe.filter((file) => !files.includes(file));
  }

  /** The node's record that retired these has been published. */
  published(retired: readonly string[]): void {
    this.#unpublished = this.#unpublished.filter((id) => !retired.includes(id));
  }
}

const recordIdOf = ({ node, run, slot, incarnation }: SlabOwner): string =>
  workerRecordId(node, run, slot, incarnation);

/** Publishes the last counts of an orphan under its own name. Where its node had folded it already, that does no harm. */
export async function publishOrphan(slab: DepartedSlab, publisher: RecordPublisher): Promise<void> {
  const counts = readSlab(slab.file)?.counts;
  if (counts === undefined) return;
  // After every record that it published itself.
  const record = orphanRecord({ ...slab, counts: departed(counts) }, Number.MAX_SAFE_INTEGER);
  await publisher.publish({ record, retires: [] });
  removeSlab(slab.file);
}

/** What an orphan counted so far, as a record of its own, where Redis has none of it: before all that it published. */
export function earlyOrphanRecord(slab: DepartedSlab): WorkerRecord {
  return orphanRecord(slab, 0);
}

function orphanRecord({ owner, pid, counts }: DepartedSlab, sequence: number): WorkerRecord {
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
