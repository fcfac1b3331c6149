// A model as it is served: its version, its threads and its batcher; and how one version replaces another.

import { type Backend, loadModel, type ModelSource } from './backends/load.js';
import { batchSizeFor, curveLimits, mostRowsFor, type SizeSettings } from './batch-limits.js';
import { type BatchSize, fixedBatchSize, noLimit, type TimeLimit } from './batch-size.js';
import { Batcher, type BatcherLimits, type BatchObserver } from './batcher.js';
import { type KnownModel, knownBy, type Model } from './model.js';
import type { ModelPlan } from './plan.js';
import { ThreadedModel } from './threads/host.js';
import { type ModelVersion, unversioned } from './versions.js';
import { type WarmUp, warmUp } from './warm-up.js';

export type Execution = 'inline' | 'thread' | 'auto';

export interface ServingSettings extends BatcherLimits, SizeSettings {
  readonly source: Omit<ModelSource, 'path' | 'identity'>;
  readonly execution: Execution;
  readonly threads: number;
  /** With `auto`, a model whose full batch takes longer than this runs in threads. */
  readonly inlineLimitMs: number;
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

/** What was measured when a model was loaded. */
export interface MeasuredRuns {
  /** Milliseconds that a run of one row takes. */
  readonly oneMs: number;
  /** The most rows that the first runs may have. */
  readonly fullRows: number;
  /** Milliseconds that a run of so many rows takes: measured or, where that would have taken long, by the others. */
  readonly fullMs: number;
  /** Why they may not have more. */
  readonly because: string;
}

interface Loaded {
  readonly model: Model;
  readonly execution: 'inline' | 'thread';
  readonly size: BatchSize;
  /** Null: there was no payload to measure it with. */
  readonly measured: MeasuredRuns | null;
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
    this.batcher = new Batcher(loaded.model, settings, events.onBatch, loaded.size);
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

  get backend(): Backend {
    return this.#settings.source.backend;
  }

  /** How long a batch waits for more rows; 0: until the end of the event-loop turn. */
  get maxQueueDelayMs(): number {
    return this.#settings.maxQueueDelayMs;
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
  get measured(): MeasuredRuns | null {
    return this.#loaded.measured;
  }

  /** How many rows a run may have now, and why. */
  get size(): BatchSize {
    return this.#loaded.size;
  }

  /** The most rows that a run may ever have. */
  get mostRunRows(): number {
    return mostRowsFor(this.#settings.maxBatchSize);
  }

  /** From now on a run may have as many rows as now, whatever runs take: who measures a size means that size. */
  async holdSize(): Promise<void> {
    const { model, size } = this.#loaded;
    const held = fixedBatchSize(size.rows, size.cost, noLimit, size.reason);
    this.#loaded = { ...this.#loaded, size: held };
    await this.batcher.swap(model, held);
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
    const { model, execution, measured } = this.#loaded;
    const where =
      execution === 'thread' ? `in ${model.concurrency} thread${model.concurrency > 1 ? 's' : ''}` : 'inline';
    const times = measured === null ? '' : `, ${measured.oneMs.toFixed(3)} ms a row${fullBatchTime(measured)}`;
    const why =
      measured === null || measured.because === 'maxBatchSize' || model.runsAloneBecause !== null
        ? ''
        : ` (${measured.because})`;
    const alone = model.runsAloneBecause === null ? '' : `, one request a run: ${model.runsAloneBecause}`;
    const version = this.version === unversioned ? '' : `, version ${this.version}`;
    const memory = `, ${Math.round(this.#memoryBytes / 2 ** 20)} MB`;
    return `${model.description}${version}, ${where}${times}${why}${memory}${alone}`;
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
    await this.batcher.swap(this.#loaded.model, this.#loaded.size);
    await old.model.close();
    return true;
  }

  close(): Promise<void> {
    return this.#loaded.model.close();
  }
}

const fullBatchTime = ({ fullMs, fullRows }: MeasuredRuns): string =>
  fullRows === 1 ? '' : `, ${fullMs.toFixed(3)} ms a full batch of ${fullRows}`;

function measuredRuns(warmUp: WarmUp | null, { rows, cost, reason }: BatchSize): MeasuredRuns | null {
  if (warmUp === null) return null;
  const { curve } = warmUp;
  const fullMs = curve.find((point) => point.rows === rows)?.ms ?? cost.msOf(rows);
  return { oneMs: curve[0].ms, fullRows: rows, fullMs, because: reason };
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
  const { inlineLimitMs } = settings;
  const loaded = (
    model: Model,
    execution: 'inline' | 'thread',
    measured: WarmUp | null,
    hold: TimeLimit = noLimit,
  ): Loaded => {
    const size = batchSizeFor(model, measured, settings, hold);
    return { model, execution, size, measured: measuredRuns(measured, size) };
  };
  const isSlow = ({ measured }: Loaded): boolean =>
    settings.execution === 'auto' && measured !== null && measured.fullMs > inlineLimitMs;
  let known: KnownModel | null = null;
  if (settings.execution === 'thread' || (settings.execution === 'auto' && isMeasuredInThread(source, before))) {
    const threaded = await admitted(await openThreaded(source, settings, events), settings);
    const inThread = loaded(threaded, 'thread', threaded.warmUp);
    if (settings.execution === 'thread' || isSlow(inThread)) return withAllThreads(threaded, inThread);
    known = knownBy(threaded);
    await threaded.close();
  }
  const model = await admitted(await loadModel(source, mostRowsFor(settings.maxBatchSize), known), settings);
  const measured = await warmUp(model, curveLimits(settings));
  const inline = loaded(model, 'inline', measured);
  if (!isSlow(inline)) {
    // What is on the event loop because its runs are short shall keep them short.
    if (settings.execution === 'inline' || measured === null) return inline;
    const because = `more would hold the event loop longer than inlineLimitMs (${inlineLimitMs})`;
    return loaded(model, 'inline', measured, { ms: inlineLimitMs, because });
  }
  await model.close();
  const threaded = await openThreaded(source, settings, events);
  return withAllThreads(threaded, loaded(threaded, 'thread', threaded.warmUp));
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
  settings: ServingSettings,
  { onThreadCrash, onThreadHang, onThreadHangOver }: ServingEvents,
): Promise<ThreadedModel> {
  const { threads, maxBatchSize, hangTimeoutMs, loadTimeoutMs, maxHungThreads } = settings;
  return ThreadedModel.open(source, {
    threads,
    maxBatchSize: mostRowsFor(maxBatchSize),
    curve: curveLimits(settings),
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

async function withAllThreads(model: ThreadedModel, loaded: Loaded): Promise<Loaded> {
  try {
    await model.addThreads();
  } catch (error) {
    await model.close();
    throw error;
  }
  return loaded;
}
