// A worker's counts in a file that outlives it, however it ends: what the worker wrote before a reply left is there for
// its primary to read, SIGKILL or not. The file lies in memory (/dev/shm), so that a write costs a microsecond or two.
//
//   ┌ header: JSON, zeros up to 4096 bytes ┬ the recorder's doubles ┐

import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Recorder, recorderLayout } from './recorder.js';
import type { WorkerCounts } from './snapshot.js';

/** Whose counts they are. */
export interface SlabOwner {
  /** Differs for clusters that do not share their totals. */
  readonly cluster: string;
  readonly node: string;
  readonly run: string;
  readonly slot: number;
  readonly incarnation: number;
}

interface Header extends SlabOwner {
  /** Of the worker's primary, which takes the counts over when the worker has gone. */
  readonly primaryPid: number;
  readonly pid: number;
  readonly models: readonly string[];
  readonly layout: string;
}

const headerBytes = 4096;
const ending = '.slab';

/** Where slabs lie when config does not say: in memory where the machine has a file system for that. */
export function defaultSlabFolder(): string {
  const parent = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
  return join(parent, `ml-tcp-server-${process.getuid?.() ?? 'user'}`);
}

export function slabFile(folder: string, { run, slot, incarnation }: SlabOwner): string {
  return join(folder, `${run}-${slot}-${incarnation}${ending}`);
}

export class Slab {
  readonly #file: number;
  readonly #recorder: Recorder;
  readonly #counts: Uint8Array;

  /**
   * Throws Error when the file cannot be made: no space, or no right to write there.
   * @param primaryPid who takes the counts over; not for us to ask: it may have gone already
   */
  constructor(folder: string, owner: SlabOwner, primaryPid: number, recorder: Recorder) {
    const { pid } = process;
    const header: Header = { ...owner, primaryPid, pid, models: recorder.modelNames, layout: recorderLayout };
    const { buffer, byteOffset, byteLength } = recorder.slab;
    this.#recorder = recorder;
    this.#counts = new Uint8Array(buffer, byteOffset, byteLength);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.#file = openSync(slabFile(folder, owner), 'wx', 0o600);
    const page = Buffer.alloc(headerBytes);
    if (page.write(JSON.stringify(header)) === headerBytes) throw new Error('the names of the models are too long');
    writeSync(this.#file, page);
    // Takes all the memory that it will ever need now, while a lack of it is no harm.
    this.write();
  }

  /** Brings the file up to date. */
  write(): void {
    this.#recorder.takeTouched(this.#writeRange);
  }

  readonly #writeRange = (from: number, to: number): void => {
    writeSync(this.#file, this.#counts, from * 8, (to - from) * 8, headerBytes + from * 8);
  };

  close(): void {
    closeSync(this.#file);
  }
}

export interface DepartedSlab {
  readonly file: string;
  readonly owner: SlabOwner;
  readonly primaryPid: number;
  readonly pid: number;
  readonly counts: WorkerCounts;
}

/** Null when there is no such file, or it cannot be read as a slab of this version. */
export function readSlab(file: string): DepartedSlab | null {
  try {
    const bytes = readFileSync(file);
    const text = bytes.toString('utf8', 0, headerBytes);
    const { primaryPid, pid, models, layout, ...owner } = JSON.parse(text.slice(0, text.indexOf('\0'))) as Header;
    if (layout !== recorderLayout) return null;
    const body = new Uint8Array(bytes.subarray(headerBytes));
    const recorder = new Recorder(models, new Float64Array(body.buffer, 0, Math.floor(body.length / 8)));
    return { file, owner, primaryPid, pid, counts: recorder.snapshot() };
  } catch {
    return null;
  }
}

/** All slabs that lie in the folder. */
export function readSlabs(folder: string): readonly DepartedSlab[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => name.endsWith(ending))
    .flatMap((name) => readSlab(join(folder, name)) ?? []);
}

export function removeSlab(file: string): void {
  rmSync(file, { force: true });
}
