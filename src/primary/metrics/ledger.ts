// The counts of a node's runs, in a file that outlives the primary: Redis and every aggregator may lose all their data.
// Each run writes its own ledger, whole and atomically, before it removes the sources of the counts that the ledger now
// holds: the counter files of departed workers, and the ledgers of earlier runs.
//
//   RUN.ledger          the ledger of a run, held by its primary while that is alive: its lock is RUN.ledger.lock
//   RUN@OTHER.ledger    claimed by the primary of run OTHER by renaming: only one of several claims succeeds
//
// A successor claims the ledgers of runs whose holder is gone, adds them to its own, saves that, and removes them. Its
// ledger names the runs that it contains: if it is killed before it can remove theirs, its own successor finds both and
// counts none twice.

import { createHash } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../../errors.js';
import { batchRowsBuckets, bucketCount } from '../../metrics/histogram.js';
import { holdLock, isHeld, type Lock, lockEnding, unbornEnding } from '../../metrics/lock.js';
import { makeOwnFolder } from '../../process/folder.js';
import type { Log } from '../../process/log.js';
import type { RunCounts } from './node-record.js';

/** Whose ledgers may be taken over. */
export interface LedgerOwner {
  /** Differs for clusters that do not share their totals. */
  readonly cluster: string;
  readonly node: string;
  readonly run: string;
}

interface Body extends LedgerOwner, RunCounts {
  /** How many buckets the histograms have: buckets are named by number. */
  readonly buckets: readonly number[];
}

interface Header {
  readonly format: number;
  readonly sha256: string;
}

interface LedgerFile {
  readonly name: string;
  readonly run: string;
  /** The run whose primary may change or remove it. */
  readonly holder: string;
  /** null: not a ledger of this version. */
  readonly body: Body | null;
  /** Whether it was written by another version, which may still read it. */
  readonly isForeign: boolean;
  readonly text: string;
}

const format = 1;
const buckets = [bucketCount, batchRowsBuckets];
const ending = '.ledger';
const asideEnding = '.unreadable';
/** Some 5 KB each, of nodes that are gone. Their counts are in Redis; the ledger is in case Redis loses them. */
const maxLedgers = 1000;
/** A file that a primary creates at its start is complete after this time, or will never be. */
const halfMadeMs = 60_000;

export class Ledger {
  readonly #folder: string;
  readonly #owner: LedgerOwner;
  readonly #lock: Lock;
  readonly #log: Log;
  #claimed: readonly LedgerFile[] = [];
  #isFailing = false;
  #isUnread = false;
  #isPruned = false;

  private constructor(folder: string, owner: LedgerOwner, lock: Lock, log: Log) {
    this.#folder = folder;
    this.#lock = lock;
    this.#owner = owner;
    this.#log = log;
  }

  /** Throws Error when no ledger can be kept there, such as ENOSPC, EROFS or EACCES. */
  static async open(folder: string, owner: LedgerOwner, log: Log): Promise<Ledger> {
    makeOwnFolder(folder);
    return new Ledger(folder, owner, await holdLock(folder, ledgerOf(owner.run)), log);
  }

  /** Leaves the ledger to a successor. */
  close(): void {
    this.#lock.release();
  }

