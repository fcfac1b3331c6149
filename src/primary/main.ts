// The primary: accepts connections and passes them to workers, which read them; keeps workers alive, and reports for
// the node.
//
//   start ─▶ workers ready + aggregator ready ─▶ `ready` ─▶ … ─▶ signal ─▶ drain workers ─▶ last totals ─▶ exit 0

import cluster from 'node:cluster';
import { randomBytes } from 'node:crypto';
import { runningVersion } from '../code.js';
import { cpuLimit, describeCpuLimit, workersFor } from '../config/cpu-limit.js';
import { type Config, usesRedis } from '../config/load.js';
import { aggregatorConfig } from '../config/slices.js';
import { openControl } from '../control/server.js';
import { messageOf, OperatorError } from '../errors.js';
import type { BootFailed, ModelVersions } from '../ipc/messages.js';
import { IpcRelay } from '../metrics/transport/ipc.js';
import type { RedisPublisher } from '../metrics/transport/redis.js';
import type { RecordPublisher } from '../metrics/transport/transport.js';
import { logFatal, onReloadSignal, onScaleSignal, onStopSignal } from '../process/lifecycle.js';
import { countLostLines, createLog, type Log, type LogOrigin, outputTo } from '../process/log.js';
import { checkRedisFiles, logRedis, warnOfEviction } from '../redis-log.js';
import { openSlabFolder } from './metrics/counter-folder.js';
import { NodePublishing } from './metrics/node-publishing.js';
import { NodeRecordKeeper } from './metrics/node-record.js';
import { NodeStatistics } from './metrics/node-statistics.js';
import { Operations, operateWith } from './operations.js';
import { findModelVersions } from './rollout/model-versions.js';
import { ServerState } from './server-state.js';
import { logModelReload, readyEvent, serverStatus, warnOfTelemetry } from './status.js';
import { AggregatorChild } from './supervision/aggregator-child.js';
import { ChildOutput } from './supervision/child-output.js';
import { Supervisor } from './supervision/supervisor.js';

/**
 * How long the aggregator waits for a worker that can serve: where cores are few, it would take theirs while they load
 * their models. Who asks for the state of a server that loads for long gets an answer.
 */
const aggregatorWaitMs = 500;

/** Logs why there are fewer workers than cores, or that there are more than the cgroup lets run at once. */
function logCpuLimit(log: Log, workers: number): void {
  const limit = cpuLimit();
  if (limit === null) return;
  const fields = { workers, cpuLimit: describeCpuLimit(limit) };
  if (workers <= workersFor(limit)) log.info(fields, 'the cgroup limits processor time');
  else log.warn(fields, 'more workers than the cgroup lets run at once: under load all of them stand still at times');
}

/** What speaks to Redis is loaded only where there is one: it takes time and memory. */
async function openRedisPublisher(config: Config, log: Log): Promise<RedisPublisher> {
  const { RedisPublisher } = await import('../metrics/transport/redis.js');
  const tell = logRedis(log, config, {
    lost: 'redis lost: inference goes on, metrics will be late',
    refusing: 'redis takes no writes: inference goes on, metrics will be late',
  });
  const publisher: RedisPublisher = new RedisPublisher(config.redis, config.cluster.name, (state, problem) => {
    tell(state, problem);
    if (state === 'back') void warnOfEviction(log, config, publisher);
  });
  return publisher;
}

interface Home {
  /** Sorts by start time; two primaries of one node name never share it. */
  readonly run: string;
  readonly versions: ModelVersions;
  readonly slabFolder: string | null;
}

/** Finds what workers need before the first is started. Throws OperatorError. */
async function prepare(config: Config, log: Log): Promise<Home> {
  const run = `${Date.now().toString(36)}-${randomBytes(3).toString('hex')}`;
  checkRedisFiles(config);
  const versions = findModelVersions(config);
  return { run, versions, slabFolder: await openSlabFolder(config, run, log) };
}

/** The node's counts, and how they reach the aggregators; the relay is null with Redis. */
async function openPublishing(config: Config, { run, slabFolder }: Omit<Home, 'versions'>, log: Log) {
  const { node, workers } = config.cluster;
  const nodeRecord = new NodeRecordKeeper({ node, run, version: runningVersion });
  nodeRecord.workersWanted = workers;
  const relay = usesRedis(config) ? null : new IpcRelay();
  const publisher: RecordPublisher = relay ?? (await openRedisPublisher(config, log));
  const isLasting = relay === null;
  const publishing = new NodePublishing({
    config,
    run,
    record: nodeRecord,
    publisher,
    isLasting,
    folder: slabFolder,
    log,
  });
  return { nodeRecord, relay, publisher, publishing };
}

function openChildOutput(config: Config, origin: LogOrigin): ChildOutput {
  const output = new ChildOutput(outputTo(1, config.log, origin), outputTo(2, config.log, origin));
  cluster.setupPrimary({ stdio: output.stdio });
  cluster.on('fork', ({ process }) => output.relay(process));
  return output;
}

