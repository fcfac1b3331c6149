// The models of a worker: opened, counted, reloaded and closed together.

import { servedNames } from '../config/listeners.js';
import type { WorkerConfig } from '../config/slices.js';
import { messageOf, OperatorError } from '../errors.js';
import type { BatchObserver, FinishedBatch } from '../inference/batcher.js';
import { reportOf, shareOf } from '../inference/model-report.js';
import type { CloseReason } from '../inference/queued.js';
import { ServedModel, type ServingEvents, type ServingSettings } from '../inference/served-model.js';
import type { ModelReports, ModelVersions, ReloadResult, ReloadResults } from '../ipc/messages.js';
import type { ModelCounter, ModelRecorder, Recorder } from '../metrics/recorder.js';
import type { ModelGauges } from '../metrics/snapshot.js';
import type { BatchSpan, Tracing } from '../otlp.js';
import type { Log } from '../process/log.js';
import { admission } from './admission.js';

const closeCounters: Readonly<Record<CloseReason, ModelCounter>> = {
  full: 'closedFull',
  turn: 'closedTurn',
  delay: 'closedDelay',
  drain: 'closedDrain',
};

/** JSON of what is told of a model, and of all: a status of the server has to fit into one message. */
const maxReportBytes = 256 << 10;
const maxReportsBytes = 1 << 20;

export class WorkerModels {
  /** Called with the reason when more threads hang than cluster.maxHungThreads. */
  onSpent: (reason: string) => void = () => {};
  readonly #models = new Map<string, ServedModel>();
  readonly #hungThreads = new Map<string, number>();
  /** By model, when its last run ended, by the monotonic clock. */
  readonly #lastRuns = new Map<string, { endedAt: number }>();
  readonly #recorder: Recorder;
  readonly #log: Log;

  readonly #tracing: Tracing | null;

  private constructor(recorder: Recorder, log: Log, tracing: Tracing | null) {
    this.#recorder = recorder;
    this.#log = log;
    this.#tracing = tracing;
  }

  /**
   * Loads every model that a listener serves. Throws OperatorError MODEL_LOAD_FAILED.
   * @param tracing gets every batch; null when there is none
   */
  static async open(
    config: WorkerConfig,
    versions: ModelVersions,
    recorder: Recorder,
    log: Log,
    tracing: Tracing | null,
  ): Promise<WorkerModels> {
    const models = new WorkerModels(recorder, log, tracing);
    for (const name of servedNames(config.listeners)) await models.#open(config, name, versions);
    return models;
  }

  get(name: string): ServedModel {
    const model = this.#models.get(name);
    if (model === undefined) throw new Error(`the model ${name} is not served`);
    return model;
  }

