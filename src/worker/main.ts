// A worker: told by the primary what to be, it loads the models, opens the port and serves until it is told to drain.
// It reads no config and obeys no signal. When the primary is gone, Node ends it: node:cluster exits a worker whose
// channel closes.

import type { Config } from '../config/load.js';
import { sendToPrimary, type ToWorker, type WorkerBoot } from '../control.js';
import { messageOf, OperatorError } from '../errors.js';
import { Batcher, type BatchObserver } from '../inference/batcher.js';
import { loadModel } from '../inference/catalogue.js';
import type { Model } from '../inference/model.js';
import { ignoreTreeSignals, logFatal } from '../lifecycle.js';
import { createLog, type Log } from '../log.js';
import { type ModelRecorder, Recorder } from '../metrics/recorder.js';
import { type WorkerRecord, type WorkerState, workerRecordId } from '../metrics/snapshot.js';
import { RedisPublisher } from '../metrics/transport/redis.js';
import { Admission } from './admission.js';
import type { Lane } from './connection.js';
import { createProcessGauges } from './gauges.js';
import { WorkerServer } from './server.js';

ignoreTreeSignals();
process.once('message', (message: ToWorker) => {
  if (message.kind !== 'boot') return;
  const { config, slot } = message;
  const log = createLog(config.log, { role: 'worker', node: config.cluster.node, slot });
  process.on('uncaughtException', (error) => process.exit(logFatal(log, error)));
  boot(message, log).catch(async (error: unknown) => {
    const code = error instanceof OperatorError ? error.code : 'UNEXPECTED';
    await sendToPrimary({ kind: 'boot-failed', code, message: messageOf(error) }).catch(() => {});
    process.exit(1);
  });
});
await sendToPrimary({ kind: 'hello' });

async function boot(message: WorkerBoot, log: Log): Promise<void> {
  const { config } = message;
  const names = [...new Set(config.listeners.map(({ model }) => model))];
  const recorder = new Recorder(names);
  const models = new Map<string, Model>();
  const lanes = new Map<string, Lane>();
  for (const name of names) {
    const model = await load(config, name);
    const modelRecorder = recorder.model(name);
    const { maxBatchSize, maxQueue } = settingsOf(config, name);
    models.set(name, model);
    lanes.set(name, {
      batcher: new Batcher(model, { maxBatchSize, maxQueue }, observer(name, modelRecorder, log)),
      recorder: modelRecorder,
    });
  }

  const admission = new Admission({
    ask: (count) => void sendToPrimary({ kind: 'admit', count }).catch(() => {}),
    release: (count) => void sendToPrimary({ kind: 'released', count }).catch(() => {}),
  });
  const server = new WorkerServer(limitsOf(config), recorder, admission);
  const publish = createPublishing(message, recorder, server, lanes);
  const publishing = setInterval(publish, config.metrics.publishIntervalMs, 'ready');

  process.on('message', async (order: ToWorker) => {
    if (order.kind === 'admitted') admission.receive(order);
    if (order.kind !== 'drain') return;
    clearInterval(publishing);
    await server.drain(config.server.drainTimeoutSeconds * 1000);
    await publish('draining');
    for (const model of models.values()) await model.close();
    process.exit(0);
  });

  const addresses = [];
  for (const { host, port, model } of config.listeners)
    addresses.push(await server.listen({ host, port, model, lane: lanes.get(model) as Lane }));
  await publish('ready');
  await sendToPrimary({
    kind: 'ready',
    addresses,
    models: Object.fromEntries([...models].map(([name, model]) => [name, model.description])),
  });
}

const settingsOf = (config: Config, name: string): Config['models'][number] => {
  const settings = config.models.find((model) => model.name === name);
  if (settings === undefined) throw new OperatorError('CONFIG_INVALID', `there is no model named ${name}`);
  return settings;
};

async function load(config: Config, name: string): Promise<Model> {
  const settings = settingsOf(config, name);
  try {
    return await loadModel({ ...settings, responseSize: settings.responseSize ?? config.server.responseSize });
  } catch (error) {
    const index = config.models.indexOf(settings);
    throw new OperatorError(
      'MODEL_LOAD_FAILED',
      `the model ${name} cannot be served: ${messageOf(error)}; see models[${index}] in config`,
      { cause: error },
    );
  }
}

function limitsOf({ server }: Config) {
  return {
    lengthFieldSize: server.lengthFieldSize,
    maxPayloadBytes: server.maxPayloadSizeKb * 1024,
    maxInFlight: server.maxInFlightPerConnection,
    maxWriteBufferBytes: server.maxWriteBufferKb * 1024,
    payloadTimeoutMs: server.payloadTimeoutSeconds * 1000,
    idleTimeoutMs: server.idleTimeoutSeconds * 1000,
  };
}

/** Counts each batch, and logs failures: the first at once, then one line a second at the most. */
function observer(model: string, recorder: ModelRecorder, log: Log): BatchObserver {
  let unloggedFailures = 0;
  let quietUntil = 0;
  return (batch, outcome, runMs) => {
    recorder.count('batches');
    recorder.count('batchedRows', batch.rows);
    recorder.count('runMicroseconds', runMs * 1000);
    const error =
      outcome.kind === 'failed'
        ? outcome.error
        : outcome.kind === 'rows'
          ? outcome.rows.find((row) => row instanceof Error)
          : undefined;
    if (error === undefined) return;
    unloggedFailures++;
    if (performance.now() < quietUntil) return;
    quietUntil = performance.now() + 1000;
    log.error({ model, err: error, batchRows: batch.rows, failedBatches: unloggedFailures }, 'inference failed');
    unloggedFailures = 0;
  };
}

/** Publishes this worker's record to the primary, and to Redis where there is one; never throws and never queues. */
function createPublishing(
  boot: WorkerBoot,
  recorder: Recorder,
  server: WorkerServer,
  lanes: ReadonlyMap<string, Lane>,
): (state: WorkerState) => Promise<void> {
  const { config, run, slot, incarnation } = boot;
  const { node, name: cluster } = config.cluster;
  // The primary logs whether Redis is there; a line from every worker would say the same.
  const redis = config.redis.url === '' ? null : new RedisPublisher(config.redis, cluster, () => {});
  const processGauges = createProcessGauges();
  const startedAt = Date.now();
  let sequence = 0;
  const record = (state: WorkerState): WorkerRecord => ({
    kind: 'worker',
    id: workerRecordId(node, run, slot, incarnation),
    node,
    run,
    slot,
    incarnation,
    sequence: ++sequence,
    startedAt,
    pid: process.pid,
    counts: recorder.snapshot(),
    gauges: {
      ...processGauges(),
      state,
      connections: server.connections,
      inFlight: server.inFlight,
      queued: [...lanes.values()].reduce((sum, { batcher }) => sum + batcher.queuedRows, 0),
    },
  });
  return async (state) => {
    const update = { record: record(state), retires: [] };
    // Both may fail: the primary may be gone, Redis may be down. The next record says it all again.
    await Promise.allSettled([sendToPrimary({ kind: 'update', update }), redis?.publish(update)]);
  };
}
