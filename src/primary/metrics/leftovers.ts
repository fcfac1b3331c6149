// Counter files of servers that ended without cleaning up: killed, or gone with their container. The next primary of
// their node, which has the ledger of their run, takes them over; where there is none, another primary of the same
// cluster publishes them, so that no counts are lost. Files that nobody will claim are removed, so that they do not
// pile up in memory. Whether a server or a worker is alive is decided by its lock (see lock.ts), never by its pid.
//
//   RUN-SLOT-INCARNATION.slab ─ its primary and worker are dead ─▶ renamed to ….OWN RUN.slab ─▶ taken over ─▶ removed
//
// The rename gives the file to exactly one process; when that dies as well, another claims it from there.

import { readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { embeddedIdentity } from '../../config/describe.js';
import {
  type CounterFileName,
  claimedName,
  type DepartedCounterFile,
  parseCounterFileName,
  readCounterFile,
  removeCounterFile,
} from '../../metrics/counter-file.js';
import { isHeld, lockEnding, unbornEnding } from '../../metrics/lock.js';
import type { RecordPublisher } from '../../metrics/transport/transport.js';
import type { Log } from '../../process/log.js';
import { isRunningHere, type ProcessIdentity } from '../../process/process-identity.js';
import { earlyOrphanRecord, publishOrphan } from './departed-counters.js';

/** How long workers of a killed primary have to end by themselves before they are killed. */
const orphanGraceMs = 1500;
/** A lock on which no process listens after this time is abandoned. */
const unbornMs = 60_000;

/** Takes over from the runs whose ledgers this primary has. */
export interface Heir {
  hasRun(run: string): boolean;
  /** Takes over the counts of a worker of such a run, and removes the file when they are safe. */
  take(counterFile: DepartedCounterFile): void;
}

export interface LeftoversOptions {
  readonly heir: Heir;
  readonly folder: string;
  readonly run: string;
  readonly cluster: string;
  readonly node: string;
  readonly publisher: RecordPublisher;
  /** How long to wait before publishing the counter files of other nodes of the cluster for them. */
  readonly takeOverMs: number;
  /** The age at which counter files that nobody publishes are removed. */
  readonly retentionMs: number;
  readonly log: Log;
}

export class Leftovers {
  readonly #options: LeftoversOptions;
  readonly #startedAt = performance.now();
  /** By the name of the worker's lock: when its server was first seen dead. */
  readonly #deadSince = new Map<string, number>();

  constructor(options: LeftoversOptions) {
    this.#options = options;
  }

  /**
   * Goes through the folder once. Rejects when something cannot be published; the next sweep tries again.
   * @param isStart whether to do only what needs no publishing
   */
  async sweep(isStart = false): Promise<void> {
    const { folder, run, heir, publisher } = this.#options;
    const names = readdirSync(folder);
    const asked = new Map<string, Promise<boolean>>();
    const lives = (name: string): Promise<boolean> => {
      const answer = asked.get(name) ?? isHeld(folder, name);
      asked.set(name, answer);
      return answer;
    };
    for (const counterFile of names.flatMap((name) => parseCounterFileName(name) ?? [])) {
      if (counterFile.run === run || (isStart && !heir.hasRun(counterFile.run))) continue;
      const owners =
        counterFile.claimedBy === run
          ? [counterFile.run]
          : [counterFile.run, ...(counterFile.claimedBy === null ? [] : [counterFile.claimedBy])];
      const areOwned = await Promise.all(owners.map(lives));
      if (areOwned.includes(true)) continue;
      if (!(await lives(counterFile.worker))) await this.#settle(counterFile);
      else {
        this.#endHung(counterFile);
        const living =
          isStart || !heir.hasRun(counterFile.run) ? null : readCounterFile(join(folder, counterFile.name));
        // By now, nobody else may know of these counts.
        if (living !== null) await publisher.publish({ record: earlyOrphanRecord(living), retires: [] });
      }
    }
    if (isStart) return;
    for (const name of names) {
      if (name.endsWith(unbornEnding)) this.#removeIfOlder(name, unbornMs);
      else if (name.endsWith(lockEnding)) {
        const lock = name.slice(0, -lockEnding.length);
        if (!(await lives(lock))) rmSync(join(folder, name), { force: true });
      }
    }
  }

  async #settle(name: CounterFileName): Promise<void> {
    const { folder, cluster, node, heir, publisher, takeOverMs, retentionMs, log } = this.#options;
    const file = join(folder, name.name);
    const counterFile = readCounterFile(file);
    // Written by another version, or by a worker that was killed before it had finished.
    if (counterFile === null) return this.#removeIfOlder(name.name, retentionMs);
    const { owner } = counterFile;
    if (owner.cluster === embeddedIdentity) return removeCounterFile(file); // its counts ended with its server
    if (owner.cluster !== cluster) {
      if (!this.#isOlder(name.name, retentionMs)) return;
      log.warn(
        { node: owner.node, file },
        'counters of a server that never came back are removed: nobody of its cluster is here',
      );
      return removeCounterFile(file);
    }
    if (owner.node !== node && this.#deadForMs(name) < takeOverMs) return;
    const claimed = this.#claim(name);
    if (claimed === null) return;
    if (heir.hasRun(owner.run)) heir.take({ ...counterFile, file: claimed });
    else await publishOrphan({ ...counterFile, file: claimed }, publisher);
    this.#deadSince.delete(name.worker);
    log.info(
      { node: owner.node, run: owner.run, slot: owner.slot },
      'counters of a worker whose server was killed are published',
    );
  }

  /** Null when another process was quicker. */
  #claim(name: CounterFileName): string | null {
    const { folder, run } = this.#options;
    const claimed = join(folder, claimedName(name, run));
    try {
      renameSync(join(folder, name.name), claimed);
      return claimed;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
  }

  #deadForMs({ worker }: CounterFileName): number {
    const since = this.#deadSince.get(worker) ?? performance.now();
    this.#deadSince.set(worker, since);
    return performance.now() - since;
  }

  /**
   * A worker ends by itself when its primary is gone, unless it hangs: then it is killed. One in another container
   * could not even be addressed.
   */
  #endHung({ name }: CounterFileName): void {
    const { folder, cluster, node } = this.#options;
    if (performance.now() - this.#startedAt < orphanGraceMs) return;
    const counterFile: DepartedCounterFile | null = readCounterFile(join(folder, name));
    if (counterFile?.owner.cluster !== cluster || counterFile.owner.node !== node || counterFile.identity === null)
      return;
    // A living primary may have lost its lock: removed by a cleanup, or at the end of its user's session.
    if (counterFile.primary !== null && isRunningHere(counterFile.primary)) return;
    if (isWorker(counterFile.identity)) process.kill(counterFile.identity.pid, 'SIGKILL');
  }

  #isOlder(name: string, ms: number): boolean {
    const status = statSync(join(this.#options.folder, name), { throwIfNoEntry: false });
    return status !== undefined && Date.now() - status.mtimeMs > ms;
  }

  #removeIfOlder(name: string, ms: number): void {
    if (this.#isOlder(name, ms)) rmSync(join(this.#options.folder, name), { force: true });
  }
}

/** Whether the process is certainly one of our workers. */
function isWorker(identity: ProcessIdentity): boolean {
  try {
    const program = readFileSync(`/proc/${identity.pid}/cmdline`, 'utf8');
    return program.includes('worker/main.js') && isRunningHere(identity);
  } catch {
    return false;
  }
}
