// A worker: gets its config from the primary, loads the models, and serves the connections that the primary gives it,
// until it is ordered to drain. It reads no config files and obeys no signals. When the primary is gone, Node ends the
// worker: node:cluster exits a worker whose channel closes.

import type { Socket } from 'node:net';
import { runningCode, runningVersion } from '../code.js';
import { servedNames } from '../config/listeners.js';
import type { WorkerConfig } from '../config/slices.js';
import { messageOf, OperatorError, reasonOf } from '../errors.js';
import { threadsThatCannotEnd } from '../inference/threads/host.js';
import { sendToPrimary } from '../ipc/channel.js';
import type { ToWorker, WorkerBoot } from '../ipc/messages.js';
import { CounterFile, lockName } from '../metrics/counter-file.js';
import { holdLock } from '../metrics/lock.js';
import { Recorder } from '../metrics/recorder.js';
import { usesTls } from '../net/certificates.js';
import { hearOfEnd, type RawHandle, socketOn } from '../net/raw-handle.js';
import type { Tracing } from '../otlp.js';
import { maxSockets } from '../process/descriptors.js';
import { ignoreTreeSignals, logFatal } from '../process/lifecycle.js';
import { countLostLines, createLog, type Log } from '../process/log.js';
import { BufferPool } from '../protocol/buffer-pool.js';
import { emptyFrame } from '../protocol/frames.js';
import { MemoryBudget } from '../serving/memory-budget.js';
import { ModelEndpoint } from '../serving/model-endpoint.js';
import { ReplyFlush } from '../serving/reply-flush.js';
import { Arrivals, receiveArrivals } from './connections/arrivals.js';
import { tryHandles } from './connections/handle-check.js';
import { Migration } from './connections/migration.js';
import { WorkerServer } from './connections/server.js';
import { TlsHandshakes } from './connections/tls-handshakes.js';
import { SharedSecret } from './framed/shared-secret.js';
import { WorkerModels } from './models.js';
import { Publishing } from './publishing.js';
import { connectionRefused, RejectionLog } from './rejection-log.js';
import { Entrances } from './routes.js';
import type { TypedOptions, TypedProtocols } from './typed.js';

/** Memory that is kept for frames that will come in pieces. */
const maxPooledBytes = 16 << 20;

ignoreTreeSignals();
hearOfEnd(process);
const arrivals = new Arrivals(sendToPrimary);
const takesHandles = receiveArrivals(arrivals);
process.once('message', (message: ToWorker) => {
  if (message.kind !== 'boot') return;
  const { config, slot } = message;
  const log = createLog(config.log, { role: 'worker', node: config.cluster.node, slot });
  // Node would wait for a thread in native code, perhaps forever, and then abort. Registered after the log, which
  // writes its last lines at the exit.
  process.on('exit', () => {
    if (threadsThatCannotEnd() > 0) process.kill(process.pid, 'SIGKILL');
  });
  let running: () => object = () => ({});
  // An uncaught exception, most often from a user's model: what it concerned is no longer known, but what was running
  // is.
  process.on('uncaughtException', (error, origin) =>
    process.exit(logFatal(log, error, { origin, running: running() })),
  );
  const onServing = (gauges: () => object): void => {
    running = gauges;
  };
  boot(message, log, onServing).catch(async (error: unknown) => {
    const code = error instanceof OperatorError ? error.code : 'UNEXPECTED';
    await sendToPrimary({ kind: 'boot-failed', code, message: messageOf(error) }).catch(() => {});
    process.exit(1);
  });
});
// It rejects when the primary is gone: then there is nothing to serve.
await sendToPrimary({ kind: 'hello', code: runningCode, takesHandles }).catch(() => process.exit(1));

