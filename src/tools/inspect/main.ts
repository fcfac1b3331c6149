// `ml-tcp-server inspect`: loads models as a worker would, and tells what they take and give, how requests share a run,
// what batching gains, where they would run, and which settings would change what. It opens no port and writes nothing.

import { basename, dirname, extname, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { holderFor } from '../../config/holder.js';
import { servedNames } from '../../config/listeners.js';
import type { Config, LoadedConfig } from '../../config/load.js';
import { modelSchema } from '../../config/schema/models.js';
import { workerConfig } from '../../config/slices.js';
import { messageOf, OperatorError } from '../../errors.js';
import { mostRowsFor } from '../../inference/batch-limits.js';
import { ServedModel, type ServingSettings } from '../../inference/served-model.js';
import { threadsThatCannotEnd } from '../../inference/threads/host.js';
import { findVersion, type ModelVersion } from '../../inference/versions.js';
import { servingSettings } from '../../worker/models.js';
import { BatchRunner, type BatchSpeed, measureBatches } from './measure.js';
import { type InspectedModel, reportOf } from './report.js';
import { formatInspected } from './text.js';

export interface InspectFlags {
  /** Name of a model in config. */
  readonly model?: string;
  readonly json?: boolean;
}

type Entry = Config['models'][number];

interface Subject {
  readonly entry: Entry;
  /** Whether config has it as it is inspected. */
  readonly isInConfig: boolean;
}

/** How long the runs of a model are measured, in all. */
const budgetMs = 2000;

/**
 * Inspects the model at `path`, or those of config, and prints what it found. Resolves to the exit code.
 * Throws OperatorError CONFIG_INVALID when there is no such model in config, MODEL_LOAD_FAILED when the only model
 * cannot be served.
 */
export async function inspect(
  path: string | undefined,
  { config }: LoadedConfig,
  flags: InspectFlags,
): Promise<number> {
  const print = takeStdout();
  beforeOnnxRuntime(config);
  // Node would wait for a thread in native code, perhaps for ever.
  process.on('exit', () => {
    if (threadsThatCannotEnd() > 0) process.kill(process.pid, 'SIGKILL');
  });
  try {
    return await inspectAll(path, config, flags, print);
  } finally {
    await threadsEnded();
  }
}

async function inspectAll(
  path: string | undefined,
  config: Config,
  { model: name, json = false }: InspectFlags,
  print: (text: string) => Promise<void>,
): Promise<number> {
  const subjects = path === undefined ? fromConfig(config, name) : [fromPath(path, config, name)];
  const models: InspectedModel[] = [];
  for (const subject of subjects) {
    try {
      models.push(await inspected(subject, config));
    } catch (error) {
      if (!(error instanceof OperatorError) || (subjects.length === 1 && !json)) throw error;
      models.push({ name: subject.entry.name, error: { code: error.code, message: messageOf(error, 20_000) } });
    }
  }
  await print(json ? JSON.stringify({ models }, null, 2) : formatInspected(models));
  return models.some((model) => 'error' in model)
    ? new OperatorError('MODEL_LOAD_FAILED', 'a model cannot be served').exitCode
    : 0;
}

/** Threads that have failed to load end a moment later; one that hangs may never end. */
async function threadsEnded(): Promise<void> {
  for (let waitedMs = 0; threadsThatCannotEnd() > 0 && waitedMs < 2000; waitedMs += 10) await sleep(10);
}

/** Keeps stdout for the report: what a module prints goes to stderr. Returns how to print. */
function takeStdout(): (text: string) => Promise<void> {
  const write = process.stdout.write.bind(process.stdout);
  process.stdout.write = process.stderr.write.bind(process.stderr) as typeof process.stdout.write;
  return (text) => new Promise((resolve) => void write(`${text}\n`, () => resolve()));
}

/** What a worker finds in its environment. */
function beforeOnnxRuntime({ onnxRuntime }: Pick<Config, 'onnxRuntime'>): void {
  process.env.ORT_DISABLE_TELEMETRY = onnxRuntime.disableTelemetry ? '1' : '0';
  process.env.ONNX_RUNTIME_PACKAGE_FOLDER = onnxRuntime.packageFolder;
}

/** The model of this name; without one all of them, but a dummy only when a listener serves it. */
function fromConfig({ models, listeners }: Config, name: string | undefined): readonly Subject[] {
  const served = new Set(servedNames(listeners));
  const chosen =
    name === undefined
      ? models.filter((entry) => entry.backend !== 'dummy' || served.has(entry.name))
      : [named(models, name)];
  return chosen.map((entry) => ({ entry, isInConfig: true }));
}

function named(models: readonly Entry[], name: string): Entry {
  const entry = models.find((model) => model.name === name);
  if (entry !== undefined) return entry;
  const names = models.map((model) => model.name).join(', ');
  throw new OperatorError('CONFIG_INVALID', `there is no model of this name in config: there are ${names}`);
}

/** With the settings of the entry of this name; or of the one with this path; or with the defaults. */
function fromPath(given: string, { models, server }: Config, name: string | undefined): Subject {
  const path = resolve(given);
  if (name !== undefined) return { entry: { ...named(models, name), path }, isInConfig: false };
  const known = models.find((entry) => entry.path === path);
  if (known !== undefined) return { entry: known, isInConfig: true };
  const entry = {
    ...holderFor(modelSchema).getProperties(),
    name: nameFor(path),
    backend: /\.[cm]?js$/.test(findVersion(path, 'latest').path) ? ('module' as const) : ('onnx' as const),
    path,
    responseSize: server.responseSize,
  };
  return { entry, isInConfig: false };
}

/** From the file or, where all files have the same name, the folder. */
function nameFor(path: string): string {
  const base = basename(path, extname(path));
  const name = base === 'model' ? basename(dirname(path)) : base;
  return name.replace(/[^\w.:-]+/g, '-').slice(0, 64) || 'model';
}

async function inspected(subject: Subject, config: Config): Promise<InspectedModel> {
  const { entry } = subject;
  const settings = settingsFor(entry, config);
  const runner = new BatchRunner();
  const cannot = (error: unknown): never => {
    const message = `the model ${entry.name} cannot be served: ${messageOf(error)}`;
    throw new OperatorError('MODEL_LOAD_FAILED', message, { cause: error });
  };
  let version: ModelVersion;
  let served: ServedModel;
  try {
    version = findVersion(entry.path, entry.version);
    served = await ServedModel.open(settings, version, {
      onBatch: runner.observe,
      onThreadCrash: () => {},
      onThreadHang: () => {},
      onThreadHangOver: () => {},
    });
  } catch (error) {
    return cannot(error);
  }
  try {
    const speeds = await speedsOf(served, runner).catch(cannot);
    const source = {
      name: entry.name,
      backend: entry.backend,
      path: version.path,
      isInConfig: subject.isInConfig,
      entry: written(entry),
    };
    return reportOf(source, served, settings, speeds, runner.replyBytes);
  } finally {
    // A thread whose run hangs may not end.
    await Promise.race([served.close(), sleep(2000, undefined, { ref: false })]);
  }
}

/** As a worker serves it, except that nothing waits for more requests. */
function settingsFor(entry: Entry, config: Config): ServingSettings {
  const listeners = config.listeners.slice(0, 1).map((listener) => ({ ...listener, models: [entry.name] }));
  const sliced = workerConfig({ ...config, models: [entry], listeners });
  const [model] = sliced.models;
  if (model === undefined) throw new Error(`the model ${entry.name} is not in the config of workers`);
  const settings = servingSettings(sliced, model);
  return { ...settings, maxQueueDelayMs: 0, maxQueue: Math.max(settings.maxQueue, mostRowsFor(settings.maxBatchSize)) };
}

async function speedsOf(served: ServedModel, runner: BatchRunner): Promise<readonly BatchSpeed[]> {
  const { sample, batcher } = served;
  if (sample === null) return [];
  await served.holdSize();
  return measureBatches((rows) => runner.run(batcher, sample, rows), served.size.rows, budgetMs);
}

/** The settings that are not defaults, as they are written in config. */
function written(entry: Entry): Readonly<Record<string, unknown>> {
  const defaults = holderFor(modelSchema).getProperties() as unknown as Record<string, unknown>;
  const differing = Object.entries(entry).filter(
    ([key, value]) => JSON.stringify(value) !== JSON.stringify(defaults[key]) && key !== 'responseSize',
  );
  return { ...Object.fromEntries(differing), backend: entry.backend };
}