/** @param readConfig reads the config again; throws OperatorError CONFIG_INVALID */
export async function startPrimary(config: Config, readConfig: () => Config): Promise<void> {
  const { node, workers } = config.cluster;
  const origin = { role: 'primary', node } as const;
  const log = createLog(config.log, origin);
  const childOutput = openChildOutput(config, origin);
  const exitWith = (error: unknown): never => process.exit(logFatal(log, error));
  const { run, versions, slabFolder } = await prepare(config, log).catch(exitWith);
  const { nodeRecord, relay, publisher, publishing } = await openPublishing(config, { run, slabFolder }, log);
  countLostLines((lines) => publishing.count('logLinesLost', lines));

  const state = new ServerState();
  const becomeReady = (): void => {
    const { served } = supervisor;
    const metricsUrl = aggregator === null ? '' : aggregator.url;
    if (served === null || metricsUrl === null || !state.enter('serving')) return;
    log.info(readyEvent(config, served, metricsUrl), 'ready');
    operations.learnModels(versions);
    process.send?.('ready'); // what PM2's wait_ready waits for
  };
  const end = async (exitCode: number): Promise<never> => {
    await publishing.end();
    await aggregator?.drain();
    await publisher.close();
    await childOutput.ended(config.log.flushTimeoutMs);
    process.exit(exitCode);
  };
  const fail = (error: unknown): void => {
    if (!state.enter('failed')) return;
    const exitCode = logFatal(log, error);
    for (const child of children) child.kill();
    void end(exitCode);
  };
  const bootFailed = ({ code, message }: BootFailed): void => {
    if (state.hasServed) log.error({ code }, message);
    else fail(new OperatorError(code, message));
  };

  const aggregator =
    relay &&
    new AggregatorChild(aggregatorConfig(config), relay, log, childOutput, {
      onReady: (url) => {
        if (state.hasServed) log.info({ metrics: `${url}/metrics` }, 'aggregator ready');
        becomeReady();
      },
      onBootFailed: bootFailed,
    });
  const statistics = new NodeStatistics(() => publishing.counts(supervisor.workers));
  const supervisor: Supervisor = new Supervisor(config, versions, { run, slabFolder }, log, {
    onReady: becomeReady,
    onFork: ({ incarnation }) => nodeRecord.born(incarnation),
    // With Redis, workers publish their own records; the primary keeps what it gets from them for when they are gone.
    onUpdate: (update) => {
      if (update.record.kind === 'worker') statistics.saw(update.record);
      void relay?.publish(update);
    },
    onStatisticsAsked: (worker, question) => statistics.ask(worker, question),
    onExit: (worker) => {
      if (!state.isEnding && worker.state !== 'leaving') nodeRecord.restarts++;
      publishing.fold(worker);
    },
    onConnectionLost: () => publishing.count('closedByHandoff'),
    onReports: (reports) => {
      nodeRecord.learnModels(reports);
      startAggregator();
    },
    onModelsReloaded: (worker, results) => logModelReload(log, worker, results),
    onBootFailed: bootFailed,
    onGiveUp: (code, reason) => fail(new OperatorError(code, reason)),
  });
  let isAggregatorStarted = false;
  const startAggregator = (): void => {
    if (isAggregatorStarted) return;
    isAggregatorStarted = true;
    aggregator?.start();
  };
  const children = aggregator === null ? [supervisor] : [supervisor, aggregator];
  const operations = new Operations({ config, readConfig, supervisor, nodeRecord, state, log });
  const status = () =>
    serverStatus({ config: operations.config, supervisor, nodeRecord, metricsUrl: aggregator?.url ?? null, state });

  process.on('uncaughtException', fail);
  process.on('unhandledRejection', fail);
  onReloadSignal((signal) => operations.reloadOnSignal(signal));
  onScaleSignal((by) => operations.scaleOnSignal(by));
  onStopSignal(
    async (signal) => {
      if (state.isEnding) return;
      await operations.drain({ signal });
      await end(0);
    },
    (signal) => {
      log.warn({ signal }, 'forced: connections cut');
      for (const child of children) child.kill();
      process.exit(1);
    },
  );
  log.debug({ workers, run }, 'starting');
  warnOfTelemetry(config, log);
  logCpuLimit(log, workers);
  const operate = operateWith(operations, status, () => void end(0));
  const control = await openControl(config.control.socket, operate, log).catch(exitWith);
  process.once('exit', () => control?.close());
  try {
    await publishing.begin();
  } catch (error) {
    return fail(error);
  }
  try {
    supervisor.start();
    setTimeout(startAggregator, aggregatorWaitMs);
  } catch (error) {
    fail(new Error(`cannot start child processes: ${messageOf(error)}`, { cause: error }));
  }
}
