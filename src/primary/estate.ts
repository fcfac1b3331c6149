// What workers leave behind. Each keeps its counts in a slab that outlives it; the primary takes them over exactly once,
// and removes the slab only when what it held has been published, so that nothing is lost if the primary dies as well:
// then the next primary of the node publishes what it finds.

import { existsSync, readFileSync } from 'node:fs';
import { removeLock } from '../metrics/lock.js';
import { departed } from '../metrics/merge.js';
import { type DepartedSlab, lockName, readSlab, removeSlab, type SlabOwner, slabFile } from '../metrics/slab.js';
import { type WorkerCounts, type WorkerRecord, workerRecordId } from '../metrics/snapshot.js';
import type { RecordPublisher } from '../metrics/transport/transport.js';

export class Estate {
  readonly #folder: string | null;
  /** Ids of records that the node's record contains, and their slabs, until that has been published. */
  #unpublished: { readonly id: string; readonly file: string }[] = [];

  /** @param folder null: workers keep no slabs */
  constructor(folder: string | null) {
    this.#folder = folder;
  }

  /** The counts of a worker that is gone; null when it left none. */
  take(owner: SlabOwner): WorkerCounts | null {
    if (this.#folder === null) return null;
    removeLock(this.#folder, lockName(owner));
    const file = slabFile(this.#folder, owner);
    const { node, run, slot, incarnation } = owner;
    this.#unpublished.push({ id: workerRecordId(node, run, slot, incarnation), file });
    return readSlab(file)?.counts ?? null;
  }

  /** What the next publication of the node's record retires. */
  get retires(): readonly string[] {
    return this.#unpublished.map(({ id }) => id);
  }

  /** Nobody will ask for it any more. */
  clear(): void {
    this.published(this.retires);
  }

  /** The node's record that retired these has been published. */
  published(retired: readonly string[]): void {
    const done = new Set(retired);
    for (const { id, file } of this.#unpublished) if (done.has(id)) removeSlab(file);
    this.#unpublished = this.#unpublished.filter(({ id }) => !done.has(id));
  }
}

/** Publishes the last counts of an orphan under its own name. Where its node had folded it already, that does no harm. */
export async function publishOrphan({ owner, pid, file }: DepartedSlab, publisher: RecordPublisher): Promise<void> {
  const counts = readSlab(file)?.counts;
  if (counts === undefined) return;
  const { node, run, slot, incarnation } = owner;
  const record: WorkerRecord = {
    kind: 'worker',
    id: workerRecordId(node, run, slot, incarnation),
    node,
    run,
    slot,
    incarnation,
    // After every record that it published itself.
    sequence: Number.MAX_SAFE_INTEGER,
    uptimeMs: 0,
    pid,
    counts: departed(counts),
    gauges: {
      state: 'draining',
      connections: 0,
      inFlight: 0,
      models: {},
      rssBytes: 0,
      cpuSeconds: 0,
      cpuShare: 0,
      eventLoopUtilization: 0,
      eventLoopDelayP99Ms: 0,
    },
  };
  await publisher.publish({ record, retires: [] });
  removeSlab(file);
}

/** One that has ended and that nobody has waited for yet (a zombie) does not run. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  try {
    // The state follows the name of the program, which is in parentheses.
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return !existsSync('/proc/self/stat'); // it has just ended, unless there is no /proc to look in
  }
}