  descriptions(): Readonly<Record<string, string>> {
    return Object.fromEntries([...this.#models].map(([name, model]) => [name, model.description]));
  }

  /** By model: bytes of one input row; null where any length may be right. */
  rowBytes(): Readonly<Record<string, number | null>> {
    return Object.fromEntries([...this.#models].map(([name, { inputBytes }]) => [name, inputBytes]));
  }

  /** What is told of each model: as much as fits. */
  reports(): ModelReports {
    const maxBytes = shareOf(maxReportsBytes, this.#models.size, maxReportBytes);
    return Object.fromEntries([...this.#models].map(([name, model]) => [name, reportOf(model, maxBytes)]));
  }

  gauges(): Readonly<Record<string, ModelGauges>> {
    return Object.fromEntries(
      [...this.#models].map(([name, { version, execution, batcher, size, memoryBytes }]) => [
        name,
        {
          version,
          execution,
          queued: batcher.queuedRows,
          predictedWaitMs: batcher.predictedWaitMs,
          maxRows: size.rows,
          maxRowsBecause: size.reason,
          runMs: rounded(size.cost.perRunMs),
          rowMs: rounded(size.cost.perRowMs),
          hungThreads: this.#hungThreads.get(name) ?? 0,
          memoryBytes,
          lastRunAt: this.lastRunAt(name),
        },
      ]),
    );
  }

  /** When the last run of a model ended, in milliseconds since the epoch; 0: it never ran. */
  lastRunAt(name: string): number {
    const endedAt = this.#lastRuns.get(name)?.endedAt ?? 0;
    return endedAt === 0 ? 0 : Math.floor(Date.now() - (performance.now() - endedAt));
  }

  /** Reloads one model after the other; when a version cannot be loaded, the old one stays in use. */
  async reload(versions: ModelVersions): Promise<ReloadResults> {
    const results: Record<string, ReloadResult> = {};
    for (const [name, model] of this.#models) {
      const wanted = versions[name];
      if (wanted !== undefined) results[name] = await this.#reload(name, model, wanted);
    }
    return results;
  }

  /** Runs what is queued without waiting for more. */
  drain(): void {
    for (const { batcher } of this.#models.values()) batcher.drain();
  }

  async close(): Promise<void> {
    for (const model of this.#models.values()) await model.close();
  }

  async #open(config: WorkerConfig, name: string, versions: ModelVersions): Promise<void> {
    const version = versions[name];
    const recorder = this.#recorder.model(name);
    const entry = config.models.find((model) => model.name === name);
    if (entry === undefined) throw new Error(`the model ${name} is not in config`);
    if (version === undefined) throw new Error(`no version of the model ${name} was named`);
    try {
      const events = {
        onBatch: this.#observer(name, recorder),
        onThreadCrash: this.#crashObserver(name, recorder),
        ...this.#hangObserver(name, recorder, config.cluster.maxHungThreads),
      };
      const model = await ServedModel.open(servingSettings(config, entry), version, events);
      this.#models.set(name, model);
      recorder.count('loads');
      this.#warnWhenAlone(name, model);
    } catch (error) {
      recorder.count('loadFailures');
      const message = `the model ${name} cannot be served: ${messageOf(error)}; see ${entry.place} in config`;
      throw new OperatorError('MODEL_LOAD_FAILED', message, { cause: error });
    }
  }

  async #reload(name: string, model: ServedModel, wanted: ModelVersions[string]): Promise<ReloadResult> {
    const recorder = this.#recorder.model(name);
    const version = wanted?.version ?? '';
    try {
      if (wanted === undefined || !(await model.reload(wanted))) return { version, outcome: 'unchanged' };
      recorder.count('loads');
      this.#warnWhenAlone(name, model);
      return { version, outcome: 'loaded', description: model.description };
    } catch (error) {
      recorder.count('loadFailures');
      return { version, outcome: 'failed', reason: messageOf(error) };
    }
  }

  /** Counts each batch, and logs failures: the first at once, then at most one line a second. */
  #observer(model: string, recorder: ModelRecorder): BatchObserver {
    let unloggedFailures = 0;
    let quietUntil = 0;
    const lastRun = { endedAt: 0 };
    this.#lastRuns.set(model, lastRun);
    return (finished) => {
      const { batch, outcome, modelRows, closedBy, startedAt, runMs, retriedRows } = finished;
      this.#tracing?.batch(spanOf(model, finished));
      recorder.batch(modelRows);
      recorder.count(closeCounters[closedBy]);
      recorder.time('runTime', runMs);
      lastRun.endedAt = startedAt + runMs;
      if (retriedRows > 0) recorder.count('retriedRows', retriedRows);
      let requestsRun = 0;
      for (const { arrivedAt, requests } of batch.entries) {
        recorder.time('queueTime', startedAt - arrivedAt, requests);
        requestsRun += requests;
      }
      recorder.count('requestRunNs', Math.round(runMs * 1e6) * requestsRun);
      const error = failureIn(outcome);
      if (error === undefined) return;
      unloggedFailures++;
      if (performance.now() < quietUntil) return;
      quietUntil = performance.now() + 1000;
      this.#log.error(
        { model, err: error, batchRows: batch.rows, failedBatches: unloggedFailures },
        'inference failed',
      );
      unloggedFailures = 0;
    };
  }

  #warnWhenAlone(model: string, { version, runsAloneBecause }: ServedModel): void {
    if (runsAloneBecause === null) return;
    this.#log.warn(
      { model, version, reason: runsAloneBecause },
      'model runs one request at a time: a batch would change its answers',
    );
  }

  /** Counts hangs; a worker where too many threads hang at once cannot recover by itself. */
  #hangObserver(
    model: string,
    recorder: ModelRecorder,
    maxHungThreads: number,
  ): Pick<ServingEvents, 'onThreadHang' | 'onThreadHangOver'> {
    const changeBy = (by: number): number => {
      this.#hungThreads.set(model, (this.#hungThreads.get(model) ?? 0) + by);
      return [...this.#hungThreads.values()].reduce((sum, threads) => sum + threads, 0);
    };
    return {
      onThreadHang: (error) => {
        recorder.count('threadHangs');
        const hung = changeBy(1);
        this.#log.error({ model, err: error, hungThreads: hung }, 'run of a model hangs: its thread is left to end');
        if (hung > maxHungThreads) this.onSpent(`${hung} threads hang (cluster.maxHungThreads)`);
      },
      onThreadHangOver: () => {
        const hung = changeBy(-1);
        this.#log.info({ model, hungThreads: hung }, 'thread that hung has ended');
      },
    };
  }

  #crashObserver(model: string, recorder: ModelRecorder): (error: Error) => void {
    return (error) => {
      recorder.count('threadCrashes');
      this.#log.error({ model, err: error }, 'thread of a model died');
    };
  }
}

/** Records are sent several times a second. */
const rounded = (ms: number): number => Number(ms.toPrecision(4));

function spanOf(
  model: string,
  { batch, outcome, modelRows, closedBy, startedAt, runMs, retriedRows }: FinishedBatch,
): BatchSpan {
  const begun = performance.timeOrigin + startedAt;
  return {
    model,
    rows: modelRows,
    closedBy,
    retriedRows,
    startedAt: begun,
    endedAt: begun + runMs,
    queuedMs: startedAt - batch.oldestAt,
    error: failureIn(outcome) ?? null,
  };
}

function failureIn(outcome: Parameters<BatchObserver>[0]['outcome']): Error | undefined {
  if (outcome.kind === 'failed') return outcome.error;
  return outcome.kind === 'rows' ? outcome.rows.find((row) => row instanceof Error) : undefined;
}

/** How a model is served, as config says. */
export function servingSettings(config: WorkerConfig, model: WorkerConfig['models'][number]): ServingSettings {
  const { name, backend, settings, session, responseSize, batchTolerance, place: _, ...rest } = model;
  const { inputs, outputs, constants, pad, ...serving } = rest;
  const overrides = { inputs, outputs, constants, pad };
  const source = { name, backend, settings, session, batchTolerance, responseSize, overrides };
  const { hangTimeoutMs, maxHungThreads, bootTimeoutSeconds } = config.cluster;
  // Beyond the limit the worker is replaced; until its successor is ready, more threads may hang.
  return {
    ...serving,
    source,
    hangTimeoutMs,
    loadTimeoutMs: bootTimeoutSeconds * 1000,
    maxHungThreads: 2 * maxHungThreads,
    admit: admission(config.server),
  };
}
