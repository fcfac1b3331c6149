// The primary: reads nothing from clients, keeps the processes alive that do, and speaks for the node.
//
//   start ─▶ workers ready + aggregator ready ─▶ `ready` ─▶ … ─▶ signal ─▶ drain workers ─▶ last totals ─▶ exit 0

import cluster from 'node:cluster';
import { randomBytes } from 'node:crypto';
import { codeChange, installedCode, runningVersion } from '../code.js';
import { cpuLimit, describeCpuLimit, workersFor } from '../config/cpu-limit.js';
import { maxWorkers } from '../config/formats.js';
import { type Config, usesRedis } from '../config/load.js';
import { aggregatorConfig } from '../config/slices.js';
import type { BootFailed, ModelVersions } from '../control.js';
import { messageOf, OperatorError } from '../errors.js';
import { logFatal, onReloadSignal, onScaleSignal, onStopSignal } from '../lifecycle.js';
import { countLostLines, createLog, type Log, outputTo } from '../log.js';
import { IpcRelay } from '../metrics/transport/ipc.js';
import { RedisPublisher } from '../metrics/transport/redis.js';
import type { RecordPublisher } from '../metrics/transport/transport.js';
import { checkRedisFiles, logRedis, warnOfEviction } from '../redis-log.js';
import { AggregatorChild } from './aggregator-child.js';
import {
  logModelReload,
  modelReloadMessage,
  readyEvent,
  type Served,
  serverStatus,
  warnOfTelemetry,
} from './announce.js';
import { ChildOutput } from './child-output.js';
import { type ControlServer, openControl } from './control-server.js';
import { ModelContents } from './model-contents.js';
import { findModelVersions } from './model-versions.js';
import { NodePublishing } from './node-publishing.js';
import { NodeRecordKeeper } from './node-record.js';
import { operateWith } from './operator.js';
import { Reloader } from './reload.js';
import { openSlabFolder } from './slab-folder.js';
import { Supervisor } from './supervisor.js';

/** Says why there are fewer workers than cores, or that there are more than the cgroup lets run at once. */
function logCpuLimit(log: Log, workers: number): void {
  const limit = cpuLimit();
  if (limit === null) return;
  const fields = { workers, cpuLimit: describeCpuLimit(limit) };
  if (workers <= workersFor(limit)) log.info(fields, 'the cgroup limits processor time');
  else log.warn(fields, 'more workers than the cgroup lets run at once: under load all of them stand still at times');
}

function openRedisPublisher(config: Config, log: Log): RedisPublisher {
  const tell = logRedis(log, config, {
    lost: 'redis lost: inference goes on, metrics will be late',
    refusing: 'redis takes no writes: inference goes on, metrics will be late',
  });
  const publisher = new RedisPublisher(config.redis, config.cluster.name, (state, problem) => {
    tell(state, problem);
    if (state === 'back') void warnOfEviction(log, config, publisher);
  });
  return publisher;
}

