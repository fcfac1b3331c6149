// A model as it is served: which version, on which thread, behind which batcher; and how one version follows another.

import { Batcher, type BatcherLimits, type BatchObserver } from './batcher.js';
import { loadModel, type ModelSource } from './catalogue.js';
import type { Model } from './model.js';
import { ThreadedModel } from './threads/host.js';
import { type ModelVersion, unversioned } from './versions.js';
import { type WarmUp, warmUp } from './warm-up.js';

export type Execution = 'inline' | 'thread' | 'auto';

export interface ServingSettings extends BatcherLimits {
  readonly source: Omit<ModelSource, 'path'>;
  readonly execution: Execution;
  readonly threads: number;
  /** With `auto`, a model whose full batch takes longer than this goes into threads. */
  readonly inlineLimitMs: number;
  /** A run in a thread that takes longer hangs. */
  readonly hangTimeoutMs: number;
}

export interface ServingEvents {
  readonly onBatch: BatchObserver;
  onThreadCrash(error: Error): void;
}

interface Loaded {
  readonly model: Model;
  readonly execution: 'inline' | 'thread';
  readonly warmUp: WarmUp | null;
}

export class ServedModel {
  readonly batcher: Batcher;
  readonly #settings: ServingSettings;
  readonly #events: ServingEvents;
  #loaded: Loaded;
  #version: ModelVersion;

  private constructor(settings: ServingSettings, events: ServingEvents, version: ModelVersion, loaded: Loaded) {
    this.#settings = settings;
    this.#events = events;
    this.#version = version;
    this.#loaded = loaded;
    this.batcher = new Batcher(loaded.model, settings, events.onBatch);
  }

  /** Loads and warms up. Rejects with what would mend it when the model cannot be served. */
  static async open(settings: ServingSettings, version: ModelVersion, events: ServingEvents): Promise<ServedModel> {
    return new ServedModel(settings, events, version, await load(settings, version, events, null));
  }

  get version(): string {
    return this.#version.version;
  }

  get execution(): 'inline' | 'thread' {
    return this.#loaded.execution;
  }

  /** For logs. */
  get description(): string {
    const { model, execution, warmUp: measured } = this.#loaded;
    const where =
      execution === 'thread' ? `in ${model.concurrency} thread${model.concurrency > 1 ? 's' : ''}` : 'inline';
    const times =
      measured === null ? '' : `, ${measured.oneMs.toFixed(3)} ms a row, ${measured.fullMs.toFixed(3)} ms a full batch`;
    const version = this.version === unversioned ? '' : `, version ${this.version}`;
    return `${model.description}${version}, ${where}${times}`;
  }

  /**
   * Loads `version` beside the one that serves, warms it up, switches between two batches, and closes the old one when
   * its last batch is done. When it cannot be loaded the old one stays, and the promise rejects with the reason.
   * @returns whether anything was to be done
   */
  async reload(version: ModelVersion): Promise<boolean> {
    if (version.path === this.#version.path && version.changedAt === this.#version.changedAt) return false;
    const old = this.#loaded;
    this.#loaded = await load(this.#settings, version, this.#events, old.execution);
    this.#version = version;
    await this.batcher.swap(this.#loaded.model);
    await old.model.close();
    return true;
  }

  close(): Promise<void> {
    return this.#loaded.model.close();
  }
}

/** @param before where the version before it runs, if there is one */
async function load(
  settings: ServingSettings,
  version: ModelVersion,
  events: ServingEvents,
  before: 'inline' | 'thread' | null,
): Promise<Loaded> {
  const source: ModelSource = { ...settings.source, path: version.path };
  const isSlow = (measured: WarmUp | null): boolean =>
    settings.execution === 'auto' && measured !== null && measured.fullMs > settings.inlineLimitMs;
  if (settings.execution === 'thread' || (settings.execution === 'auto' && isMeasuredInThread(source, before))) {
    const threaded = await openThreaded(source, settings, events);
    if (settings.execution === 'thread' || isSlow(threaded.warmUp)) return inThreads(threaded);
    await threaded.close();
  }
  const model = await loadModel(source);
  const measured = await warmUp(model, settings.maxBatchSize);
  if (!isSlow(measured)) return { model, execution: 'inline', warmUp: measured };
  await model.close();
  return inThreads(await openThreaded(source, settings, events));
}

/**
 * A model that turns out to be slow has held nobody up when it was measured in a thread. Modules are loaded once where
 * they can be: what they open they may be able to open only once.
 */
function isMeasuredInThread({ backend }: ModelSource, before: 'inline' | 'thread' | null): boolean {
  return backend === 'onnx' || before === 'thread';
}

function openThreaded(
  source: ModelSource,
  { threads, maxBatchSize, hangTimeoutMs }: ServingSettings,
  { onThreadCrash }: ServingEvents,
): Promise<ThreadedModel> {
  return ThreadedModel.open(source, { threads, maxBatchSize, hangTimeoutMs, onCrash: onThreadCrash });
}

async function inThreads(model: ThreadedModel): Promise<Loaded> {
  try {
    await model.addThreads();
  } catch (error) {
    await model.close();
    throw error;
  }
  return { model, execution: 'thread', warmUp: model.warmUp };
}
