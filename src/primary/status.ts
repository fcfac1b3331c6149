// What the primary reports to people: that it is ready and where, its status, and the results of loading models.

import { codeChange, runningVersion } from '../code.js';
import { cpuLimit } from '../config/cpu-limit.js';
import { describeRedis } from '../config/describe.js';
import { servedNames } from '../config/listeners.js';
import type { Config } from '../config/load.js';
import type { ServerStatus, WorkerStatus } from '../control/protocol.js';
import type { ModelReport } from '../inference/model-report.js';
import type { ListenAddress, ModelReports, ReloadResults } from '../ipc/messages.js';
import { listenerText } from '../listener-text.js';
import { unsettled } from '../metrics/merge.js';
import { planSummary } from '../plan-text.js';
import type { Log } from '../process/log.js';
import type { NodeRecordKeeper } from './metrics/node-record.js';
import { type NextStep, nextStep } from './next-step.js';
import type { ServerState } from './server-state.js';
import type { Supervisor } from './supervision/supervisor.js';
import type { WorkerHandle } from './supervision/worker-handle.js';

/** What the workers serve, as reported by the one that completed the fleet for the first time. */
export interface Served {
  readonly addresses: readonly ListenAddress[];
  readonly models: Readonly<Record<string, string>>;
  readonly rowBytes: Readonly<Record<string, number | null>>;
  readonly reports: ModelReports;
}

/** The fields of the `ready` event: where to connect, what is served, and what to try next. */
export function readyEvent(
  config: NextStep['config'] & Pick<Config, 'cluster' | 'redis'>,
  { addresses, models, rowBytes, reports }: Served,
  metricsUrl: string,
): object {
  const served = new Set(servedNames(addresses));
  const plans = Object.entries(reports).flatMap(([name, report]) => {
    const plan = summaryOf(report);
    return plan === null || !served.has(name) ? [] : [[name, plan]];
  });
  return {
    tcp: addresses.map(listenerText),
    models: Object.fromEntries(Object.entries(models).filter(([name]) => served.has(name))),
    ...(plans.length === 0 ? {} : { plans: Object.fromEntries(plans) }),
    workers: config.cluster.workers,
    ...(metricsUrl === '' ? { redis: describeRedis(config.redis) } : { metrics: `${metricsUrl}/metrics` }),
    next: nextStep({ config, addresses, rowBytes, metricsUrl, env: process.env }),
  };
}

/** A model's inputs and outputs with their batch axes, in one line; null when only the model understands its payloads. */
function summaryOf(report: ModelReport | undefined): string | null {
  const plan = report?.plan ?? null;
  return report === undefined || plan === null ? null : planSummary({ ...plan, ...report });
}

/** Nothing leaves the machine without a warning. */
export function warnOfTelemetry({ onnxRuntime }: Pick<Config, 'onnxRuntime'>, log: Log): void {
  if (!onnxRuntime.disableTelemetry)
    log.warn('ONNX Runtime may report to its makers: onnxRuntime.disableTelemetry is false');
}

/** Logs the outcome for each model of a worker. */
export function logModelReload(log: Log, { slot, pid, reports }: WorkerHandle, results: ReloadResults): void {
  for (const [model, result] of Object.entries(results)) {
    const fields = { model, version: result.version, slot, worker: pid };
    if (result.outcome === 'failed')
      log.error({ ...fields, reason: result.reason }, 'model could not be reloaded: the old version serves on');
    else if (result.outcome === 'loaded') log.info({ ...fields, plan: summaryOf(reports[model]) }, 'model reloaded');
    else log.debug(fields, 'model unchanged');
  }
}

/**
 * The result of a reload of models in all workers, for the operator who asked for it. Throws Error with the reason when
 * a worker could not load one of them.
 */
export function modelReloadMessage(workers: readonly ReloadResults[]): string {
  const results = workers.flatMap((models) => Object.entries(models));
  const failed = results.find(([, { outcome }]) => outcome === 'failed');
  if (failed?.[1].outcome === 'failed') {
    const [model, { version, reason }] = failed;
    throw new Error(`the model ${model} could not be reloaded (${version}), and the old version serves on: ${reason}`);
  }
  const loaded = new Map(results.filter(([, { outcome }]) => outcome === 'loaded'));
  const models = [...loaded].map(([model, { version }]) => `${model} (${version})`);
  return models.length === 0 ? 'no model has changed' : `loaded: ${models.join(', ')}`;
}

export interface StatusOptions {
  readonly config: Pick<Config, 'cluster'>;
  readonly supervisor: Supervisor;
  readonly nodeRecord: NodeRecordKeeper;
  readonly metricsUrl: string | null;
  readonly state: ServerState;
}

export function serverStatus(options: StatusOptions): ServerStatus {
  const { config, supervisor, nodeRecord, metricsUrl } = options;
  const { name, node } = config.cluster;
  const last = supervisor.workers.findLast(({ state }) => state === 'ready');
  return {
    version: runningVersion,
    codeChange: codeChange(),
    pid: process.pid,
    cluster: name,
    node,
    state: stateOf(options),
    uptimeSeconds: nodeRecord.uptimeMs / 1000,
    // From the last worker that is ready: a reload may have changed them.
    listeners: last?.addresses ?? [],
    models: last?.models ?? {},
    plans: last?.reports ?? {},
    metricsUrl: metricsUrl || null,
    workersWanted: supervisor.wanted,
    cpuLimitCores: cpuLimit()?.cores ?? null,
    restarts: nodeRecord.restarts,
    movesConnections: supervisor.canMoveConnections,
    workers: supervisor.workers.map(workerStatus),
  };
}

function stateOf({ state, supervisor }: StatusOptions): ServerStatus['state'] {
  if (state.isEnding) return 'draining';
  if (state.phase === 'starting') return 'starting';
  return supervisor.isReloading ? 'reloading' : 'serving';
}

function workerStatus({ slot, pid = 0, state, revision, ageMs, connections, lastRecord }: WorkerHandle): WorkerStatus {
  const models = Object.values(lastRecord?.counts.models ?? {});
  return {
    slot,
    pid,
    state,
    revision,
    uptimeSeconds: ageMs / 1000,
    connections,
    inFlight: models.reduce((sum, model) => sum + unsettled(model), 0),
    requests: models.reduce((sum, { received }) => sum + received, 0),
    rssBytes: lastRecord?.gauges.rssBytes ?? 0,
    eventLoopUtilization: lastRecord?.gauges.eventLoopUtilization ?? 0,
  };
}
