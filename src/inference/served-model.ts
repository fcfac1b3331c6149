// A model as it is served: its version, its threads and its batcher; and how one version replaces another.

import { loadModel, type ModelSource } from './backends/load.js';
import { BatchCost } from './batch-cost.js';
import { type BatchSize, fixedBatchSize } from './batch-size.js';
import { Batcher, type BatcherLimits, type BatchObserver } from './batcher.js';
import { type KnownModel, knownBy, type Model } from './model.js';
import type { ModelPlan } from './plan.js';
import { ThreadedModel } from './threads/host.js';
import { type ModelVersion, unversioned } from './versions.js';
import { longestCallMs, type WarmUp, warmUp } from './warm-up.js';

export type Execution = 'inline' | 'thread' | 'auto';

export interface ServingSettings extends BatcherLimits {
  readonly source: Omit<ModelSource, 'path' | 'identity'>;
  /** Rows in one call of the model. */
  readonly maxBatchSize: number;
  readonly execution: Execution;
  readonly threads: number;
  /** With `auto`, a model whose full batch takes longer than this runs in threads. */
  readonly inlineLimitMs: number;
  /** A run in a thread that takes longer counts as hanging. */
  readonly hangTimeoutMs: number;
  /** How long a model may take to load and warm up in a thread. */
  readonly loadTimeoutMs: number;
  /** How many threads may hang at once and still be replaced. */
  readonly maxHungThreads: number;
  /** Throws when the rows or replies of the model do not fit what clients may send or receive. */
  admit(model: Pick<Model, 'inputBytes' | 'outputBytes' | 'sample'>): void;
}

export interface ServingEvents {
  readonly onBatch: BatchObserver;
  onThreadCrash(error: Error): void;
  onThreadHang(error: Error): void;
  /** A thread that hung has ended. */
  onThreadHangOver(): void;
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
  #memoryBytes: number;
  #version: ModelVersion;

  private constructor(
    settings: ServingSettings,
    events: ServingEvents,
    version: ModelVersion,
    loaded: Loaded,
    memoryBytes: number,
  ) {
    this.#memoryBytes = memoryBytes;
    this.#settings = settings;
    this.#events = events;
    this.#version = version;
    this.#loaded = loaded;
    this.batcher = new Batcher(loaded.model, settings, events.onBatch, sizeOf(settings, loaded));
  }

  /** Loads the model and warms it up. When it cannot be served, rejects with an error that says how to fix it. */
  static async open(settings: ServingSettings, version: ModelVersion, events: ServingEvents): Promise<ServedModel> {
    const { loaded, memoryBytes } = await weighed(() => load(settings, version, events, null));
    return new ServedModel(settings, events, version, loaded, memoryBytes);
  }

  get version(): string {
    return this.#version.version;
  }

  get execution(): 'inline' | 'thread' {
    return this.#loaded.execution;
  }

  /** Why each request gets its own run, although a run could take several; null otherwise. */
  get runsAloneBecause(): string | null {
    return this.#loaded.model.runsAloneBecause;
  }

  /** Its tensors and how requests share a run; null for a model whose payloads only it understands. */
  get plan(): ModelPlan | null {
    return this.#loaded.model.plan;
  }

  /** A payload to try it with; null when only a client can know one. */
  get sample(): Buffer | null {
    const { sample, inputBytes } = this.#loaded.model;
    return sample ?? (inputBytes === null ? null : Buffer.alloc(inputBytes));
  }

  /** Runs that may be in progress at once. */
  get concurrency(): number {
    return this.#loaded.model.concurrency;
  }

  /** What was measured when it was loaded; null when there was no payload to measure it with. */
  get warmUp(): WarmUp | null {
    return this.#loaded.warmUp;
  }

  /** What loading it, with its first runs, added to the resident memory of this process. */
  get memoryBytes(): number {
    return this.#memoryBytes;
  }

  /** Bytes of one input row; null when any length may be valid. */
  get inputBytes(): number | null {
    return this.#loaded.model.inputBytes;
  }

  /** Its backend, inputs and outputs. */
  get signature(): string {
    return this.#loaded.model.description;
  }

  /** For logs. */
  get description(): string {
    const { model, execution, warmUp: measured } = this.#loaded;
    const where =
      execution === 'thread' ? `in ${model.concurrency} thread${model.concurrency > 1 ? 's' : ''}` : 'inline';
    const times = measured === null ? '' : `, ${measured.oneMs.toFixed(3)} ms a row${fullBatchTime(measured)}`;
    const alone = model.runsAloneBecause === null ? '' : `, one request a run: ${model.runsAloneBecause}`;
    const version = this.version === unversioned ? '' : `, version ${this.version}`;
    const memory = `, ${Math.round(this.#memoryBytes / 2 ** 20)} MB`;
    return `${model.description}${version}, ${where}${times}${memory}${alone}`;
  }

