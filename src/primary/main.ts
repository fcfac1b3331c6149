// The primary: reads nothing from clients, keeps the processes alive that do, and speaks for the node.
//
//   start ─▶ workers ready + aggregator ready ─▶ `ready` ─▶ … ─▶ signal ─▶ drain workers ─▶ last totals ─▶ exit 0

import { randomBytes } from 'node:crypto';
import { describeRedis } from '../config/describe.js';
import { type Config, packageVersion, usesRedis } from '../config/load.js';
import { maxWorkers } from '../config/schema.js';
import type { BootFailed, ListenAddress, ModelVersions, ReloadResults } from '../control.js';
import { messageOf, OperatorError } from '../errors.js';
import { logFatal, onReloadSignal, onScaleSignal, onStopSignal } from '../lifecycle.js';
import { createLog, type Log } from '../log.js';
import { IpcRelay } from '../metrics/transport/ipc.js';
import { RedisPublisher } from '../metrics/transport/redis.js';
import type { RecordPublisher } from '../metrics/transport/transport.js';
import { AggregatorChild } from './aggregator-child.js';
import { findModelVersions } from './model-versions.js';
import { NodePublishing } from './node-publishing.js';
import { NodeRecordKeeper } from './node-record.js';
import { Supervisor } from './supervisor.js';
import type { WorkerHandle } from './worker-handle.js';

export function startPrimary(config: Config): void {
  const { node, workers } = config.cluster;
  const log = createLog(config.log, { role: 'primary', node });
  // Sorts by start, and two primaries of one node name never share it.
  const run = `${Date.now().toString(36)}-${randomBytes(3).toString('hex')}`;
  let versions: ModelVersions;
  try {
    versions = findModelVersions(config);
  } catch (error) {
    process.exit(logFatal(log, error));
  }
  const nodeRecord = new NodeRecordKeeper({ node, run, version: packageVersion() });
  nodeRecord.workersWanted = workers;

  const relay = usesRedis(config) ? null : new IpcRelay();
  const publisher: RecordPublisher =
    relay ??
    new RedisPublisher(config.redis, config.cluster.name, (state, reason) => {
      const redis = describeRedis(config.redis);
      if (state === 'back') log.info({ redis }, 'redis connected');
      else if (state === 'lost') log.warn({ redis, reason }, 'redis lost: inference goes on, metrics will be late');
      else log.warn({ redis, reason }, 'redis takes no writes: inference goes on, metrics will be late');
    });
  const publishing = new NodePublishing({ config, run, record: nodeRecord, publisher, isLasting: relay === null });

  let served: { addresses: readonly ListenAddress[]; models: Readonly<Record<string, string>> } | null = null;
  let metricsUrl: string | null = relay === null ? '' : null;
  let isReady = false;
  const announce = (): void => {
    if (isReady || served === null || metricsUrl === null) return;
    isReady = true;
    log.info(readyEvent(config, served.addresses, served.models, metricsUrl), 'ready');
    process.send?.('ready'); // what PM2's wait_ready waits for
  };

  let isEnding = false;
  const end = async (exitCode: number): Promise<never> => {
    await publishing.end();
    await aggregator?.drain();
    await publisher.close();
    process.exit(exitCode);
  };
  const fail = (error: unknown): void => {
    if (isEnding) return;
    isEnding = true;
    const exitCode = logFatal(log, error);
    supervisor.kill();
    aggregator?.kill();
    void end(exitCode);
  };
  const bootFailed = ({ code, message }: BootFailed): void => {
    if (!isReady) fail(new OperatorError(code, message));
    else log.error({ code }, message);
  };

  const aggregator =
    relay &&
    new AggregatorChild(config, relay, log, {
      onReady: (url) => {
        metricsUrl = url;
        if (isReady) log.info({ metrics: `${url}/metrics` }, 'aggregator ready');
        announce();
      },
      onBootFailed: bootFailed,
    });
  const supervisor = new Supervisor(config, versions, run, log, {
    onReady: (addresses, models) => {
      served = { addresses, models };
      announce();
    },
    // With Redis the workers publish for themselves; what they tell the primary is for when they are gone.
    onUpdate: (update) => void relay?.publish(update),
    onExit: (worker: WorkerHandle) => {
      if (!isEnding && worker.state !== 'draining') nodeRecord.restarts++;
      publishing.fold(worker);
    },
    onModelsReloaded: (worker, results) => logReload(log, worker, results),
    onBootFailed: bootFailed,
    onGiveUp: (reason) => fail(new OperatorError('WORKER_BOOT_FAILED', reason)),
  });

  onReloadSignal(() => {
    if (isEnding) return;
    try {
      supervisor.reloadModels(findModelVersions(config));
      log.info('reloading models');
    } catch (error) {
      log.error({ err: error }, 'models not reloaded: the old versions serve on');
    }
  });
  onScaleSignal((by) => {
    const wanted = Math.min(Math.max(1, supervisor.wanted + by), maxWorkers);
    if (isEnding || wanted === supervisor.wanted) return;
    log.info({ workers: wanted, before: supervisor.wanted }, 'scaling');
    nodeRecord.workersWanted = wanted;
    supervisor.scale(wanted);
  });
  process.on('uncaughtException', fail);
  process.on('unhandledRejection', fail);
  onStopSignal(
    async (signal) => {
      if (isEnding) return;
      isEnding = true;
      log.info(
        { signal, drainTimeoutSeconds: config.server.drainTimeoutSeconds },
        'draining: answering what is in flight; once more to force',
      );
      await supervisor.drain();
      log.info('stopped');
      await end(0);
    },
    (signal) => {
      log.warn({ signal }, 'forced: connections cut');
      supervisor.kill();
      aggregator?.kill();
      process.exit(1);
    },
  );
  log.debug({ workers, run }, 'starting');
  try {
    supervisor.start();
    aggregator?.start();
  } catch (error) {
    fail(new Error(`cannot start child processes: ${messageOf(error)}`, { cause: error }));
  }
}

/** A line for each model of a worker that has changed or could not. */
function logReload(log: Log, { slot, pid }: WorkerHandle, results: ReloadResults): void {
  for (const [model, result] of Object.entries(results)) {
    const fields = { model, version: result.version, slot, worker: pid };
    if (result.outcome === 'failed')
      log.error({ ...fields, reason: result.reason }, 'model could not be reloaded: the old version serves on');
    else if (result.outcome === 'loaded') log.info(fields, 'model reloaded');
    else log.debug(fields, 'model unchanged');
  }
}

/** The fields of the `ready` event: where to connect, what is served, and what to try next. */
function readyEvent(
  config: Config,
  addresses: readonly ListenAddress[],
  models: Readonly<Record<string, string>>,
  metricsUrl: string,
): object {
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
