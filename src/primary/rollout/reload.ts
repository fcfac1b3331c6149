// A reload: reads config again, looks for models again, and replaces every worker by one that has both.

import { codeChangeMessage } from '../../code.js';
import { type Config, leafKeys } from '../../config/load.js';
import { schema } from '../../config/schema/schema.js';
import { messageOf } from '../../errors.js';
import type { ModelVersions } from '../../ipc/messages.js';
import type { Log } from '../../process/log.js';
import { findModelVersions } from './model-versions.js';

/** The settings that the primary and the aggregator keep from their start. */
const fixedSections = ['redis', 'http', 'metrics', 'otlp', 'control'] as const;
const fixedKeys = ['cluster.name', 'cluster.node'];

export interface ReloadTarget {
  /** Rejects when a worker cannot start with it. */
  reload(config: Config, versions: ModelVersions): Promise<void>;
  scale(workers: number): unknown;
}

/** What a reload reads at the moment of the request. */
export interface ReloadSource {
  /** Throws when the config is not valid. */
  readConfig(): Config;
  /** The code on disk, which new workers run. */
  installedVersion(): string;
}

export class Reloader {
  readonly #source: ReloadSource;
  readonly #version: string;
  readonly #target: ReloadTarget;
  readonly #log: Log;
  #config: Config;
  #isUnderWay = false;
  /** The signal that asked for a reload while one was under way; null when none did. */
  #askedAgain: string | null = null;

  constructor(config: Config, source: ReloadSource, target: ReloadTarget, log: Log) {
    this.#config = config;
    this.#source = source;
    this.#version = source.installedVersion();
    this.#target = target;
    this.#log = log;
  }

  /** The config of new workers. */
  get config(): Config {
    return this.#config;
  }

  /** For signals: never rejects. When a reload is under way, by a signal or by command, one more follows. */
  async request(signal: string): Promise<void> {
    if (this.#isUnderWay) this.#askedAgain = signal;
    else await this.reload(signal).catch(() => {});
  }

  /** Rejects with the reason when it could not be done; the previous config stays in force. */
  async reload(reason: string): Promise<void> {
    if (this.#isUnderWay) throw new Error('a reload is under way: wait for its end');
    this.#isUnderWay = true;
    try {
      await this.#reload(reason);
    } finally {
      this.#isUnderWay = false;
      const signal = this.#askedAgain;
      this.#askedAgain = null;
      if (signal !== null) void this.request(signal);
    }
  }

  async #reload(reason: string): Promise<void> {
    const begunAt = performance.now();
    try {
      this.#checkVersion();
      const config = this.#withFixed(this.#source.readConfig());
      const versions = findModelVersions(config);
      this.#log.info({ reason }, 'reloading');
      await this.#target.reload(config, versions);
      // A number of workers that was changed by signals stays, unless the number in config has changed.
      if (config.cluster.workers !== this.#config.cluster.workers) this.#target.scale(config.cluster.workers);
      this.#config = config;
      this.#log.level = config.log.level;
      this.#log.info({ ms: Math.round(performance.now() - begunAt) }, 'reloaded');
    } catch (error) {
      this.#log.error({ reason: messageOf(error, 20_000) }, 'not reloaded: the old config serves on');
      throw error;
    }
  }

  /** Workers of another version and this primary would not understand each other. */
  #checkVersion(): void {
    const installed = this.#source.installedVersion();
    if (installed !== this.#version) throw new Error(codeChangeMessage(installed, this.#version));
  }

  /** The new config, except for settings that cannot change while the server runs. */
  #withFixed(next: Config): Config {
    const old = this.#config;
    const ignored = [...leafKeys(schema)].filter(
      (key) => isFixed(key) && JSON.stringify(settingOf(next, key)) !== JSON.stringify(settingOf(old, key)),
    );
    if (ignored.length > 0) this.#log.warn({ settings: ignored }, 'these settings change only with a restart');
    const { redis, http, metrics, otlp, control } = old;
    const { name, node } = old.cluster;
    return { ...next, redis, http, metrics, otlp, control, cluster: { ...next.cluster, name, node } };
  }
}

const isFixed = (key: string): boolean =>
  fixedKeys.includes(key) || fixedSections.some((section) => key.startsWith(`${section}.`));

function settingOf(config: Config, key: string): unknown {
  return key.split('.').reduce<unknown>((value, part) => (value as Record<string, unknown>)[part], config);
}