async function boot(message: WorkerBoot, log: Log, onServing: (gauges: () => object) => void): Promise<void> {
  const { config, versions } = message;
  const isTried = tryHandles();
  const recorder = new Recorder(servedNames(config.listeners));
  countLostLines((lines) => recorder.count('logLinesLost', lines));
  const counterFile = await openCounterFile(message, recorder, log);
  const tracing = await startTracing(message);
  await isTried;
  const models = await WorkerModels.open(config, versions, recorder, log, tracing).finally(() => counterFile?.write());
  const migration = new Migration(sendToPrimary, String(message.incarnation));
  const limits = requestLimitsOf(config);
  const budget = new MemoryBudget(config.server.maxBufferedMb * 1024 * 1024);
  const flush = new ReplyFlush(() => counterFile?.write());
  const endpoints = new Map(
    servedNames(config.listeners).map((name) => [
      name,
      new ModelEndpoint({
        name,
        batcher: models.get(name).batcher,
        recorder: recorder.model(name),
        limits,
        budget,
        flush,
      }),
    ]),
  );
  const { sharedSecret, tls, payloadTimeoutSeconds } = config.server;
  const secret = sharedSecret === '' ? null : new SharedSecret(sharedSecret);
  const { keptRejections, publishIntervalMs } = config.metrics;
  const rejections = new RejectionLog({ kept: keptRejections, publishIntervalMs, log });
  const pool = new BufferPool(maxPooledBytes);
  const connections = { limits: limitsOf(config), recorder, pool };
  const { lengthFieldSize } = config.server;
  const context = { connections, lengthFieldSize, maxPayloadBytes: limits.maxPayloadBytes, pool, secret, rejections };
  const typed = await openTyped({
    config,
    models,
    endpoints,
    recorder,
    budget,
    flush,
    context,
    askPrimary: sendToPrimary,
  });
  const server = new WorkerServer({
    context: connections,
    rejectionLog: rejections,
    arrivals,
    listeners: config.listeners,
    migration,
    handshakes: usesTls(tls) ? new TlsHandshakes(tls, payloadTimeoutSeconds * 1000, log) : null,
    batchers: [...endpoints.values()].map(({ batcher }) => batcher),
    entrances: new Entrances(config.listeners, { endpoints, context, typed }),
    hasSecret: secret !== null,
    refusalOf: ({ protocol }, decision) =>
      typed !== null && (protocol === 'calls' || protocol === 'open')
        ? typed.refusal(protocol, decision)
        : emptyFrame(lengthFieldSize),
    maxSockets: maxSockets(),
    keepAliveMs: config.server.keepAliveSeconds * 1000,
    onExhausted: everySoOften(10_000, () =>
      log.error(
        { connections: server.connections },
        'no descriptor left: connections are refused; raise the limit of open files (ulimit -n, LimitNOFILE), or lower server.maxConnections',
      ),
    ),
  });
  const gauges = () => ({ connections: server.connections, inFlight: server.inFlight, models: models.gauges() });
  const published = () => withRejections(gauges(), rejections.recent());
  const publishing = await Publishing.open(message, recorder, published, () => counterFile?.write());
  onServing(gauges);

  const drainTimeoutMs = config.server.drainTimeoutSeconds * 1000;
  const leave = async (): Promise<void> => {
    counterFile?.write();
    await publishing.end();
    await models.close();
    await typed?.close();
    await tracing?.close();
    const stuck = threadsThatCannotEnd();
    if (stuck === 0) process.exit(0);
    const reason = `${stuck} of its threads are in runs that do not end`;
    await sendToPrimary({ kind: 'kill', reason }).catch(() => process.exit(0));
  };
  models.onSpent = (reason) => void sendToPrimary({ kind: 'replace', reason }).catch(() => {});
  const drain = async (): Promise<void> => {
    typed?.drain();
    models.drain();
    await server.drain(drainTimeoutMs);
    await leave();
  };
  const retire = async (movable: readonly string[]): Promise<void> => {
    models.drain();
    await server.retire(movable, drainTimeoutMs);
    await leave();
  };
  let checked: Socket | null = null;
  const obey = async (order: ToWorker, handle: unknown): Promise<void> => {
    switch (order.kind) {
      case 'turned-away':
        for (const [counter, count, client] of order.refusals) {
          recorder.count(counter, count);
          rejections.note(connectionRefused(client, reasonOf[counter]));
        }
        return;
      case 'drain':
        return drain();
      case 'retire':
        return retire(order.movable);
      case 'connection':
        return arrivals.arrive(order.arrival, handle as RawHandle);
      case 'migrate-some':
        return server.migrateSome(order);
      case 'attach':
        return server.expect(order, handle as RawHandle);
      case 'attach-state':
        return server.attach(order);
      case 'check-migration':
        checked = socketOn(handle as RawHandle).on('error', () => {});
        return;
      case 'finish-migration-check':
        checked?.end(Buffer.alloc(order.bytes));
        checked?.resume();
        return;
      case 'statistics':
        return typed?.answered(order);
      case 'reload-models':
        await sendToPrimary({
          kind: 'models-reloaded',
          results: await models.reload(order.versions),
          reports: models.reports(),
        });
    }
  };
  process.on('message', obey);

  await publishing.start();
  await sendToPrimary({
    kind: 'ready',
    models: models.descriptions(),
    rowBytes: models.rowBytes(),
    reports: models.reports(),
  });
}

