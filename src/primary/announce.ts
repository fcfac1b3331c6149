// What the primary tells people: that it is ready and where, how it stands, what came of loading models.

import { cpuLimit } from '../config/cpu-limit.js';
import { describeRedis } from '../config/describe.js';
import { type Config, packageVersion } from '../config/load.js';
import type { ListenAddress, ReloadResults } from '../control.js';
import type { Log } from '../log.js';
import { unsettled } from '../metrics/merge.js';
import type { ServerStatus, WorkerStatus } from '../operations.js';
import type { NodeRecordKeeper } from './node-record.js';
import type { Supervisor } from './supervisor.js';
import type { WorkerHandle } from './worker-handle.js';

/** What the workers serve, as the first that was ready said. */
export interface Served {
  readonly addresses: readonly ListenAddress[];
  readonly models: Readonly<Record<string, string>>;
}

/** The fields of the `ready` event: where to connect, what is served, and what to try next. */
export function readyEvent(config: Config, { addresses, models }: Served, metricsUrl: string): object {
  const served = new Set(addresses.map(({ model }) => model));
  return {
    tcp: addresses.map(({ host, port, model }) => `${host}:${port} → ${model}`),
    models: Object.fromEntries(Object.entries(models).filter(([name]) => served.has(name))),
    workers: config.cluster.workers,
    ...(metricsUrl === '' ? { redis: describeRedis(config.redis) } : { metrics: `${metricsUrl}/metrics` }),
    next:
      metricsUrl === ''
        ? 'ml-tcp-server aggregator serves the metrics; ml-tcp-server simulate sends requests'
        : 'npm run simulate sends requests and checks every reply',
  };
}

/** Nothing leaves the machine without a word of it. */
export function warnOfTelemetry({ onnxRuntime }: Config, log: Log): void {
  if (!onnxRuntime.disableTelemetry)
    log.warn('ONNX Runtime may report to its makers: onnxRuntime.disableTelemetry is false');
}

/** A line for each model of a worker that has changed or could not. */
export function logModelReload(log: Log, { slot, pid }: WorkerHandle, results: ReloadResults): void {
  for (const [model, result] of Object.entries(results)) {
    const fields = { model, version: result.version, slot, worker: pid };
    if (result.outcome === 'failed')
      log.error({ ...fields, reason: result.reason }, 'model could not be reloaded: the old version serves on');
    else if (result.outcome === 'loaded') log.info(fields, 'model reloaded');
    else log.debug(fields, 'model unchanged');
  }
}

export interface StatusOptions {
  readonly config: Config;
  readonly supervisor: Supervisor;
  readonly nodeRecord: NodeRecordKeeper;
  readonly metricsUrl: string | null;
  readonly isReady: boolean;
  readonly isEnding: boolean;
}

export function serverStatus(options: StatusOptions): ServerStatus {
  const { config, supervisor, nodeRecord, metricsUrl } = options;
  const { name, node } = config.cluster;
  const last = supervisor.workers.findLast(({ state }) => state === 'ready');
  return {
    version: packageVersion(),
    pid: process.pid,
    cluster: name,
    node,
    state: stateOf(options),
    uptimeSeconds: process.uptime(),
    // Of the worker that was ready last: a reload may have changed them.
    listeners: last?.addresses ?? [],
    models: last?.models ?? {},
    metricsUrl: metricsUrl || null,
    workersWanted: supervisor.wanted,
    cpuLimitCores: cpuLimit()?.cores ?? null,
    restarts: nodeRecord.restarts,
    movesConnections: supervisor.canMoveConnections,
    workers: supervisor.workers.map(workerStatus),
  };
}

function stateOf({ isEnding, isReady, supervisor }: StatusOptions): ServerStatus['state'] {
  if (isEnding) return 'draining';
  if (!isReady) return 'starting';
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
