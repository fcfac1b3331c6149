// One node that the chaos acts on: a server at a fixed address, under load of clients.

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { ServerStatus } from '#src/control/protocol.js';
import { readCounterFiles } from '#src/metrics/counter-file.js';
import { CheckedClient } from '../support/checked-client.js';
import { startNode } from '../support/cluster.js';
import { temporaryFolder } from '../support/folder.js';
import { freePort, isRunning, root, workersOf } from '../support/processes.js';
import type { TestServer } from '../support/server.js';
import { until } from '../support/until.js';

const hangTimeoutMs = 1000;

/** A node that is cut off for longer than this has its records compacted. */
export const retentionSeconds = 3;

export interface NodeOptions {
  readonly name: string;
  readonly workers: number;
  readonly redisUrl: string;
}

export interface Footprint {
  readonly descriptors: number;
  readonly rssMb: number;
}

export class ChaosNode {
  readonly name: string;
  readonly port: number;
  /** The number of workers at the beginning, and again in the end. */
  readonly initialWorkers: number;
  process: TestServer;
  readonly clients: CheckedClient[] = [];
  /** The footprint of the primary when it began. */
  baseline: Footprint;
  readonly #options: NodeOptions;
  readonly #folder: string;
  /** Every process that was ever seen below a primary. */
  readonly #seen = new Set<number>();
  readonly #primaries: TestServer[];

  private constructor(options: NodeOptions, port: number, folder: string, process: TestServer) {
    this.#options = options;
    this.name = options.name;
    this.initialWorkers = options.workers;
    this.port = port;
    this.#folder = folder;
    this.process = process;
    this.#primaries = [process];
    this.baseline = this.footprint();
  }

  static async start(options: NodeOptions): Promise<ChaosNode> {
    const folder = temporaryFolder();
    const port = await freePort();
    writeConfig(folder, true);
    const process = startPrimary(options, folder, port);
    await process.event('ready');
    return new ChaosNode(options, port, folder, process);
  }

  /** @param port where they connect: the node's own, or one that leads to it */
  addCheckedClients(count: number, firstId: number, port = this.port): void {
    for (let i = 0; i < count; i++) {
      this.clients.push(new CheckedClient(firstId + i, port, { depth: 4, isReconnecting: true }));
    }
  }

  /** Pids of the current workers. */
  get workers(): readonly number[] {
    const pids = workersOf(this.process);
    for (const pid of pids) this.#seen.add(pid);
    return pids;
  }

  /** The workers that have a counter file: only its own primary would know of one that stopped before it had one. */
  get begun(): readonly number[] {
    const begun = new Set(readCounterFiles(`${this.#folder}/slabs`).map(({ pid }) => pid));
    return this.workers.filter((pid) => begun.has(pid));
  }

  writeConfig(isValid: boolean): void {
    writeConfig(this.#folder, isValid);
  }

  async status(): Promise<ServerStatus> {
    return JSON.parse((await this.process.operate('status', '--json')).output) as ServerStatus;
  }

  /** Kills the primary and restarts it at once under its name. The old one's workers end, even hung ones. */
  async restart(): Promise<void> {
    const workers = this.workers;
    const { child } = this.process;
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new Error(`the primary of ${this.name} has ended by itself`);
    }
    const exited = new Promise((resolve) => child.once('exit', resolve)); // a hung worker keeps its output open
    child.kill('SIGKILL');
    await exited;
    this.process = startPrimary(this.#options, this.#folder, this.port);
    this.#primaries.push(this.process);
    await this.process.event('ready');
    this.baseline = this.footprint();
    const haveEnded = (): boolean => !workers.some(isRunning);
    await until('the workers of the old primary to end', haveEnded, { timeoutMs: 5000 });
  }

  /** Resolves when the number of workers is the initial one and nothing changes any more. */
  async settle(): Promise<void> {
    let seen = 'nothing';
    const isSettled = async (): Promise<boolean> => {
      const { code, output } = await this.process.operate('scale', String(this.initialWorkers));
      seen = output;
      if (code !== 0) return false;
      const { state, workers } = await this.status();
      seen = `${state}: ${JSON.stringify(workers)}`;
      const areReady = workers.every((worker) => worker.state === 'ready');
      return state === 'serving' && workers.length === this.initialWorkers && areReady;
    };
    await until(`${this.name} to settle`, isSettled, { timeoutMs: 40_000 }).catch((error: Error) => {
      throw new Error(`${error.message}; it is ${seen}`, { cause: error });
    });
  }

  /** Stops the node; returns what is wrong with how it ended and what it left, in words. */
  async stop(): Promise<readonly string[]> {
    void this.workers; // the current workers must be gone soon
    this.process.signal('SIGTERM');
    const { code } = await this.process.ended();
    for (const { logPipe } of this.#primaries) logPipe?.close();
    const faults = code === 0 ? [] : [`${this.name} ended with ${code}`];
    const orphans = [...this.#seen].filter(isRunning);
    if (orphans.length > 0) faults.push(`orphans of ${this.name} are left: ${orphans.join(', ')}`);
    const counterFiles = `${this.#folder}/slabs`;
    // The node keeps what its runs have counted.
    const isKept = (name: string): boolean => name.endsWith('.ledger');
    const left = existsSync(counterFiles) ? readdirSync(counterFiles) : [];
    const ledgers = left.filter(isKept);
    if (ledgers.length !== 1) faults.push(`${this.name} has ${ledgers.length} ledgers: ${ledgers.join(', ')}`);
    const leftovers = left.filter((name) => !isKept(name));
    if (leftovers.length > 0) faults.push(`files of ${this.name} are left: ${leftovers.join(', ')}`);
    return faults;
  }

  /** What all its primaries have printed so far, one after the other. */
  get log(): string {
    return this.#primaries.map(({ pid, lines }) => [`${this.name} ${pid}`, ...lines].join('\n')).join('\n');
  }

  /** Descriptors and memory of the primary. */
  footprint(): Footprint {
    const rssPages = Number(readFileSync(`/proc/${this.process.pid}/statm`, 'utf8').split(' ')[1]);
    return { descriptors: readdirSync(`/proc/${this.process.pid}/fd`).length, rssMb: (rssPages * 4096) / 2 ** 20 };
  }
}

function startPrimary({ name, workers, redisUrl }: NodeOptions, folder: string, port: number): TestServer {
  const env = { REDIS_URL: redisUrl, NODE_NAME: name, MODEL: 'echo', SLAB_FOLDER: `${folder}/slabs` };
  const settings = [
    `cluster.hangTimeoutMs=${hangTimeoutMs}`,
    'cluster.bootTimeoutSeconds=5',
    'server.maxConnections=500',
    'server.payloadTimeoutSeconds=5',
    `metrics.nodeRetentionSeconds=${retentionSeconds}`,
    'log.level=debug',
  ];
  const args = ['--config', `${folder}/config.json`, '--port', String(port), ...settings.flatMap((s) => ['--set', s])];
  return startNode({ ...env, WORKERS: String(workers) }, { args, hasLogPipe: true });
}

function writeConfig(folder: string, isValid: boolean): void {
  const path = isValid ? `${root}test/support/models/echo.mjs` : `${folder}/nowhere.mjs`;
  writeFileSync(`${folder}/config.json`, JSON.stringify({ models: [{ name: 'echo', backend: 'module', path }] }));
}