function withRejections<Gauges extends object>(gauges: Gauges, rejections: ReturnType<RejectionLog['recent']>) {
  return rejections === undefined ? gauges : { ...gauges, rejections };
}

/** Null: all listeners take raw frames alone. */
async function openTyped(options: TypedOptions): Promise<TypedProtocols | null> {
  if (options.config.listeners.every(({ protocol }) => protocol === 'frames')) return null;
  const { TypedProtocols } = await import('./typed.js');
  return new TypedProtocols(options);
}

/** Calls `run` the first time, and then not again before `ms` have passed. */
function everySoOften(ms: number, run: () => void): () => void {
  let ranAt = Number.NEGATIVE_INFINITY;
  return () => {
    if (performance.now() - ranAt < ms) return;
    ranAt = performance.now();
    run();
  };
}

/** Sends spans of batches to an OpenTelemetry collector; null, and nothing is loaded, without one. */
async function startTracing({ config, slot }: WorkerBoot): Promise<Tracing | null> {
  const { otlp, cluster } = config;
  if (otlp === null) return null;
  const { exportTraces } = await import('../otlp.js');
  return exportTraces(otlp, { instance: `${cluster.node}/${slot}`, version: runningVersion, cluster: cluster.name });
}

/** Null when there can be none: the worker serves anyway, and its counts are safe while it lives. */
async function openCounterFile(
  { config, run, slot, incarnation, slabFolder, primary }: WorkerBoot,
  recorder: Recorder,
  log: Log,
): Promise<CounterFile | null> {
  if (slabFolder === null) return null;
  const owner = { cluster: config.cluster.identity, node: config.cluster.node, run, slot, incarnation };
  const hasNone = (error: unknown): void =>
    log.warn({ err: error }, 'no room for counters that outlive this worker: a kill may lose its last counts');
  try {
    // The lock comes first: a counter file without a lock belongs to a dead worker.
    await holdLock(slabFolder, lockName(owner));
    return new CounterFile(slabFolder, owner, recorder, { primary, onFailure: hasNone });
  } catch (error) {
    hasNone(error);
    return null;
  }
}

function requestLimitsOf({ server }: WorkerConfig) {
  return { maxPayloadBytes: server.maxPayloadSizeKb * 1024, maxInFlight: server.maxInFlightPerConnection };
}

function limitsOf({ server }: WorkerConfig) {
  return {
    maxWriteBufferBytes: server.maxWriteBufferKb * 1024,
    payloadTimeoutMs: server.payloadTimeoutSeconds * 1000,
    idleTimeoutMs: server.idleTimeoutSeconds * 1000,
    writeTimeoutMs: server.writeTimeoutSeconds * 1000,
  };
}
