// The primary's picture of one worker process.

import type { Worker } from 'node:cluster';
import type { FromWorker, ListenAddress, ModelVersions, ReloadResults, ToWorker } from '../ipc/messages.js';
import type { WorkerRecord } from '../metrics/snapshot.js';
import type { Deployment } from './deployment.js';
import type { Doorway } from './doorway.js';
import { Child, type ChildOptions } from './supervision/child-process.js';
import { mindChannel } from './worker-channel.js';

export class WorkerHandle extends Child<ToWorker, FromWorker> {
  readonly slot: number;
  readonly deployment: Deployment;
  /** Which versions of the models it was last told to serve. */
  versions: ModelVersions;
  hasServed = false;
  /** Where it listens, once it is ready. */
  addresses: readonly ListenAddress[] = [];
  /** By name, what it says of its models. */
  models: Readonly<Record<string, string>> = {};
  /** Whether it has asked for another one in its place. */
  isSpent = false;
  /** The newest record it published. */
  lastRecord: WorkerRecord | null = null;
  /** Connections it holds a place for. */
  connections = 0;
  /** How many of them each client address has. */
  readonly peers = new Map<string, number>();
  /** Who waits for what comes of reloads of its models, in the order they were asked for. */
  readonly #onModelsReloaded: ((results: ReloadResults) => void)[] = [];

  /** @param doorway where each connection passes that is on its way to the worker */
  constructor(
    worker: Worker,
    slot: number,
    incarnation: number,
    deployment: Deployment,
    doorway: Doorway,
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
      boot,
    });
    mindChannel(worker.process, {
      admit: (handle) => doorway.admit(handle, this),
      sentBack: (place) => doorway.sentBack(place, this),
    });
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
