// A connection to Redis that is regularly proved to work, and replaced by another one when it does not.
//
//            ┌─────────── back-off ◀──────────┐
//            ▼                                │ ended, silent for too long, or leads to the wrong server
//   open ─▶ prove ─▶ up: commands, and a proof every checkIntervalMs
//
// A socket does not show that its peer vanished silently, that its address leads to another server since a failover, or
// that a proxy has nothing behind it. A proof does: a command that only the right server can carry out, answered in
// time. Commands never queue for Redis: one that cannot be sent at once fails at once.

import { inTime } from '../../in-time.js';
import type { RedisAddress, RedisSettings } from './redis-address.js';
import {
  clearer,
  clearest,
  isSilent,
  type Opened,
  type OpenOptions,
  type OpenRedis,
  openRedis,
  serversOf,
} from './redis-client.js';
import { isMismatch, mayPass, problemOf, RedisError, type RedisProblem } from './redis-problems.js';
import { backOffMs } from './redis-time.js';

/**
 * `back` when all is well, also for the first time; `lost` when Redis cannot be reached or rejects our login;
 * `refusing` when it answers with errors. Called when the state or the problem's code changes. `problem` is null with
 * `back`.
 */
export type RedisStateListener = (state: 'back' | 'lost' | 'refusing', problem: RedisProblem | null) => void;

export interface LinkOptions {
  readonly settings: RedisSettings;
  readonly onState: RedisStateListener;
  readonly isSubscription?: boolean;
  /** Known nodes of a Redis Cluster in addition to those of the settings. */
  readonly knownNodes?: () => readonly RedisAddress[];
  /** Resolves when the connection has been proved to work. */
  prove(client: OpenRedis): Promise<unknown>;
  /** How long a proof may take; by default as long as a command. */
  readonly proofLimitMs?: number;
}

/** The connection is replaced after this many failed proofs in a row, if another one might not give the error. */
const maxFailedProofs = 2;
/** One in this many failing attempts looks more closely for the cause. */
const closerLookEvery = 8;
/** How long a refusal is remembered when the command is not sent again. */
const refusalLifeMs = 10_000;
const never: RedisProblem = {
  code: 'UNREACHABLE',
  reason: 'not connected yet',
  advice: '',
  kind: 'lost',
  isOfConnection: true,
};

export class RedisLink {
  readonly #options: LinkOptions;
  #client: OpenRedis | null = null;
  #opening: OpenRedis | null = null;
  #attempt = 0;
  #opened = 0;
  #failedProofs = 0;
  #wasUp = false;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;
  /** Why there is no connection now. */
  #away: RedisProblem = never;
  /** By command: its last refusal. */
  readonly #refusals = new Map<string, { readonly problem: RedisProblem; readonly at: number }>();
  #told: string | null = null;
  #waiting: (() => void)[] = [];

  constructor(options: LinkOptions) {
    this.#options = options;
    void this.#open();
  }

  /** Whether it is connected and was recently proved to work. */
  get isUp(): boolean {
    return this.#client !== null;
  }

  /** The current connection. */
  get client(): OpenRedis | null {
    return this.#client;
  }

