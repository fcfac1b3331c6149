// The primary's picture of one worker process.

import type { SendHandle } from 'node:child_process';
import type { Worker } from 'node:cluster';
import type { FromWorker, ListenAddress, ModelVersions, ReloadResults, ToWorker } from '../control.js';
import type { WorkerRecord } from '../metrics/snapshot.js';
import type { RawHandle } from '../raw-handle.js';
import type { Deployment } from './deployment.js';
import type { Doorway } from './doorway.js';
import type { MemberView, WorkerState } from './plan.js';
import { mindChannel } from './worker-channel.js';

export class WorkerHandle implements MemberView {
  readonly slot: number;
  readonly incarnation: number;
  readonly deployment: Deployment;
  readonly forkedAt = performance.now();
  state: WorkerState = 'starting';
  /** Which versions of the models it was last told to serve. */
  versions: ModelVersions;
  hasServed = false;
  /** Where it listens, once it is ready. */
  addresses: readonly ListenAddress[] = [];
  /** By name, what it says of its models. */
  models: Readonly<Record<string, string>> = {};
  /** Whether it has asked for another one in its place. */
  isSpent = false;
  /** Why it was killed, if we did it. */
  killedFor: string | null = null;
  /** The newest record it published. */
  lastRecord: WorkerRecord | null = null;
  /** When it gave its last sign of life, by the monotonic clock. */
  heardAt = performance.now();
  /** Connections it holds a place for. */
  connections = 0;
  /** How many of them each client address has. */
  readonly peers = new Map<string, number>();
  readonly #worker: Worker;
  /** Who waits for what comes of reloads of its models, in the order they were asked for. */
  readonly #onModelsReloaded: ((results: ReloadResults) => void)[] = [];

  /** @param doorway where each connection passes that is on its way to the worker */
  constructor(worker: Worker, slot: number, incarnation: number, deployment: Deployment, doorway: Doorway) {
    this.#worker = worker;
    mindChannel(worker.process, {
      admit: (handle) => doorway.admit(handle, this),
      sentBack: (place) => doorway.sentBack(place, this),
    });
    worker.once('exit', () => {
      for (const resolve of this.#onModelsReloaded.splice(0)) resolve({});
    });
    this.slot = slot;
    this.incarnation = incarnation;
    this.deployment = deployment;
    this.versions = deployment.versions;
  }

  /** One that is spent is as outdated as one with an older config. */
  get revision(): number {
    return this.isSpent ? 0 : this.deployment.revision;
  }

  get pid(): number | undefined {
    return this.#worker.process.pid;
  }

  get ageMs(): number {
    return performance.now() - this.forkedAt;
  }

  onMessage(listener: (message: FromWorker, handle?: RawHandle) => void): void {
    this.#worker.on('message', listener as (message: FromWorker, handle: unknown) => void);
  }

  /** Calls `listener` when it has ended, and all that it said before has been heard. */
  onExit(listener: (exitCode: number | null, signal: string | null) => void): void {
    this.#worker.once('exit', (exitCode: number | null, signal: string | null) => {
      if (this.#worker.isConnected()) this.#worker.once('disconnect', () => listener(exitCode, signal));
      else listener(exitCode, signal);
    });
  }

  /** A message to a worker that is just dying is lost with it; its exit is what counts then. */
  send(message: ToWorker, handle?: RawHandle): void {
    this.sent(message, handle).catch(() => {});
  }

  /** Resolves when the message has left; rejects when the channel is closed. */
  sent(message: ToWorker, handle?: RawHandle): Promise<void> {
    return new Promise((resolve, reject) => {
      const onSent = (error: Error | null): void => (error === null ? resolve() : reject(error));
      if (this.#worker.isConnected()) this.#worker.send(message, handle as unknown as SendHandle, undefined, onSent);
      else reject(new Error(`worker ${this.pid} is gone`));
    });
  }

  /** Resolves to what came of it; to nothing when the worker ends before it says so. */
  reloadModels(versions: ModelVersions): Promise<ReloadResults> {
    this.versions = versions;
    this.send({ kind: 'reload-models', versions });
    return new Promise((resolve) => this.#onModelsReloaded.push(resolve));
  }

  modelsReloaded(results: ReloadResults): void {
    this.#onModelsReloaded.shift()?.(results);
  }

  /** Kills it unless it has ended by then. */
  killAfter(delayMs: number, beforeKill: () => void): void {
    const overdue = setTimeout(() => {
      beforeKill();
      this.kill();
    }, delayMs);
    this.#worker.once('exit', () => clearTimeout(overdue));
  }

  /** @param reason for the log, where its end is news */
  kill(reason: string | null = null): void {
    this.killedFor ??= reason;
    this.#worker.process.kill('SIGKILL');
  }
}
