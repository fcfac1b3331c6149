// A server of several models, each behind a listener of its own, in one worker.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ModelMetrics } from '#src/aggregator/metrics.js';
import { RawClient } from './raw-client.js';
import { type LogLine, TestServer } from './server.js';

let files = 0;

export class ModelsServer extends TestServer {
  /** The file of its config. */
  readonly config: string;

  /**
   * @param folder where the config is written
   * @param more sections of the config beside models and listeners
   */
  constructor(
    folder: string,
    models: readonly Readonly<Record<string, unknown>>[],
    more: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {},
  ) {
    const config = join(folder, `config-${files++}.json`);
    const listeners = models.map(({ name }) => ({ host: '127.0.0.1', port: 0, model: name }));
    writeFileSync(config, JSON.stringify({ models, listeners, ...more }));
    super({ args: ['--config', config], env: { WORKERS: '1' }, hasListeners: true });
    this.config = config;
  }

  async client(model: string): Promise<RawClient> {
    const { tcp } = (await this.event('ready')) as LogLine & { tcp: readonly string[] };
    const line = tcp.find((text) => text.endsWith(`→ ${model}`));
    return RawClient.connect(Number(/:(\d+) /.exec(line ?? '')?.[1]));
  }

  async modelWhen(name: string, isThere: (model: ModelMetrics) => boolean): Promise<ModelMetrics> {
    const isModel = (model: ModelMetrics): boolean => model.name === name && isThere(model);
    const { models } = await this.metricsWhen(`counts of ${name}`, (metrics) => metrics.models.some(isModel));
    return models.find(isModel) as ModelMetrics;
  }
}
