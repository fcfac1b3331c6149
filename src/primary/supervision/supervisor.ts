// Keeps the wanted workers running, and passes on their messages.

import cluster from 'node:cluster';
import { fileURLToPath } from 'node:url';
import type { Config } from '../../config/load.js';
import { workerConfig } from '../../config/slices.js';
import { messageOf, type OperatorErrorCode } from '../../errors.js';
import type {
  BootFailed,
  FromWorker,
  ListenAddress,
  ModelReports,
  ModelVersions,
  ReloadResults,
  WorkerBoot,
} from '../../ipc/messages.js';
import type { RecordUpdate } from '../../metrics/transport/transport.js';
import type { RawHandle } from '../../net/raw-handle.js';
import { maxSockets } from '../../process/descriptors.js';
import type { Log } from '../../process/log.js';
import { ownIdentity } from '../../process/process-identity.js';
import { AdmissionControl } from '../connections/admission-control.js';
import { ConnectionLedger } from '../connections/connection-ledger.js';
import { Dispatcher } from '../connections/dispatcher.js';
import { checkHandles } from '../connections/handle-check.js';
import { Listeners } from '../connections/listeners.js';
import { Migrations } from '../connections/migrations.js';
import { workerEnvironment } from '../deployment.js';
import { Rollout } from '../rollout/rollout.js';
import { exitReport } from './exit-report.js';
import { Fleet } from './fleet.js';
import type { Slot } from './slot.js';
import { WorkerHandle } from './worker-handle.js';

/** The message of a worker that can serve. */
type Ready = Extract<FromWorker, { kind: 'ready' }>;
/** The same, with the addresses of its listeners. */
type Serving = Ready & { readonly addresses: readonly ListenAddress[] };

export interface SupervisorEvents {
  /** All wanted workers serve for the first time. */
  onReady(): void;
  onFork(worker: WorkerHandle): void;
  onUpdate(update: RecordUpdate): void;
  /** A worker asks for the statistics of the node. */
  onStatisticsAsked(worker: WorkerHandle, question: number): void;
  /** A worker is gone; its handle has the last record that arrived. */
  onExit(worker: WorkerHandle): void;
  onConnectionLost(): void;
  /** The inputs and outputs of a worker's models, as it serves them now. */
  onReports(reports: ModelReports): void;
  onModelsReloaded(worker: WorkerHandle, results: ReloadResults): void;
  /** A worker could not start, with its reason, and no reload is under way. */
  onBootFailed(failure: BootFailed): void;
  /** No worker becomes ready in a slot, or none is alive and none may be started. */
  onGiveUp(code: OperatorErrorCode, reason: string): void;
}

/** The shortest time between two log lines about a lack of descriptors. */
const exhaustedLogMs = 10_000;

export class Supervisor {
  readonly #home: Pick<WorkerBoot, 'run' | 'slabFolder'>;
  readonly #log: Log;
  readonly #events: SupervisorEvents;
  readonly #rollout: Rollout;
  readonly #ledger: ConnectionLedger;
  readonly #admission: AdmissionControl;
  readonly #dispatcher: Dispatcher;
  readonly #listeners: Listeners;
  readonly #migrations: Migrations;
  readonly #fleet: Fleet<WorkerHandle>;
  #wanted: number;
  #served: Serving | null = null;
  #migrationCheck: Promise<void> = Promise.resolve();
  /** Whether handles can be sent alongside Node's messages; tried with the first worker. */
  #handlesPass: Promise<boolean | null> | null = null;
  #onSettled: (() => void)[] = [];

