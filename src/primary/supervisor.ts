// Keeps the fleet as it should be: asks `plan` what to do whenever something has changed, and does it.

import cluster from 'node:cluster';
import { fileURLToPath } from 'node:url';
import type { Config } from '../config/load.js';
import type { BootFailed, FromWorker, ListenAddress, ModelVersions, ReloadResults } from '../control.js';
import type { Log } from '../log.js';
import type { RecordUpdate } from '../metrics/transport/transport.js';
import { ConnectionLedger } from './connection-ledger.js';
import { HangWatch } from './hang-watch.js';
import { type Action, backOffMs, plan, type SlotView, youngMs } from './plan.js';
import { WorkerHandle } from './worker-handle.js';

export interface SupervisorEvents {
  /** Every worker that is wanted serves, for the first time. */
  onReady(addresses: readonly ListenAddress[], models: Readonly<Record<string, string>>): void;
  onUpdate(update: RecordUpdate): void;
  /** A worker is gone; its handle has the last record that arrived. */
  onExit(worker: WorkerHandle): void;
  onModelsReloaded(worker: WorkerHandle, results: ReloadResults): void;
  /** A worker could not start, with its reason. */
  onBootFailed(failure: BootFailed): void;
  /** No worker becomes ready in this slot. */
  onGiveUp(reason: string): void;
}

interface Slot {
  readonly slot: number;
  /** Since it was last wanted. */
  forks: number;
  worker: WorkerHandle | null;
  notBefore: number;
  youngDeaths: number;
  bootFailures: number;
  lastFailure: string;
}

export class Supervisor {
  readonly #config: Config;
  readonly #run: string;
  #versions: ModelVersions;
  readonly #log: Log;
  readonly #events: SupervisorEvents;
  readonly #ledger: ConnectionLedger;
  readonly #hangWatch: HangWatch;
  readonly #slots: Slot[] = [];
  #wanted: number;
  #incarnations = 0;
  #isStopping = false;
  #wasReady = false;
  #timer: NodeJS.Timeout | undefined;
  #onEmpty: (() => void) | null = null;

