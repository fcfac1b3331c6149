// A worker's counts in a file that outlives it, however it ends: its primary can read what the worker wrote before a
// reply left, even after SIGKILL. The file lies in memory (/dev/shm), so a write costs a microsecond or two.
//
//   ┌ header: JSON, zeros up to 4096 bytes ┬ the recorder's doubles ┐

import { closeSync, existsSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ownIdentity, type ProcessIdentity } from '../process/process-identity.js';
import { Recorder, recorderLayout } from './recorder.js';
import type { WorkerCounts } from './snapshot.js';

/** Whose counts a file holds. */
export interface CounterFileOwner {
  /** Differs for clusters that do not share their totals. */
  readonly cluster: string;
  readonly node: string;
  readonly run: string;
  readonly slot: number;
  readonly incarnation: number;
}

interface Header extends CounterFileOwner {
  readonly pid: number;
  readonly identity: ProcessIdentity | null;
  readonly primary: ProcessIdentity | null;
  readonly models: readonly string[];
  readonly layout: string;
}

const headerBytes = 4096;
const ending = '.slab';

/** The default folder of counter files: in memory where the machine has a file system for that. */
export function defaultSlabFolder(): string {
  const parent = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
  return join(parent, `ml-tcp-server-${process.getuid?.() ?? 'user'}`);
}

export function counterFilePath(folder: string, owner: CounterFileOwner): string {
  return join(folder, `${lockName(owner)}${ending}`);
}

/** The lock that a worker holds while it lives; its primary's lock is named after the run. */
export function lockName({ run, slot, incarnation }: Pick<CounterFileOwner, 'run' | 'slot' | 'incarnation'>): string {
  return `${run}-${slot}-${incarnation}`;
}

/** What the name of a counter file tells, even if the file cannot be read. */
export interface CounterFileName {
  readonly name: string;
  readonly run: string;
  /** The lock of the worker that wrote it. */
  readonly worker: string;
  /** The run that has taken it over to publish it. */
  readonly claimedBy: string | null;
}

/** Null when it is not the name of a counter file. */
export function parseCounterFileName(name: string): CounterFileName | null {
  const [, worker, run, claimedBy = null] = /^((.+)-\d+-\d+)(?:\.([^.]+))?\.slab$/.exec(name) ?? [];
  return worker === undefined || run === undefined ? null : { name, run, worker, claimedBy };
}

/** The name of a counter file that `run` has taken over. */
export function claimedName({ worker }: CounterFileName, run: string): string {
  return `${worker}.${run}${ending}`;
}

export interface CounterFileOptions {
  /** The process that takes the counts over; null where there is none, or it is unknown. */
  readonly primary?: ProcessIdentity | null;
  /** Called once, when the file can no longer be written; it has been removed by then. */
  readonly onFailure?: (error: unknown) => void;
}

export class CounterFile {
  readonly #path: string;
  readonly #recorder: Recorder;
  readonly #counts: Uint8Array;
  readonly #onFailure: (error: unknown) => void;
  #file: number | null;

  /** Throws Error when the file cannot be created: no space, or no permission to write there. */
  constructor(
    folder: string,
    owner: CounterFileOwner,
    recorder: Recorder,
    { primary = null, onFailure = () => {} }: CounterFileOptions = {},
  ) {
    const { pid } = process;
    const models = recorder.modelNames;
    const header: Header = { ...owner, pid, identity: ownIdentity(), primary, models, layout: recorderLayout };
    const { buffer, byteOffset, byteLength } = recorder.counters;
    this.#recorder = recorder;
    this.#counts = new Uint8Array(buffer, byteOffset, byteLength);
    this.#onFailure = onFailure;
    this.#path = counterFilePath(folder, owner);
    const page = Buffer.alloc(headerBytes);
    if (page.write(JSON.stringify(header)) === headerBytes) throw new Error('the names of the models are too long');
    this.#file = openSync(this.#path, 'wx', 0o600);
    try {
      writeAll(this.#file, page, 0, headerBytes, 0);
      // Takes all the memory that the file will ever need now, while a lack of it does no harm.
      recorder.takeTouched(this.#writeRange);
    } catch (error) {
      this.#remove();
      throw error;
    }
  }

  /** Brings the file up to date. Never throws: a worker keeps serving even if its counts can no longer be written. */
  write(): void {
    if (this.#file === null) return;
    try {
      this.#recorder.takeTouched(this.#writeRange);
    } catch (error) {
      // A file with outdated counts would be taken for the worker's last ones.
      this.#remove();
      this.#onFailure(error);
    }
  }

  readonly #writeRange = (from: number, to: number): void => {
    writeAll(this.#file as number, this.#counts, from * 8, to * 8);
  };

  close(): void {
    if (this.#file !== null) closeSync(this.#file);
    this.#file = null;
  }

  #remove(): void {
    try {
      this.close();
    } catch {
      // Some file systems report earlier errors here.
    }
    this.#file = null;
    removeCounterFile(this.#path);
  }
}

/** Writes bytes [at, end) to their place after the header. A file system that runs full may take a part silently. */
function writeAll(file: number, bytes: Uint8Array, at: number, end: number, position = headerBytes + at): void {
  while (at < end) {
    const written = writeSync(file, bytes, at, end - at, position);
    at += written;
    position += written;
  }
}

export interface DepartedCounterFile {
  readonly file: string;
  readonly owner: CounterFileOwner;
  readonly pid: number;
  /** Null where there is no /proc. */
  readonly identity: ProcessIdentity | null;
  readonly primary: ProcessIdentity | null;
  readonly counts: WorkerCounts;
}

/** Null when there is no such file, or it cannot be read as a counter file of this version. */
export function readCounterFile(file: string): DepartedCounterFile | null {
  try {
    const bytes = readFileSync(file);
    const text = bytes.toString('utf8', 0, headerBytes);
    const { pid, identity, primary, models, layout, ...owner } = JSON.parse(
      text.slice(0, text.indexOf('\0')),
    ) as Header;
    if (layout !== recorderLayout) return null;
    const body = new Uint8Array(bytes.subarray(headerBytes));
    const recorder = new Recorder(models, new Float64Array(body.buffer, 0, Math.floor(body.length / 8)));
    return { file, owner, pid, identity, primary, counts: recorder.snapshot() };
  } catch {
    return null;
  }
}

/** All counter files that lie in the folder. */
export function readCounterFiles(folder: string): readonly DepartedCounterFile[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => name.endsWith(ending))
    .flatMap((name) => readCounterFile(join(folder, name)) ?? []);
}

export function removeCounterFile(file: string): void {
  rmSync(file, { force: true });
}