  constructor(
    config: Config,
    versions: ModelVersions,
    home: Pick<WorkerBoot, 'run' | 'slabFolder'>,
    log: Log,
    events: SupervisorEvents,
  ) {
    this.#home = home;
    this.#log = log;
    this.#events = events;
    this.#rollout = new Rollout(config, versions);
    this.#ledger = new ConnectionLedger(config.server, performance.now());
    this.#admission = new AdmissionControl(this.#ledger, config.server, (refusals) => {
      const counting = this.workers.find(({ state }) => state === 'ready');
      counting?.send({ kind: 'turned-away', refusals });
      return counting !== undefined;
    });
    this.#dispatcher = new Dispatcher({
      ledger: this.#ledger,
      admission: this.#admission,
      maxWaiting: maxSockets(),
      timeoutMs: () => this.#rollout.wanted.config.server.acceptTimeoutSeconds * 1000,
    });
    let exhaustedAt = Number.NEGATIVE_INFINITY;
    this.#listeners = new Listeners({
      onConnection: (handle, listener) => this.#dispatcher.accept(handle, listener),
      onClosed: (listener) => this.#dispatcher.forget(listener),
      onExhausted: () => {
        this.#admission.count('refusedByDescriptors');
        if (performance.now() - exhaustedAt < exhaustedLogMs) return;
        exhaustedAt = performance.now();
        log.error(
          'no descriptor left: connections are refused; raise the limit of open files (ulimit -n, LimitNOFILE)',
        );
      },
    });
    this.#wanted = config.cluster.workers;
    this.#migrations = new Migrations({
      ledger: this.#ledger,
      log,
      workers: () => this.workers,
      wantedRevision: () => this.#rollout.wanted.revision,
      isReloading: () => this.#rollout.isUnderWay,
      onLost: () => events.onConnectionLost(),
    });
    this.#fleet = new Fleet<WorkerHandle>({
      wish: () => {
        const { revision, config } = this.#rollout.wanted;
        return { workers: this.#wanted, revision, maxBootFailures: config.cluster.maxBootFailures };
      },
      start: (slot, incarnation) => this.#fork(slot, incarnation),
      end: (worker, how) => this.#end(worker, how),
      onExit: (worker, slot, how) => this.#exited(slot, worker, how),
      onSettled: () => this.#settled(),
      onCodeChanged: (change, slot, isNews) => this.#codeChanged(change, slot, isNews),
      onGiveUp: (slot) => this.#giveUp(slot),
    });
    cluster.setupPrimary({
      exec: fileURLToPath(new URL('../../worker/main.js', import.meta.url)),
      args: [],
      serialization: 'advanced',
    });
  }

  start(): void {
    this.#fleet.reconcile();
  }

  /** What the workers serve, as reported by the one that completed the fleet for the first time; null before. */
  get served(): Serving | null {
    return this.#served;
  }

  /** How many workers there should be. */
  get wanted(): number {
    return this.#wanted;
  }

  get workers(): readonly WorkerHandle[] {
    return this.#fleet.members;
  }

  get isReloading(): boolean {
    return this.#rollout.isUnderWay;
  }

  /** Whether connections can migrate; otherwise they are drained. */
  get canMoveConnections(): boolean {
    return this.#migrations.isPossible;
  }

  /** Adds workers, or retires surplus ones: those with the highest slots. Resolves when the fleet has settled. */
  scale(workers: number): Promise<void> {
    this.#wanted = workers;
    const isSettled = new Promise<void>((resolve) => this.#onSettled.push(resolve));
    if (!this.#fleet.isStopping) this.#fleet.reconcile();
    return isSettled;
  }

  /**
   * Tells every worker to serve these versions; those that are still starting are told when they are ready. Resolves to
   * the results of each worker that is ready now.
   */
  reloadModels(versions: ModelVersions): Promise<readonly ReloadResults[]> {
    this.#rollout.setVersions(versions);
    const ready = this.workers.filter(({ state }) => state === 'ready');
    return Promise.all(ready.map((worker) => worker.reloadModels(versions)));
  }

  /**
   * Replaces every worker by one with this config, one after the other; their connections migrate. Rejects when a
   * worker cannot start with it: workers that have it then go back to the previous config.
   */
  async reload(config: Config, versions: ModelVersions): Promise<void> {
    await this.#migrationCheck;
    if (this.#fleet.isStopping) throw new Error('the server is stopping');
    const isDone = this.#rollout.begin(config, versions);
    this.#admission.limits = config.server;
    this.#fleet.reconcile();
    try {
      await isDone;
    } catch (error) {
      this.#admission.limits = this.#rollout.wanted.config.server;
      this.#fleet.reconcile();
      this.#keepListeners();
      throw error;
    }
  }

  /** Drains every worker; resolves when the last one is gone. A worker that exceeds its time is killed. */
  async drain(): Promise<void> {
    this.#stop('the server is stopping');
    await this.#fleet.drain();
  }

  /** Ends every worker at once. */
  kill(): void {
    this.#stop('the server is stopping');
    this.#fleet.kill();
  }

  #stop(reason: string): void {
    this.#fleet.stop();
    this.#listeners.close();
    this.#migrations.stop();
    this.#rollout.takeBack(reason);
  }

  /** Closes the listeners that neither a staying worker nor the wanted config has. */
  #keepListeners(): void {
    const staying = this.workers.filter(({ state }) => state !== 'leaving');
    this.#listeners.keep([this.#rollout.wanted.config, ...staying.map(({ deployment }) => deployment.config)]);
  }

  #settled(): void {
    this.#keepListeners();
    this.#rollout.settled();
    for (const resolve of this.#onSettled.splice(0)) resolve();
  }

  #giveUp({ bootFailures, lastFailure }: Slot<WorkerHandle>): void {
    this.#events.onGiveUp(
      'WORKER_BOOT_FAILED',
      `${bootFailures} workers in a row ended before they were ready (cluster.maxBootFailures); the last one: ${lastFailure}`,
    );
  }

  /**
   * When the last worker is gone there is nothing to keep, and a restart of the whole server brings the new code. The
   * fleet gives up only at the second check: files that are being rewritten are incomplete for a moment.
   */
  #codeChanged(change: string, { slot }: Slot<WorkerHandle>, isNews: boolean): void {
    if (this.#rollout.isUnderWay) this.#rollout.takeBack(change);
    else if (this.workers.length === 0 && !isNews) {
      this.#fleet.stop();
      this.#events.onGiveUp('CODE_CHANGED', change);
    } else if (isNews) this.#log.error({ slot, reason: change }, 'no worker is started from other code');
  }

  #fork(slot: Slot<WorkerHandle>, incarnation: number): WorkerHandle {
    const deployment = this.#rollout.wanted;
    const { config, versions } = deployment;
    const worker = new WorkerHandle(
      cluster.fork(workerEnvironment(deployment)),
      slot.slot,
      incarnation,
      deployment,
      () => {
        const of = { ...this.#home, slot: slot.slot, incarnation, primary: ownIdentity() };
        return { kind: 'boot', config: workerConfig(config), versions, ...of };
      },
    );
    this.#events.onFork(worker);
    worker.onMessage((message, handle) => this.#receive(slot, worker, message, handle));
    worker.onHang((reason) =>
      this.#log.error({ slot: worker.slot, worker: worker.pid, reason }, 'worker hangs: killed'),
    );
    return worker;
  }

  #end(worker: WorkerHandle, how: 'retire' | 'drain'): void {
    const request =
      how === 'drain'
        ? ({ kind: 'drain' } as const)
        : ({ kind: 'retire', movable: this.#migrations.movable(worker) } as const);
    this.#dispatcher.leave(worker);
    worker.end(request, worker.deployment.config.server.drainTimeoutSeconds * 1000 + 2000, () =>
      this.#log.warn({ slot: worker.slot, worker: worker.pid }, 'drain overdue: worker killed'),
    );
    this.#keepListeners();
  }

  #receive(slot: Slot<WorkerHandle>, worker: WorkerHandle, message: FromWorker, handle: RawHandle | undefined): void {
    switch (message.kind) {
      case 'ready':
        worker.reports = message.reports;
        this.#events.onReports(message.reports);
        void this.#open(slot, worker, message);
        break;
      case 'boot-failed':
        slot.lastFailure = message.message;
        if (!this.#rollout.isUnderWay) this.#events.onBootFailed(message);
        break;
      case 'models-reloaded':
        for (const [model, result] of Object.entries(message.results)) {
          if (result.outcome === 'loaded') worker.models = { ...worker.models, [model]: result.description };
        }
        worker.reports = message.reports;
        this.#events.onReports(message.reports);
        this.#events.onModelsReloaded(worker, message.results);
        worker.modelsReloaded(message.results);
        break;
      case 'connections':
        this.#ledger.release(worker, message.released);
        this.#dispatcher.acknowledged(worker, message.acknowledged);
        if (message.released.length > 0) this.#dispatcher.released();
        break;
      case 'migrate':
        this.#migrations.begin(worker, message, handle);
        break;
      case 'migration-state':
        this.#migrations.complete(message);
        break;
      case 'attached':
        this.#migrations.attached(message);
        break;
      case 'ask-statistics':
        this.#events.onStatisticsAsked(worker, message.question);
        break;
      case 'replace':
        this.#replace(worker, message.reason);
        break;
      case 'kill':
        this.#log.warn({ slot: worker.slot, worker: worker.pid, reason: message.reason }, 'worker cannot end: killed');
        worker.kill(message.reason);
        break;
      case 'update':
        worker.heardAt = performance.now();
        if (message.update.record.kind === 'worker') worker.lastRecord = message.update.record;
        this.#events.onUpdate(message.update);
    }
  }

  /** The worker serves until its successor does; then its connections migrate there. */
  #replace(worker: WorkerHandle, reason: string): void {
    if (worker.isSpent || worker.state !== 'ready') return;
    worker.isSpent = true;
    this.#log.error({ slot: worker.slot, worker: worker.pid, reason }, 'worker is replaced');
    this.#fleet.reconcile();
  }

  /** The first worker that is ready with a config has its listeners opened. */
  async #open(slot: Slot<WorkerHandle>, worker: WorkerHandle, message: Ready): Promise<void> {
    try {
      if (await this.#canPassHandles(slot, worker)) worker.enableHandles();
      const addresses = await this.#listeners.open(worker.deployment.config);
      if (slot.members.includes(worker)) this.#ready(slot, worker, { ...message, addresses });
    } catch (error) {
      const reason = messageOf(error);
      slot.lastFailure = reason;
      if (!this.#rollout.isUnderWay)
        this.#events.onBootFailed({ kind: 'boot-failed', code: 'LISTEN_FAILED', message: reason });
      worker.kill();
    }
  }

  async #canPassHandles(slot: Slot<WorkerHandle>, worker: WorkerHandle): Promise<boolean> {
    this.#handlesPass ??= this.#tryHandles(slot, worker);
    const canPass = await this.#handlesPass;
    if (canPass !== null) return canPass && worker.takesHandles;
    return slot.members.includes(worker) && this.#canPassHandles(slot, worker);
  }

  /** Null when the worker has died meanwhile: the next one is tried then. Never rejects. */
  async #tryHandles(slot: Slot<WorkerHandle>, worker: WorkerHandle): Promise<boolean | null> {
    try {
      const died = new Promise<never>((_, reject) => worker.onExit(() => reject(new Error('the worker has died'))));
      await Promise.race([checkHandles(worker), died]);
      return true;
    } catch (error) {
      if (!slot.members.includes(worker)) {
        this.#handlesPass = null;
        return null;
      }
      this.#log.warn(
        { reason: messageOf(error), node: process.version },
        'connections pass to workers through Node itself here, which takes more time for each',
      );
      return false;
    }
  }

  #ready(slot: Slot<WorkerHandle>, worker: WorkerHandle, message: Serving): void {
    if (!worker.becomeReady()) return;
    worker.addresses = message.addresses;
    this.#dispatcher.join(worker);
    worker.models = message.models;
    const fields = { slot: slot.slot, worker: worker.pid };
    this.#log.debug({ ...fields, bootMs: Math.round(worker.ageMs) }, 'worker ready');
    const wasReady = this.#served !== null;
    const isSuccessor = slot.members.length > 1;
    if (wasReady && !isSuccessor) this.#log.info(fields, slot.hasServed ? 'worker replaced' : 'worker added');
    slot.noteReady();
    worker.hasServed = true;
    const { revision, versions } = this.#rollout.wanted;
    if (worker.revision === revision && worker.versions !== versions) void worker.reloadModels(versions);
    if (!wasReady && this.#fleet.slots.every(({ members }) => members.some(({ state }) => state === 'ready'))) {
      this.#served = message;
      if (worker.deployment.config.cluster.moveConnections) this.#migrationCheck = this.#migrations.tryOut(worker);
      this.#events.onReady();
    }
    this.#fleet.reconcile();
  }

  #exited(slot: Slot<WorkerHandle>, worker: WorkerHandle, how: string): void {
    if (!this.#fleet.isStopping) this.#noteExit(slot, worker, how);
    this.#migrations.gone(worker);
    this.#dispatcher.gone(worker);
    this.#ledger.releaseAll(worker);
    this.#dispatcher.released();
    this.#events.onExit(worker);
  }

  #noteExit(slot: Slot<WorkerHandle>, worker: WorkerHandle, how: string): void {
    if (worker.state !== 'leaving') this.#noteDeath(slot, worker, how);
    else if (!worker.hasServed) return;
    else if (how !== 'exit code 0' && worker.killedFor === null)
      this.#log.error(exitReport(worker, how), 'worker died while it left');
    else if (slot.members.length === 0) {
      slot.hasServed = false;
      this.#log.info({ slot: slot.slot, worker: worker.pid }, 'worker removed');
    } else {
      const successor = slot.members[0]?.pid;
      this.#log.info({ slot: slot.slot, worker: successor, before: worker.pid }, 'worker reloaded');
    }
  }

  #noteDeath(slot: Slot<WorkerHandle>, worker: WorkerHandle, how: string): void {
    const isOfReload = this.#rollout.isUnderWay && worker.revision === this.#rollout.wanted.revision;
    if (worker.state === 'starting') {
      slot.lastFailure ||= worker.killedFor ?? `ended by ${how}`;
      if (isOfReload) {
        this.#rollout.takeBack(slot.lastFailure);
        return;
      }
    }
    const replacedInMs = Math.round(slot.noteDeath(worker));
    this.#log.error({ ...exitReport(worker, how), replacedInMs }, 'worker died');
  }
}