  /** Resolves when it is connected, or is closed. */
  whenUp(): Promise<void> {
    if (this.isUp || this.#isClosed) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /**
   * Sends a command and waits for its answer. Rejects with a RedisError that says what is wrong and how to fix it.
   * @param name of the command: a refusal stands until a command of the same name succeeds
   */
  run<T>(name: string, send: (client: OpenRedis) => Promise<T>): Promise<T> {
    return this.#run(name, send, this.#options.settings.commandTimeoutMs);
  }

  async #run<T>(name: string, send: (client: OpenRedis) => Promise<T>, limitMs: number): Promise<T> {
    const client = this.#client;
    if (client === null) throw new RedisError(this.#away);
    try {
      const answer = await inTime(send(client), limitMs);
      if (this.#refusals.delete(name)) this.#tell();
      return answer;
    } catch (error) {
      const problem = problemOf(error);
      this.#failed(client, name, problem);
      throw new RedisError(problem, error);
    }
  }

  /** Replaces the connection by another one, when it does not work in a way that it cannot notice itself. */
  replace(reason: string): void {
    if (this.#client !== null) this.#drop(this.#client, problemOf(new Error(reason)));
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#client?.disconnect();
    this.#opening?.disconnect();
    this.#client = null;
    this.#wake();
  }

  async #open(): Promise<void> {
    const { settings, prove, isSubscription = false, knownNodes } = this.#options;
    const { connectTimeoutMs, commandTimeoutMs } = settings;
    const { proofLimitMs = commandTimeoutMs } = this.#options;
    const options: OpenOptions = {
      attempt: this.#opened++,
      isSubscription,
      knownNodes: knownNodes?.() ?? [],
      // Only the first attempt of all and one in several failing ones, since it takes extra time.
      looksCloser: this.#attempt % closerLookEvery === (this.#wasUp ? closerLookEvery - 1 : 0),
    };
    let opened: Opened | null = null;
    try {
      opened = await openRedis(settings, options);
      const { client, lastError } = opened;
      this.#opening = client;
      if (this.#isClosed) return client.disconnect();
      // With a Redis Cluster, one node after the other may be tried.
      await inTime(prove(client), connectTimeoutMs * Math.max(1, settings.nodes.length) + proofLimitMs);
      // When several commands are in flight, the one that failed may not be the one that was awaited.
      const error = lastError();
      if (error !== null && serversOf(client)[0] === client) throw error;
      if (this.#isClosed) return client.disconnect();
      this.#up(client);
    } catch (error) {
      this.#opening?.disconnect();
      this.#opening = null;
      const why = await this.#why(error, opened, options.looksCloser);
      // The finding of an earlier, closer look stands as long as the server stays silent.
      const isKnown = !options.looksCloser && isMismatch(this.#away) && isSilent(why);
      if (!this.#isClosed) this.#lost(isKnown ? this.#away : problemOf(why));
    }
  }

  #why(error: unknown, opened: Opened | null, looksCloser: boolean): Promise<Error> | Error {
    if (opened === null) return error as Error;
    const { lastError, address } = opened;
    if (!looksCloser) return clearest(error, lastError());
    return clearer(error, lastError(), this.#options.settings, address, 'server');
  }

  #up(client: OpenRedis): void {
    this.#wasUp = true;
    this.#opening = null;
    this.#client = client;
    this.#attempt = 0;
    this.#failedProofs = 0;
    this.#refusals.delete('proof');
    client.once('end', () => this.#drop(client, problemOf(new Error('the connection was closed'))));
    this.#timer = setTimeout(() => void this.#check(client), this.#options.settings.checkIntervalMs);
    this.#wake();
    this.#tell();
  }

  async #check(client: OpenRedis): Promise<void> {
    const { prove, settings, proofLimitMs = settings.commandTimeoutMs } = this.#options;
    await this.#run('proof', prove, proofLimitMs).then(
      () => {
        this.#failedProofs = 0;
      },
      // #run has already handled the failure.
      () => {},
    );
    if (client !== this.#client) return;
    const now = performance.now();
    for (const [name, { at }] of this.#refusals) if (now - at > refusalLifeMs) this.#refusals.delete(name);
    this.#tell();
    this.#timer = setTimeout(() => void this.#check(client), settings.checkIntervalMs);
  }

  #failed(client: OpenRedis, name: string, problem: RedisProblem): void {
    if (client !== this.#client) return;
    if (problem.kind === 'refusing') this.#refusals.set(name, { problem, at: performance.now() });
    const isHopeless = name === 'proof' && ++this.#failedProofs >= maxFailedProofs && mayPass(problem);
    if (problem.isOfConnection || isHopeless) this.#drop(client, problem);
    else this.#tell();
  }

  #drop(client: OpenRedis, problem: RedisProblem): void {
    if (client !== this.#client || this.#isClosed) return;
    clearTimeout(this.#timer);
    this.#client = null;
    client.disconnect();
    this.#lost(problem);
  }

  #lost(problem: RedisProblem): void {
    this.#away = problem;
    this.#tell();
    this.#timer = setTimeout(() => void this.#open(), backOffMs(this.#attempt++));
  }

  #tell(): void {
    const [refusal] = [...this.#refusals.values()];
    const problem = this.#client === null ? this.#away : (refusal?.problem ?? null);
    const state = problem === null ? 'back' : problem.kind;
    const key = `${state} ${problem?.code}`;
    if (key === this.#told) return;
    this.#told = key;
    this.#options.onState(state, problem);
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