  /** Claims the counts of earlier runs of this node whose primaries are gone, each once; `save` must follow. */
  async claim(): Promise<readonly RunCounts[]> {
    const claimed: LedgerFile[] = [];
    try {
      // Of two files of one run, the one that is not claimed was written last: it comes first.
      for (const file of [...this.#read()].sort((a, b) => (a.name < b.name ? -1 : 1))) {
        // The other file is removed once this run's ledger contains the run.
        if ([...this.#claimed, ...claimed].some(({ run }) => run === file.run)) continue;
        const taken = await this.#take(file);
        if (taken !== null) claimed.push(taken);
      }
      if (!this.#isPruned) await this.#prune();
      this.#isPruned = true;
      this.#isUnread = false;
    } catch (error) {
      const fields = { folder: this.#folder, reason: messageOf(error) };
      if (!this.#isUnread) this.#log.error(fields, 'ledgers of earlier runs could not be read');
      this.#isUnread = true;
    }
    this.#claimed = [...this.#claimed, ...claimed];
    return claimed.flatMap(({ body }) => body ?? []);
  }

  /**
   * Writes the ledger, and removes the ledgers that it contains now; logs an error and returns false when it cannot be
   * written.
   */
  save(counts: RunCounts): boolean {
    try {
      this.#write({ ...this.#owner, ...counts, buckets });
    } catch (error) {
      if (!this.#isFailing) {
        const fields = { folder: this.#folder, reason: messageOf(error) };
        this.#log.error(fields, 'ledger not written: counter files of workers that are gone stay until it is');
      }
      this.#isFailing = true;
      return false;
    }
    if (this.#isFailing) this.#log.info({ folder: this.#folder }, 'ledger written again');
    this.#isFailing = false;
    for (const { name, run, holder } of this.#claimed) {
      this.#remove(claimedName(run, this.#owner.run));
      this.#remove(name);
      for (const gone of new Set([run, holder])) this.#remove(`${ledgerOf(gone)}${lockEnding}`);
    }
    this.#claimed = [];
    return true;
  }

  /** All ledgers in the folder. Throws when it cannot be read. */
  #read(): readonly LedgerFile[] {
    for (let attempt = 1; ; attempt++) {
      try {
        return readdirSync(this.#folder).flatMap((name) => this.#parse(name) ?? []);
      } catch (error) {
        // Other primaries claim and remove files meanwhile: counts moved from one file to another must be seen in one.
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || attempt === 20) throw error;
      }
    }
  }

  #parse(name: string): LedgerFile | null {
    const [, run, claimant] = /^([\w-]+)(?:@([\w-]+))?\.ledger$/.exec(name) ?? [];
    if (run === undefined) return null;
    const text = readFileSync(join(this.#folder, name), 'utf8');
    return { name, run, holder: claimant ?? run, body: parseBody(text, run), isForeign: isForeign(text), text };
  }

  /** Returns the same file when it belongs to this run from now on and its counts are to be added; else null. */
  async #take(file: LedgerFile): Promise<LedgerFile | null> {
    const { name, run, holder, body } = file;
    if (holder === this.#owner.run || !this.#isOfNode(file) || (await isHeld(this.#folder, ledgerOf(holder))))
      return null;
    if (body === null) return this.#setAside(name);
    const claimed = claimedName(run, this.#owner.run);
    if (!this.#isContained(run) && !this.#rename(name, claimed)) return null;
    // Checked again: a run that took this one over meanwhile has written that down before it let go of the file.
    // `holder` remains the one of the old name: by the new name it is this run, whose lock must stay.
    if (!this.#isContained(run)) return { ...file, name: claimed, body: this.#parse(claimed)?.body ?? body };
    this.#remove(name);
    this.#remove(claimed);
    return null;
  }

  /** A file of another node, cluster or version is left to that one. */
  #isOfNode({ body, isForeign, text }: LedgerFile): boolean {
    const { cluster, node } = this.#owner;
    if (body !== null) return body.cluster === cluster && body.node === node;
    const names = [`"cluster":${JSON.stringify(cluster)},`, `"node":${JSON.stringify(node)},`];
    return !isForeign && names.every((name) => text.includes(name));
  }

  #isContained(run: string): boolean {
    return this.#read().some(({ body }) => body?.contains.some((contained) => contained.run === run) === true);
  }

  #setAside(name: string): null {
    const aside = `${name}${asideEnding}`;
    if (!this.#rename(name, aside)) return null;
    this.#log.error(
      { file: join(this.#folder, aside) },
      'ledger of an earlier run cannot be read and is set aside: what that run counted is in Redis alone',
    );
    return null;
  }

  /** False when another process was first. */
  #rename(from: string, to: string): boolean {
    try {
      renameSync(join(this.#folder, from), join(this.#folder, to));
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw error;
    }
  }

  #remove(name: string): void {
    rmSync(join(this.#folder, name), { force: true });
  }

  #write(body: Body): void {
    const text = JSON.stringify(body);
    const header: Header = { format, sha256: sha256(text) };
    const file = join(this.#folder, ledgerOf(this.#owner.run));
    writeFileSync(`${file}.tmp`, `${JSON.stringify(header)}\n${text}\n`, { mode: 0o600, flush: true });
    renameSync(`${file}.tmp`, file);
    const folder = openSync(this.#folder, 'r');
    try {
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  }

  /** Removes files that nobody will claim, so that they do not pile up. */
  async #prune(): Promise<void> {
    const names = readdirSync(this.#folder);
    const ages = new Map(names.map((name) => [name, this.#ageMs(name)] as const));
    for (const name of names) {
      const [, run, what] = /^([\w-]+)\.ledger(\.tmp|\.lock|\.lock\.new)$/.exec(name) ?? [];
      if (run === undefined || run === this.#owner.run || (ages.get(name) ?? 0) < halfMadeMs) continue;
      if (what === unbornEnding || !(await isHeld(this.#folder, ledgerOf(run)))) this.#remove(name);
    }
    const aside = names.flatMap((name) => (name.endsWith(`${ending}${asideEnding}`) ? [{ name, holder: null }] : []));
    const oldestFirst = [...this.#read().filter(({ run }) => run !== this.#owner.run), ...aside].sort(
      (a, b) => (ages.get(b.name) ?? 0) - (ages.get(a.name) ?? 0),
    );
    for (const { name, holder } of oldestFirst.slice(0, Math.max(0, oldestFirst.length - maxLedgers))) {
      if (holder === null || !(await isHeld(this.#folder, ledgerOf(holder)))) this.#remove(name);
    }
  }

  #ageMs(name: string): number {
    return Date.now() - (statSync(join(this.#folder, name), { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
  }
}

const ledgerOf = (run: string): string => `${run}${ending}`;
const claimedName = (run: string, claimant: string): string => `${run}@${claimant}${ending}`;

/** null when it is not a whole ledger of this version, or not of this run. */
function parseBody(text: string, run: string): Body | null {
  try {
    const end = text.indexOf('\n');
    const header = JSON.parse(text.slice(0, end)) as Header;
    const json = text.slice(end + 1, -1);
    if (header.format !== format || header.sha256 !== sha256(json)) return null;
    const body = JSON.parse(json) as Body;
    return body.run === run && String(body.buckets) === String(buckets) ? body : null;
  } catch {
    return null;
  }
}

function isForeign(text: string): boolean {
  try {
    const header = JSON.parse(text.slice(0, text.indexOf('\n'))) as Partial<Header>;
    return typeof header.sha256 === 'string' && Number.isInteger(header.format) && header.format !== format;
  } catch {
    return false;
  }
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
