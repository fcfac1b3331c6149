// The primary's view of one worker process.

import type { Worker } from 'node:cluster';
import { listenerNames } from '../../config/listeners.js';
import { arrivalFrame, trialListener } from '../../ipc/connection-frames.js';
import type {
  FromWorker,
  ListenAddress,
  ModelReports,
  ModelVersions,
  ReloadResults,
  ToWorker,
} from '../../ipc/messages.js';
import type { WorkerRecord } from '../../metrics/snapshot.js';
import { handleSender, hearOfEnd, type RawHandle } from '../../net/raw-handle.js';
import type { Connection, Receiver } from '../connections/dispatcher.js';
import type { Deployment } from '../deployment.js';
import { Child, type ChildOptions } from './child-process.js';

export class WorkerHandle extends Child<ToWorker, FromWorker> implements Receiver {
  readonly slot: number;
  readonly deployment: Deployment;
  /** The model versions that it was last told to serve. */
  versions: ModelVersions;
  hasServed = false;
  /** Whether it can receive connections alongside Node's messages. */
  takesHandles = false;
  /** Where it listens, once it is ready. */
  addresses: readonly ListenAddress[] = [];
  /** By name, its descriptions of its models. */
  models: Readonly<Record<string, string>> = {};
  /** By name, what it tells of its models. */
  reports: ModelReports = {};
  /** Whether it has asked to be replaced. */
  isSpent = false;
  /** The newest record it published. */
  lastRecord: WorkerRecord | null = null;
  /** Connections it holds a permit for. */
  connections = 0;
  /** How many of them each client address has. */
  readonly peers = new Map<string, number>();
  readonly unacknowledged: Connection[] = [];
  readonly #listeners: readonly string[];
  /** Sends connections alongside Node's messages; null where that cannot be done. */
  #sendHandle: ReturnType<typeof handleSender> = null;
  readonly #worker: Worker;
  /** The callbacks for the results of reloads of its models, in the order in which these were requested. */
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
    this.#listeners = listenerNames(deployment.config.listeners);
    hearOfEnd(worker.process);
    worker.once('exit', () => {
      for (const resolve of this.#onModelsReloaded.splice(0)) resolve({});
    });
    this.slot = slot;
    this.deployment = deployment;
    this.versions = deployment.versions;
  }

  /** A worker that has asked to be replaced is as outdated as one with an older config. */
  override get revision(): number {
    return this.isSpent ? 0 : this.deployment.revision;
  }

  /** From now on, connections are sent to it alongside Node's messages. */
  enableHandles(): void {
    this.#sendHandle = handleSender(this.#worker.process);
  }

  hasListener(listener: string): boolean {
    return this.#listeners.includes(listener);
  }

  /** Sends it a test connection alongside Node's messages; throws Error where that cannot be done. */
  giveTrial(handle: RawHandle): void {
    const sendHandle = handleSender(this.#worker.process);
    if (sendHandle === null || !this.takesHandles) throw new Error('channels between processes are not as they were');
    sendHandle(arrivalFrame({ listener: trialListener, decision: 'granted', address: '' }), handle);
  }

  /** A connection that does not reach a dying worker is given to another one. */
  give({ handle, listener, permit }: Connection): void {
    const arrival = { listener: this.#listeners.indexOf(listener), ...permit };
    if (this.#sendHandle === null) this.send({ kind: 'connection', arrival }, handle);
    else this.#sendHandle(arrivalFrame(arrival), handle);
  }

  /** Resolves to the results; to an empty object when the worker ends before it reports them. */
  reloadModels(versions: ModelVersions): Promise<ReloadResults> {
    this.versions = versions;
    this.send({ kind: 'reload-models', versions });
    return new Promise((resolve) => this.#onModelsReloaded.push(resolve));
  }

  modelsReloaded(results: ReloadResults): void {
    this.#onModelsReloaded.shift()?.(results);
  }
}
