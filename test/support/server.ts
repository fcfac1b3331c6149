// The product itself, as a user starts it: one command, settings by flags and environment, on its own ports.

import type { StdioOptions } from 'node:child_process';
import type { Metrics } from '#src/aggregator/metrics.js';

import { LogPipe } from './log-pipe.js';
import { counterFilesFolder, root, TestProcess } from './processes.js';
import { until } from './until.js';

export interface LogLine {
  readonly level: string;
  readonly role: string;
  readonly node: string;
  readonly pid: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

export interface ServerOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Where the server is from, if not from this checkout: a folder that ends with a slash. */
  readonly from?: string;
  /** Whether its config lists TCP listeners, so that the short form for one must be left out. */
  readonly hasListeners?: boolean;
  /** The binary of the Node that runs it. */
  readonly node?: string;
  /** How many files each of its processes may have open. */
  readonly maxOpenFiles?: number;
  /** The command that runs it, for example `unshare --pid`. */
  readonly within?: readonly string[];
  /** What is run, from `from`; by default what users run. Only files of `dist/` can be changed by an `--import`. */
  readonly program?: string;
  /** Whether its log goes to a pipe that can be left unread (`logPipe`). */
  readonly hasLogPipe?: boolean;
}

/** The environment, without settings that the machine of the test may have. */
export function cleanEnv(extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const { PATH, HOME, TMPDIR } = process.env;
  return { PATH, HOME, TMPDIR, SLAB_FOLDER: counterFilesFolder(), ...extra };
}

export class TestServer extends TestProcess {
  readonly logPipe: LogPipe | null;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(options: ServerOptions = {}) {
    const {
      args = [],
      env = {},
      cwd = root,
      from = root,
      hasListeners = false,
      node = process.execPath,
      maxOpenFiles,
      within = [],
      program = 'bundle/cli.js',
      hasLogPipe = false,
    } = options;
    const port = hasListeners ? [] : ['--port', '0'];
    const flags = ['start', ...port, '--http-port', '0', ...args];
    const limit = maxOpenFiles === undefined ? [] : ['prlimit', `--nofile=${maxOpenFiles}:${maxOpenFiles}`];
    const [command, ...rest] = [...within, ...limit, node, `${from}${program}`, ...flags] as [string, ...string[]];
    const logPipe = hasLogPipe ? new LogPipe((line) => this.lines.push(line)) : null;
    const stdio = logPipe === null ? {} : { stdio: ['ignore', logPipe.descriptor, 'pipe'] as StdioOptions };
    super(command, rest, { cwd, env: cleanEnv(env), ...stdio });
    this.logPipe = logPipe;
    this.#headers = env.HTTP_TOKEN === undefined ? {} : { authorization: `Bearer ${env.HTTP_TOKEN}` };
  }

  get log(): readonly LogLine[] {
    return this.lines.flatMap((line) => (line.startsWith('{') ? (JSON.parse(line) as LogLine) : []));
  }

  /** How often it has logged this message. */
  count(message: string): number {
    return this.log.filter(({ msg }) => msg === message).length;
  }

  /** Runs `ml-tcp-server COMMAND` against it; resolves to how that ended and what it printed. */
  async operate(...command: readonly string[]): Promise<{ readonly code: number | null; readonly output: string }> {
    const args = [`${root}bundle/cli.js`, ...command, '--pid', String(this.pid)];
    const cli = new TestProcess(process.execPath, args, { env: cleanEnv() });
    const { code } = await cli.ended(60_000);
    return { code, output: cli.output };
  }

  /** The first log line with this message. */
  async event(msg: string): Promise<LogLine> {
    return JSON.parse(await this.line(`the event "${msg}"`, (line) => line.includes(`"msg":"${msg}"`))) as LogLine;
  }

  /** Port of the first TCP listener, once the server is ready. */
  async port(): Promise<number> {
    const { tcp } = (await this.event('ready')) as LogLine & { tcp: readonly string[] };
    return Number(/:(\d+) /.exec(tcp[0] ?? '')?.[1]);
  }

  /** http://host:port of the embedded aggregator. */
  async url(): Promise<string> {
    const { metrics } = (await this.event('ready')) as LogLine & { metrics: string };
    return new URL(metrics).origin;
  }

  async metrics(): Promise<Metrics> {
    return fetchMetrics(await this.url());
  }

  /** The metrics, as soon as `isThere` accepts them. */
  async metricsWhen(what: string, isThere: (metrics: Metrics) => boolean): Promise<Metrics> {
    return metricsWhen(await this.url(), what, isThere);
  }

  /** `/metrics` as Prometheus sees it. */
  async prometheus(): Promise<string> {
    const response = await fetch(`${await this.url()}/metrics`, {
      headers: { ...this.#headers, accept: 'text/plain' },
    });
    return response.text();
  }

  override async fault(): Promise<string | null> {
    const ready = this.log.find(({ msg }) => msg === 'ready');
    return typeof ready?.metrics === 'string' ? auditFault(new URL(ready.metrics).origin, this.#headers) : null;
  }

  /** The pids of all workers, once there are as many as wanted. */
  async workerPids(): Promise<readonly number[]> {
    const { workers } = await this.metricsWhen(
      'all workers',
      ({ workers: there, nodes: [node] }) => node !== undefined && there.length === node.workers_wanted,
    );
    return workers.map(({ pid }) => pid);
  }
}

/** What is wrong when not every received request has an outcome or is in flight; null when all have. */
export async function auditFault(url: string, headers: Readonly<Record<string, string>> = {}): Promise<string | null> {
  let imbalance = 0;
  const isBalanced = async (): Promise<boolean> => {
    const metrics = await fetch(`${url}/metrics`, { headers, signal: AbortSignal.timeout(1000) })
      .then((response) => response.json() as Promise<Metrics>)
      // Some tests end the server that answers here.
      .catch(() => null);
    imbalance = metrics === null || metrics.stale ? 0 : metrics.audit_imbalance;
    return imbalance === 0;
  };
  // For a moment, the last record of a killed worker may be newer or older than what it left behind.
  return until('the audit', isBalanced, { timeoutMs: 3000 }).then(
    () => null,
    () => `the audit of ${url} is off by ${imbalance}`,
  );
}

export async function fetchMetrics(url: string): Promise<Metrics> {
  const response = await fetch(`${url}/metrics`);
  return (await response.json()) as Metrics;
}

export async function metricsWhen(url: string, what: string, isThere: (metrics: Metrics) => boolean): Promise<Metrics> {
  let last: Metrics | undefined;
  try {
    return await until(what, async () => {
      last = await fetchMetrics(url);
      return isThere(last) ? last : undefined;
    });
  } catch (error) {
    throw new Error(`${(error as Error).message}; the last metrics: ${JSON.stringify(last)}`, { cause: error });
  }
}
