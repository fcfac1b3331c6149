// What the typed protocols of a worker share: its models by name, what is told of them, and the way of requests to them.

import type { CallServing } from '../../serving/call-accounting.js';
import type { RejectionLog } from '../rejection-log.js';
import type { CallModels } from './call-models.js';
import { ConnectionCalls } from './client-calls.js';
import { modelConfigOf, modelMetadataOf, serverMetadata } from './metadata.js';
import {
  type CallClient,
  CallError,
  type CallListener,
  type CallProtocol,
  type ClientCalls,
  type OipService,
} from './service.js';
import { modelStatisticsOf, type NodeStatistics } from './statistics.js';

export interface WorkerOipOptions {
  readonly models: CallModels;
  readonly serving: CallServing;
  readonly statistics: NodeStatistics;
  /** Where it is told why requests were refused; without it, nowhere. */
  readonly rejections?: RejectionLog;
}

export class WorkerOip implements OipService {
  /** Set when the worker drains. */
  isReady = true;
  readonly #options: WorkerOipOptions;

  constructor(options: WorkerOipOptions) {
    this.#options = options;
  }

  connect(client: CallClient, address: string, listener: CallListener, protocol: CallProtocol): ClientCalls {
    const { models, serving, rejections } = this.#options;
    return new ConnectionCalls(models, serving, client, listener, rejections?.of(address, protocol) ?? null);
  }

  serverMetadata: OipService['serverMetadata'] = () => serverMetadata();

  modelMetadata: OipService['modelMetadata'] = (listener, name, version) =>
    modelMetadataOf(this.#options.models.find(listener, name, version));

  modelConfig: OipService['modelConfig'] = (listener, name, version) =>
    modelConfigOf(this.#options.models.find(listener, name, version));

  isModelReady(listener: CallListener, name: string, version: string): boolean {
    try {
      this.#options.models.find(listener, name, version);
      return this.isReady;
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      return false;
    }
  }

  modelStatistics: OipService['modelStatistics'] = async (listener, name, version) => {
    const { models, statistics } = this.#options;
    const wanted = name === '' ? listener.models : [models.find(listener, name, version).name];
    const all = await statistics.of(wanted);
    return {
      model_stats: [...all].map(([model, own]) =>
        modelStatisticsOf(model, models.find(listener, model, '').version, own),
      ),
    };
  };

  repositoryIndex: OipService['repositoryIndex'] = (listener) => ({
    models: listener.models.map((name) => {
      const { version } = this.#options.models.find(listener, name, '');
      return { name, version, state: 'READY', reason: '' };
    }),
  });
}