/** @param readConfig reads the config again; throws OperatorError CONFIG_INVALID */
export async function startPrimary(config: Config, readConfig: () => Config): Promise<void> {
  const { node, workers } = config.cluster;
  const origin = { role: 'primary', node } as const;
  const log = createLog(config.log, origin);
  const childOutput = new ChildOutput(outputTo(1, config.log, origin), outputTo(2, config.log, origin));
  cluster.setupPrimary({ stdio: childOutput.stdio });
  cluster.on('fork', ({ process }) => childOutput.relay(process));
  // Sorts by start, and two primaries of one node name never share it.
  const run = `${Date.now().toString(36)}-${randomBytes(3).toString('hex')}`;
  let versions: ModelVersions;
  let slabFolder: string | null;
  try {
    checkRedisFiles(config);
    versions = findModelVersions(config);
    slabFolder = await openSlabFolder(config, run, log);
  } catch (error) {
    process.exit(logFatal(log, error));
  }
  const nodeRecord = new NodeRecordKeeper({ node, run, version: runningVersion });
  nodeRecord.workersWanted = workers;

  const relay = usesRedis(config) ? null : new IpcRelay();
  const publisher: RecordPublisher = relay ?? openRedisPublisher(config, log);
  const publishing = new NodePublishing({
    config,
    run,
    record: nodeRecord,
    publisher,
    isLasting: relay === null,
    folder: slabFolder,
    log,
  });
  countLostLines((lines) => publishing.count('logLinesLost', lines));

  let served: Served | null = null;
  let metricsUrl: string | null = relay === null ? '' : null;
  let isReady = false;
  const announce = (): void => {
    if (isReady || served === null || metricsUrl === null) return;
    isReady = true;
    log.info(readyEvent(config, served, metricsUrl), 'ready');
    void contents.learn(versions);
    process.send?.('ready'); // what PM2's wait_ready waits for
  };

  let isEnding = false;
  let control: ControlServer | null = null;
  const end = async (exitCode: number): Promise<never> => {
    await publishing.end();
    await aggregator?.drain();
    await publisher.close();
    control?.close();
    await childOutput.ended(config.log.flushTimeoutMs);
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
    new AggregatorChild(aggregatorConfig(config), relay, log, childOutput, {
      onReady: (url) => {
        metricsUrl = url;
        if (isReady) log.info({ metrics: `${url}/metrics` }, 'aggregator ready');
        announce();
      },
      onBootFailed: bootFailed,
    });
  const supervisor = new Supervisor(config, versions, { run, slabFolder }, log, {
    onReady: (ready) => {
      served = ready;
      announce();
    },
    onFork: ({ incarnation }) => nodeRecord.born(incarnation),
    // With Redis the workers publish for themselves; what they tell the primary is for when they are gone.
    onUpdate: (update) => void relay?.publish(update),
    onExit: (worker) => {
      if (!isEnding && worker.state !== 'leaving') nodeRecord.restarts++;
      publishing.fold(worker);
    },
    onConnectionLost: () => publishing.count('closedByHandoff'),
    onSignatures: (signatures) => {
      nodeRecord.signatures = signatures;
    },
    onModelsReloaded: (worker, results) => logModelReload(log, worker, results),
    onBootFailed: bootFailed,
    onGiveUp: (code, reason) => fail(new OperatorError(code, reason)),
  });

  const scale = async (wanted: number): Promise<void> => {
    if (wanted === supervisor.wanted) return;
    const change = wanted > supervisor.wanted ? codeChange() : null;
    if (change !== null) throw new Error(change);
    log.info({ workers: wanted, before: supervisor.wanted }, 'scaling');
    nodeRecord.workersWanted = wanted;
    await supervisor.scale(wanted);
  };
  const reloader = new Reloader(
    config,
    { readConfig, installedVersion: installedCode },
    {
      get isReloading() {
        return supervisor.isReloading;
      },
      reload: async (next, nextVersions) => {
        await supervisor.reload(next, contents.labelled(nextVersions));
        nodeRecord.reloads++;
        warnOfTelemetry(next, log);
        void contents.learn(nextVersions);
      },
      scale,
    },
    log,
  );
  const contents = new ModelContents();
  let modelReload: Promise<unknown> = Promise.resolve();
  const reloadModels = (): Promise<string> => {
    const isDone = modelReload.then(async () => {
      const versions = await contents.compared(findModelVersions(reloader.config));
      log.info('reloading models');
      return modelReloadMessage(await supervisor.reloadModels(versions));
    });
    modelReload = isDone.catch(() => {});
    return isDone;
  };
  const drain = async (reason: object): Promise<void> => {
    isEnding = true;
    const { drainTimeoutSeconds } = reloader.config.server;
    log.info({ ...reason, drainTimeoutSeconds }, 'draining: answering what is in flight; once more to force');
    await supervisor.drain();
    log.info('stopped');
  };
  const status = () => serverStatus({ config: reloader.config, supervisor, nodeRecord, metricsUrl, isReady, isEnding });

  onReloadSignal((signal) => {
    if (!isEnding && isReady) void reloader.request(signal);
  });
  onScaleSignal((by) => {
    if (isEnding) return;
    scale(Math.min(Math.max(1, supervisor.wanted + by), maxWorkers)).catch((error: unknown) =>
      log.error({ reason: messageOf(error) }, 'not scaled'),
    );
  });
  process.on('uncaughtException', fail);
  process.on('unhandledRejection', fail);
  onStopSignal(
    async (signal) => {
      if (isEnding) return;
      await drain({ signal });
      await end(0);
    },
    (signal) => {
      log.warn({ signal }, 'forced: connections cut');
      supervisor.kill();
      aggregator?.kill();
      control?.close();
      process.exit(1);
    },
  );
  log.debug({ workers, run }, 'starting');
  warnOfTelemetry(config, log);
  logCpuLimit(log, workers);
  const operate = operateWith({
    status,
    reload: () => reloader.reload('command'),
    reloadModels,
    scale,
    drain: () => drain({ reason: 'command' }),
    end: () => void end(0),
  });
  try {
    control = await openControl(config.control.socket, operate, log);
  } catch (error) {
    process.exit(logFatal(log, error));
  }
  try {
    await publishing.begin();
  } catch (error) {
    return fail(error);
  }
  try {
    supervisor.start();
    aggregator?.start();
  } catch (error) {
    fail(new Error(`cannot start child processes: ${messageOf(error)}`, { cause: error }));
  }
}