  /**
   * Loads `version` beside the current one, warms it up, switches between two batches, and closes the old one when its
   * last batch is done. If loading fails, the old one stays, and the promise rejects with the reason.
   * @returns whether `version` was another one than the current one
   */
  async reload(version: ModelVersion): Promise<boolean> {
    if (version.path === this.#version.path && version.identity === this.#version.identity) return false;
    const old = this.#loaded;
    const { loaded, memoryBytes } = await weighed(() => load(this.#settings, version, this.#events, old.execution));
    this.#loaded = loaded;
    this.#memoryBytes = memoryBytes;
    this.#version = version;
    await this.batcher.swap(this.#loaded.model, sizeOf(this.#settings, this.#loaded));
    await old.model.close();
    return true;
  }

  close(): Promise<void> {
    return this.#loaded.model.close();
  }
}

const fullBatchTime = ({ fullMs, maxRows }: WarmUp): string =>
  maxRows === 1 ? '' : `, ${fullMs.toFixed(3)} ms a full batch of ${maxRows}`;

function sizeOf({ maxBatchSize }: ServingSettings, { warmUp: measured }: Loaded): BatchSize {
  if (measured === null) return fixedBatchSize(maxBatchSize);
  const { oneMs, maxRows, fullMs } = measured;
  const cost = new BatchCost([
    { rows: 1, ms: oneMs },
    { rows: maxRows, ms: fullMs },
  ]);
  return fixedBatchSize(Math.min(maxBatchSize, maxRows), cost);
}

/**
 * How much the resident memory of this process grows meanwhile. The first model of a backend brings its library along;
 * during a reload, what is served meanwhile counts too.
 */
async function weighed(loading: () => Promise<Loaded>): Promise<{ loaded: Loaded; memoryBytes: number }> {
  const before = process.memoryUsage.rss();
  const loaded = await loading();
  return { loaded, memoryBytes: Math.max(0, process.memoryUsage.rss() - before) };
}

/** @param before where the previous version runs, if there is one */
async function load(
  settings: ServingSettings,
  version: ModelVersion,
  events: ServingEvents,
  before: 'inline' | 'thread' | null,
): Promise<Loaded> {
  const source: ModelSource = { ...settings.source, path: version.path, identity: version.identity };
  const isSlow = (measured: WarmUp | null): boolean =>
    settings.execution === 'auto' && measured !== null && measured.fullMs > settings.inlineLimitMs;
  let known: KnownModel | null = null;
  if (settings.execution === 'thread' || (settings.execution === 'auto' && isMeasuredInThread(source, before))) {
    const threaded = await admitted(await openThreaded(source, settings, events), settings);
    if (settings.execution === 'thread' || isSlow(threaded.warmUp)) return inThreads(threaded);
    known = knownBy(threaded);
    await threaded.close();
  }
  const model = await admitted(await loadModel(source, settings.maxBatchSize, known), settings);
  const measured = await warmUp(
    model,
    settings.maxBatchSize,
    longestCallMs(settings.hangTimeoutMs, settings.deadlineMs),
  );
  if (!isSlow(measured)) return { model, execution: 'inline', warmUp: measured };
  await model.close();
  return inThreads(await openThreaded(source, settings, events));
}

/**
 * Measured in a thread, a slow model does not block the event loop. A module is loaded only once where possible, since
 * it may open something that can be opened only once.
 */
function isMeasuredInThread({ backend }: ModelSource, before: 'inline' | 'thread' | null): boolean {
  return backend === 'onnx' || before === 'thread';
}

function openThreaded(
  source: ModelSource,
  { threads, maxBatchSize, hangTimeoutMs, deadlineMs, loadTimeoutMs, maxHungThreads }: ServingSettings,
  { onThreadCrash, onThreadHang, onThreadHangOver }: ServingEvents,
): Promise<ThreadedModel> {
  return ThreadedModel.open(source, {
    threads,
    maxBatchSize,
    longestCallMs: longestCallMs(hangTimeoutMs, deadlineMs),
    hangTimeoutMs,
    loadTimeoutMs,
    maxHungThreads,
    onCrash: onThreadCrash,
    onHang: onThreadHang,
    onHangOver: onThreadHangOver,
  });
}

async function admitted<M extends Model>(model: M, { admit }: ServingSettings): Promise<M> {
  try {
    admit(model);
    return model;
  } catch (error) {
    await model.close();
    throw error;
  }
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