  constructor(config: Config, versions: ModelVersions, run: string, log: Log, events: SupervisorEvents) {
    this.#config = config;
    this.#versions = versions;
    this.#run = run;
    this.#log = log;
    this.#events = events;
    this.#ledger = new ConnectionLedger(config.server.maxConnections);
    this.#wanted = config.cluster.workers;
    const { hangTimeoutMs } = config.cluster;
    this.#hangWatch = new HangWatch(
      hangTimeoutMs,
      () => this.#workers(),
      (worker) => {
        log.error({ slot: worker.slot, worker: worker.pid, hangTimeoutMs }, 'worker hangs: killed');
        worker.kill();
      },
    );
    cluster.setupPrimary({
      exec: fileURLToPath(new URL('../worker/main.js', import.meta.url)),
      args: [],
      serialization: 'advanced',
    });
  }

  start(): void {
    this.#reconcile();
  }

  /** How many workers there should be. */
  get wanted(): number {
    return this.#wanted;
  }

  /** Adds workers, or drains surplus ones: those with the highest slots, their connections with them. */
  scale(workers: number): void {
    this.#wanted = workers;
    if (!this.#isStopping) this.#reconcile();
  }

  /** Tells every worker to serve these versions; those that are still starting load them in the first place. */
  reloadModels(versions: ModelVersions): void {
    this.#versions = versions;
    for (const worker of this.#workers()) worker.send({ kind: 'reload-models', versions });
  }

  /** Drains every worker; resolves when the last one is gone. One that exceeds its time is killed. */
  async drain(): Promise<void> {
    this.#isStopping = true;
    if (this.#workers().length === 0) return;
    const empty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
    });
    this.#reconcile();
    await empty;
    this.#hangWatch.stop();
  }

  /** Ends every worker at once. */
  kill(): void {
    this.#isStopping = true;
    clearTimeout(this.#timer);
    this.#hangWatch.stop();
    for (const worker of this.#workers()) worker.kill();
  }

  #workers(): readonly WorkerHandle[] {
    return this.#slots.flatMap(({ worker }) => worker ?? []);
  }

  #reconcile(): void {
    clearTimeout(this.#timer);
    while (this.#slots.length < this.#wanted) this.#slots.push(emptySlot(this.#slots.length));
    const fleet = this.#slots.map((slot): SlotView => ({ ...slot, state: slot.worker?.state ?? 'empty' }));
    const { maxBootFailures } = this.#config.cluster;
    const wish = { isStopping: this.#isStopping, workers: this.#wanted, maxBootFailures };
    const now = performance.now();
    const actions = plan(fleet, wish, now);
    for (const action of actions) this.#do(action);
    const times = actions.flatMap((action) => (action.kind === 'wait' ? action.until : []));
    if (times.length > 0) this.#timer = setTimeout(() => this.#reconcile(), Math.min(...times) - now);
  }

  #do(action: Action): void {
    if (action.kind === 'wait') return;
    const slot = this.#slots[action.slot] as Slot;
    switch (action.kind) {
      case 'fork':
        this.#fork(slot);
        break;
      case 'drain':
        this.#drainWorker(slot.worker as WorkerHandle);
        break;
      case 'give-up':
        this.#isStopping = true;
        this.#events.onGiveUp(
          `${slot.bootFailures} workers in a row ended before they were ready (cluster.maxBootFailures); the last one: ${slot.lastFailure}`,
        );
        break;
    }
  }

  #fork(slot: Slot): void {
    const incarnation = ++this.#incarnations;
    slot.forks++;
    const worker = new WorkerHandle(cluster.fork(), slot.slot, incarnation);
    slot.worker = worker;
    worker.onMessage((message) => this.#receive(slot, worker, message));
    worker.onExit((exitCode, signal) => this.#exited(slot, worker, exitCode, signal));
  }

  #drainWorker(worker: WorkerHandle): void {
    const wasReady = worker.state === 'ready';
    worker.state = 'draining';
    if (!wasReady) {
      worker.kill(); // still loading: it serves nobody
      return;
    }
    worker.send({ kind: 'drain' });
    worker.killAfter(this.#drainGraceMs, () =>
      this.#log.warn({ slot: worker.slot, worker: worker.pid }, 'drain overdue: worker killed'),
    );
  }

  get #drainGraceMs(): number {
    return this.#config.server.drainTimeoutSeconds * 1000 + 2000;
  }

  #receive(slot: Slot, worker: WorkerHandle, message: FromWorker): void {
    switch (message.kind) {
      case 'hello':
        worker.send({
          kind: 'boot',
          config: this.#config,
          versions: this.#versions,
          run: this.#run,
          slot: worker.slot,
          incarnation: worker.incarnation,
        });
        break;
      case 'ready':
        this.#ready(slot, worker, message.addresses, message.models);
        break;
      case 'boot-failed':
        slot.lastFailure = message.message;
        this.#events.onBootFailed(message);
        break;
      case 'models-reloaded':
        this.#events.onModelsReloaded(worker, message.results);
        break;
      case 'admit': {
        const granted = this.#ledger.admit(worker, message.count);
        worker.send({ kind: 'admitted', granted, refused: message.count - granted });
        break;
      }
      case 'released':
        this.#ledger.release(worker, message.count);
        break;
      case 'update':
        worker.heardAt = performance.now();
        if (message.update.record.kind === 'worker') worker.lastRecord = message.update.record;
        this.#events.onUpdate(message.update);
    }
  }

  #ready(
    slot: Slot,
    worker: WorkerHandle,
    addresses: readonly ListenAddress[],
    models: Readonly<Record<string, string>>,
  ): void {
    if (worker.state !== 'starting') return;
    worker.state = 'ready';
    worker.heardAt = performance.now();
    slot.bootFailures = 0;
    this.#log.debug({ slot: slot.slot, worker: worker.pid, bootMs: Math.round(worker.ageMs) }, 'worker ready');
    const isFirst = slot.forks === 1;
    if (this.#wasReady)
      this.#log.info({ slot: slot.slot, worker: worker.pid }, isFirst ? 'worker added' : 'worker replaced');
    else if (this.#slots.slice(0, this.#wanted).every(({ worker }) => worker?.state === 'ready')) {
      this.#wasReady = true;
      this.#events.onReady(addresses, models);
    }
  }

  #exited(slot: Slot, worker: WorkerHandle, exitCode: number | null, signal: string | null): void {
    slot.worker = null;
    this.#ledger.releaseAll(worker);
    if (worker.state === 'draining') slot.forks = 0;
    else if (!this.#isStopping) this.#noteDeath(slot, worker, signal ?? `exit code ${exitCode}`);
    if (worker.state === 'draining' && !this.#isStopping)
      this.#log.info({ slot: slot.slot, worker: worker.pid }, 'worker removed');
    this.#events.onExit(worker);
    if (this.#workers().length === 0) this.#onEmpty?.();
    if (!this.#isStopping) this.#reconcile();
  }

  #noteDeath(slot: Slot, worker: WorkerHandle, how: string): void {
    if (worker.state === 'starting') {
      slot.bootFailures++;
      slot.lastFailure ||= `ended by ${how}`;
    }
    slot.youngDeaths = worker.ageMs < youngMs ? slot.youngDeaths + 1 : 0;
    const delayMs = backOffMs(slot.youngDeaths, Math.random());
    slot.notBefore = performance.now() + delayMs;
    this.#log.error(
      {
        slot: slot.slot,
        worker: worker.pid,
        how,
        connectionsLost: worker.lastRecord?.gauges.connections ?? 0,
        replacedInMs: Math.round(delayMs),
      },
      'worker died',
    );
  }
}

function emptySlot(slot: number): Slot {
  return { slot, forks: 0, worker: null, notBefore: 0, youngDeaths: 0, bootFailures: 0, lastFailure: '' };
}
