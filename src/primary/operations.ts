// Operations on a running server, by signal or by command over the control socket: reload, scale, drain.

import { codeChange, installedCode } from '../code.js';
import { maxWorkers } from '../config/formats.js';
import type { Config } from '../config/load.js';
import type { Operation, ServerStatus } from '../control/protocol.js';
import type { Operate } from '../control/server.js';
import { messageOf } from '../errors.js';
import type { ModelVersions } from '../ipc/messages.js';
import type { Log } from '../process/log.js';
import type { NodeRecordKeeper } from './metrics/node-record.js';
import { ModelContents } from './rollout/model-contents.js';
import { findModelVersions } from './rollout/model-versions.js';
import { Reloader } from './rollout/reload.js';
import type { ServerState } from './server-state.js';
import { modelReloadMessage, warnOfTelemetry } from './status.js';
import type { Supervisor } from './supervision/supervisor.js';

export interface OperationsOptions {
  /** The config that the server was started with. */
  readonly config: Config;
  /** Reads the config again; throws OperatorError CONFIG_INVALID. */
  readConfig(): Config;
  readonly supervisor: Supervisor;
  readonly nodeRecord: NodeRecordKeeper;
  readonly state: ServerState;
  readonly log: Log;
}

export class Operations {
  readonly #supervisor: Supervisor;
  readonly #nodeRecord: NodeRecordKeeper;
  readonly #state: ServerState;
  readonly #log: Log;
  readonly #reloader: Reloader;
  readonly #contents = new ModelContents();
  #modelReload: Promise<unknown> = Promise.resolve();

  constructor({ config, readConfig, supervisor, nodeRecord, state, log }: OperationsOptions) {
    this.#supervisor = supervisor;
    this.#nodeRecord = nodeRecord;
    this.#state = state;
    this.#log = log;
    const target = {
      reload: (next: Config, versions: ModelVersions) => this.#replaceWorkers(next, versions),
      scale: (workers: number) => this.scale(workers),
    };
    this.#reloader = new Reloader(config, { readConfig, installedVersion: installedCode }, target, log);
  }

  /** The config of new workers. */
  get config(): Config {
    return this.#reloader.config;
  }

  /** Records the contents of these models' files, to tell later which of them have changed. */
  learnModels(versions: ModelVersions): void {
    void this.#contents.learn(versions);
  }

  reloadOnSignal(signal: string): void {
    if (this.#state.phase === 'serving') void this.#reloader.request(signal);
  }

  /** Rejects with the reason when it could not be done; the previous config stays in force. */
  reload(): Promise<void> {
    return this.#reloader.reload('command');
  }

  /** Resolves to the outcome as text; rejects when a model could not be loaded. Reloads run one after the other. */
  reloadModels(): Promise<string> {
    const isDone = this.#modelReload.then(async () => {
      const versions = await this.#contents.compared(findModelVersions(this.config));
      this.#log.info('reloading models');
      return modelReloadMessage(await this.#supervisor.reloadModels(versions));
    });
    this.#modelReload = isDone.catch(() => {});
    return isDone;
  }

  scaleOnSignal(by: number): void {
    if (this.#state.isEnding) return;
    const wanted = Math.min(Math.max(1, this.#supervisor.wanted + by), maxWorkers);
    this.scale(wanted).catch((error: unknown) => this.#log.error({ reason: messageOf(error) }, 'not scaled'));
  }

  async scale(wanted: number): Promise<void> {
    const before = this.#supervisor.wanted;
    if (wanted === before) return;
    const change = wanted > before ? codeChange() : null;
    if (change !== null) throw new Error(change);
    this.#log.info({ workers: wanted, before }, 'scaling');
    this.#nodeRecord.workersWanted = wanted;
    await this.#supervisor.scale(wanted);
  }

  /** @param reason for the log */
  async drain(reason: object): Promise<void> {
    this.#state.enter('draining');
    const { drainTimeoutSeconds } = this.config.server;
    this.#log.info({ ...reason, drainTimeoutSeconds }, 'draining: answering what is in flight; once more to force');
    await this.#supervisor.drain();
    this.#log.info('stopped');
  }

  async #replaceWorkers(config: Config, versions: ModelVersions): Promise<void> {
    await this.#supervisor.reload(config, this.#contents.labelled(versions));
    this.#nodeRecord.reloads++;
    warnOfTelemetry(config, this.#log);
    this.learnModels(versions);
  }
}

/** @param end ends the process */
export function operateWith(operations: Operations, status: () => ServerStatus, end: () => void): Operate {
  return async (operation) => {
    const message = await carryOut(operation);
    return { ok: true, message, status: status() };
  };

  /** Resolves to the message for the operator; rejects with the reason when it could not be done. */
  async function carryOut(operation: Operation): Promise<string> {
    if (operation.command === 'status') return '';
    const { state } = status();
    if (state === 'draining') throw new Error('the server is stopping');
    if (state === 'starting') throw new Error('the server is still starting');
    switch (operation.command) {
      case 'reload':
        if (operation.only === 'models') return operations.reloadModels();
        await operations.reload();
        return 'reloaded';
      case 'scale':
        if (operation.workers < 1 || operation.workers > maxWorkers)
          throw new Error(`there can be 1 to ${maxWorkers} workers`);
        await operations.scale(operation.workers);
        return `${operation.workers} ${operation.workers === 1 ? 'worker' : 'workers'}`;
      case 'drain':
        await operations.drain({ reason: 'command' });
        setImmediate(end); // when the reply has left
        return 'stopped';
    }
  }
}
