// The primary's picture of one worker process.

import type { Worker } from 'node:cluster';
import { arrivalFrame, trialListener } from '../connection-frames.js';
import type { FromWorker, ListenAddress, ModelVersions, ReloadResults, ToWorker } from '../ipc/messages.js';
import type { WorkerRecord } from '../metrics/snapshot.js';
import { handleSender, hearOfEnd, type RawHandle } from '../raw-handle.js';
import type { Deployment } from './deployment.js';
import type { Connection, Receiver } from './dispatcher.js';
import { listenerNames } from './listeners.js';
import { Child, type ChildOptions } from './supervision/child-process.js';

export class WorkerHandle extends Child<ToWorker, FromWorker> implements Receiver {
  readonly slot: number;
  readonly deployment: Deployment;
  /** Which versions of the models it was last told to serve. */
  versions: ModelVersions;
  hasServed = false;
  /** Whether it takes connections beside Node's messages. */
  takesHandles = false;
  /** Where it listens, once it is ready. */
  addresses: readonly ListenAddress[] = [];
  /** By name, what it says of its models. */
  models: Readonly<Record<string, string>> = {};
  /** Whether it has asked for another one in its place. */
  isSpent = false;
  /** The newest record it published. */
  lastRecord: WorkerRecord | null = null;
  /** Connections it holds a permit for. */
  connections = 0;
  /** How many of them each client address has. */
  readonly peers = new Map<string, number>();
  readonly unacknowledged: Connection[] = [];
  readonly #listeners: readonly string[];
  /** Sends connections beside Node's messages; null where that cannot be done. */
  #sendHandle: ReturnType<typeof handleSender> = null;
  readonly #worker: Worker;
  /** Who waits for what comes of reloads of its models, in the order they were asked for. */
  readonly #onModelsReloaded: ((results: ReloadResults) => void)[] = [];

  constructor(
    worker: Worker,
    slot: number,
    incarnation: number,
    deployment: Deployment,
    boot: ChildOptions<ToWorker>['boot'],
  ) {
    const { bootTimeoutSeconds, hangTimeoutMs } = deployment.config.cluster;
    super({
      process: worker.process,
      role: 'worker',
      incarnation,
      startLimit: {
        ms: bootTimeoutSeconds * 1000,
        exceeded: `not ready after ${bootTimeoutSeconds} s (cluster.bootTimeoutSeconds)`,
      },
      silenceLimit: {
        ms: hangTimeoutMs,
        exceeded: `its event loop stood still for ${hangTimeoutMs} ms (cluster.hangTimeoutMs)`,
      },
      boot: (hello) => {
        this.takesHandles = hello.takesHandles ?? false;
        return boot(hello);
      },
    });
    this.#worker = worker;
    this.#listeners = listenerNames(deployment.config);
    hearOfEnd(worker.process);
    worker.once('exit', () => {
      for (const resolve of this.#onModelsReloaded.splice(0)) resolve({});
    });
    this.slot = slot;
    this.deployment = deployment;
    this.versions = deployment.versions;
  }

  /** One that is spent is as outdated as one with an older config. */
  override get revision(): number {
    return this.isSpent ? 0 : this.deployment.revision;
  }

  /** Connections may come to it beside Node's messages. */
  enableHandles(): void {
    this.#sendHandle = handleSender(this.#worker.process);
  }

  hasListener(listener: string): boolean {
    return this.#listeners.includes(listener);
  }

  /** Tries whether connections come to it beside Node's messages. */
  giveTrial(handle: RawHandle): void {
    const sendHandle = handleSender(this.#worker.process);
    if (sendHandle === null || !this.takesHandles) throw new Error('channels between processes are not as they were');
    sendHandle(arrivalFrame({ listener: trialListener, decision: 'granted', address: '' }), handle);
  }

  /** To a worker that is just dying it does not come; then it is given to another one. */
  give({ handle, listener, permit }: Connection): void {
    const arrival = { listener: this.#listeners.indexOf(listener), ...permit };
    if (this.#sendHandle === null) this.send({ kind: 'connection', arrival }, handle);
    else this.#sendHandle(arrivalFrame(arrival), handle);
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
}
