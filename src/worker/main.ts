// A worker: told by the primary what to be, it loads the models, opens the port and serves until it is told to drain.
// It reads no config and obeys no signal. When the primary is gone, Node ends it: node:cluster exits a worker whose
// channel closes.

import type { Config } from '../config/load.js';
import { sendToPrimary, type ToWorker, type WorkerBoot } from '../control.js';
import { messageOf, OperatorError } from '../errors.js';
import { ignoreTreeSignals, logFatal } from '../lifecycle.js';
import { createLog, type Log } from '../log.js';
import { Recorder } from '../metrics/recorder.js';
import { type WorkerRecord, type WorkerState, workerRecordId } from '../metrics/snapshot.js';
import { RedisPublisher } from '../metrics/transport/redis.js';
import { Admission } from './admission.js';
import { createProcessGauges } from './gauges.js';
import { servedNames, WorkerModels } from './models.js';
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
  const { config, versions } = message;
  const recorder = new Recorder(servedNames(config));
  const models = await WorkerModels.open(config, versions, recorder, log);
  const admission = new Admission({
    ask: (count) => void sendToPrimary({ kind: 'admit', count }).catch(() => {}),
    release: (count) => void sendToPrimary({ kind: 'released', count }).catch(() => {}),
  });
  const server = new WorkerServer(limitsOf(config), recorder, admission);
  const publish = createPublishing(message, recorder, server, models);
  const publishing = setInterval(publish, config.metrics.publishIntervalMs, 'ready');

  const drain = async (): Promise<void> => {
    clearInterval(publishing);
    models.drain();
    await server.drain(config.server.drainTimeoutSeconds * 1000);
    await publish('draining');
    await models.close();
    process.exit(0);
  };
  process.on('message', async (order: ToWorker) => {
    if (order.kind === 'admitted') admission.receive(order);
    else if (order.kind === 'drain') await drain();
    else if (order.kind === 'reload-models') {
      await sendToPrimary({ kind: 'models-reloaded', results: await models.reload(order.versions) });
    }
  });

  const addresses = [];
  for (const { host, port, model } of config.listeners) {
    const lane = { batcher: models.get(model).batcher, recorder: recorder.model(model) };
    addresses.push(await server.listen({ host, port, model, lane }));
  }
  await publish('ready');
  await sendToPrimary({ kind: 'ready', addresses, models: models.descriptions() });
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

/** Publishes this worker's record to the primary, and to Redis where there is one; never throws and never queues. */
function createPublishing(
  boot: WorkerBoot,
  recorder: Recorder,
  server: WorkerServer,
  models: WorkerModels,
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
      models: models.gauges(),
    },
  });
  return async (state) => {
    const update = { record: record(state), retires: [] };
    // Both may fail: the primary may be gone, Redis may be down. The next record says it all again.
    await Promise.allSettled([sendToPrimary({ kind: 'update', update }), redis?.publish(update)]);
  };
}
