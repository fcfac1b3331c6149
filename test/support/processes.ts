// Real processes for tests: what they print, line by line, and a guaranteed end.

import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { temporaryFolder } from './folder.js';
import { until, within } from './until.js';

/** The checkout. */
export const root = fileURLToPath(new URL('../../..', import.meta.url));

// The programs that tests start are those that users run. `npm test` has built them; who runs Mocha itself may have
// changed the code since: then this builds them again.
const { status, stderr } = spawnSync(process.execPath, [`${root}scripts/bundle.mjs`], { encoding: 'utf8' });
if (status !== 0) throw new Error(`the programs could not be bundled: ${stderr}`);

const started = new Set<TestProcess>();
/** The processes of the current test, with the number of lines that they had printed before it. */
let recent = new Map<TestProcess, number>();

export interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
}

export class TestProcess {
  readonly child: ChildProcess;
  readonly lines: string[] = [];
  readonly exited: Promise<Exit>;
  #exit: Exit | null = null;

  constructor(command: string, args: readonly string[], options: SpawnOptions = {}) {
    this.child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], ...options });
    started.add(this);
    recent.set(this, 0);
    for (const stream of [this.child.stdout, this.child.stderr]) {
      if (stream) createInterface({ input: stream }).on('line', (line) => this.lines.push(line));
    }
    this.exited = new Promise((resolve, reject) => {
      this.child.once('error', reject);
      // 'close' comes only when the output has been read to its end.
      this.child.once('close', (code, signal) => {
        this.#exit = { code, signal };
        started.delete(this);
        resolve(this.#exit);
      });
    });
    this.exited.catch(() => started.delete(this));
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error('the process could not be started');
    return this.child.pid;
  }

  get output(): string {
    return this.lines.join('\n');
  }

  /** The first line that `match` accepts, printed already or yet to come. */
  async line(what: string, match: (line: string) => boolean, timeoutMs = 20_000): Promise<string> {
    const { line } = await until(
      `${what} in the output`,
      () => {
        const found = this.lines.find(match);
        return found !== undefined || this.#exit !== null ? { line: found } : undefined;
      },
      { timeoutMs },
    );
    if (line !== undefined) return line;
    throw new Error(`ended with ${JSON.stringify(this.#exit)} before ${what}:\n${this.output}`);
  }

  /** What is wrong with it, checked before it is ended; null when nothing is. */
  async fault(): Promise<string | null> {
    return null;
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  ended(timeoutMs = 20_000): Promise<Exit> {
    return within(timeoutMs, `the end of process ${this.pid}; it printed:\n${this.output}\n`, this.exited);
  }
}

let counterFiles: string | null = null;

/**
 * Where servers of the running test keep their counter files: the next test must not inherit what a killed one left.
 */
export function counterFilesFolder(): string {
  counterFiles ??= temporaryFolder();
  return counterFiles;
}

/** Ends what a test has left running. To be called in afterEach. Rejects when one of the processes has a fault. */
export async function endProcesses(): Promise<void> {
  const left = [...started];
  const faults = (await Promise.all(left.map((process) => process.fault()))).filter((fault) => fault !== null);
  for (const process of left) process.signal('SIGKILL');
  // A child of a killed process may keep the output open if it hangs.
  const isOverdue = new Promise((resolve) => setTimeout(resolve, 5000).unref());
  await Promise.race([Promise.allSettled(left.map((process) => process.exited)), isOverdue]);
  counterFiles = null;
  if (faults.length > 0) throw new Error(faults.join('\n'));
}

/** The last lines that a process has printed since a certain moment. */
export interface Printed {
  readonly command: string;
  /** How many lines are left out. */
  readonly earlier: number;
  readonly lines: readonly string[];
}

const shown = { processes: 8, lines: 40, characters: 1000 };

/** Sets the moment from which `printedSince` counts, for what runs now and for all that is started later. */
export function remember(): void {
  recent = new Map([...started].map((process) => [process, process.lines.length]));
}

/** The last lines of each process that has printed something. */
export function printedSince(): readonly Printed[] {
  const all = [...recent].map(([process, from]) => {
    const lines = process.lines.slice(from);
    const last = lines.slice(-shown.lines).map((line) => line.slice(0, shown.characters));
    const { pid, spawnargs } = process.child;
    const command = spawnargs.join(' ').replaceAll(root, '').slice(0, 300);
    return { command: `${command} (pid ${pid})`, earlier: lines.length - last.length, lines: last };
  });
  return all.filter(({ lines }) => lines.length > 0).slice(-shown.processes);
}

/** Kills everything that runs, for when there is no time for more. */
export function endAbruptly(): void {
  for (const process of started) process.signal('SIGKILL');
}

export { isRunning } from '#src/process/process-identity.js';

/** A TCP port that was free a moment ago, for programs that cannot choose one themselves. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The pid of the aggregator that a server has started. */
export function aggregatorOf(server: TestProcess): number {
  return childrenOf(server, 'aggregator/embedded.js')[0] ?? Number.NaN;
}

/** The pids of a server's workers, for when the server cannot be asked: from /proc, so on Linux only. */
export function workersOf(server: TestProcess): readonly number[] {
  return childrenOf(server, 'worker/main.js');
}

function childrenOf({ pid }: TestProcess, program: string): readonly number[] {
  const children = procFile(`${pid}/task/${pid}/children`).match(/\d+/g) ?? [];
  return children.filter((child) => procFile(`${child}/cmdline`).includes(program)).map(Number);
}

/** Empty when the process has just ended. */
function procFile(path: string): string {
  try {
    return readFileSync(`/proc/${path}`, 'utf8');
  } catch {
    return '';
  }
}
