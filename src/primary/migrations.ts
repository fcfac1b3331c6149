// Connections on their way from one worker to another: which one they go to, and what becomes of them when either dies
// in between. The primary passes on handles and never reads from them.

import { messageOf } from '../errors.js';
import type { FromWorker } from '../ipc/messages.js';
import type { Log } from '../log.js';
import type { RawHandle } from '../raw-handle.js';
import { surplus } from './balance.js';
import type { ConnectionLedger } from './connection-ledger.js';
import { movableModels } from './deployment.js';
import { checkMigration } from './migration-check.js';
import type { WorkerHandle } from './worker-handle.js';

interface Move {
  readonly from: WorkerHandle;
  readonly to: WorkerHandle;
  /** Ours until the new worker has its own: it may die before. */
  readonly handle: RawHandle;
  /** Whether the old worker has said all that it knows; or that it never will. */
  state: 'begun' | 'complete' | 'lost';
}

export interface MigrationsOptions {
  readonly ledger: ConnectionLedger;
  readonly log: Log;
  workers(): readonly WorkerHandle[];
  /** What workers have that will not be replaced. */
  wantedRevision(): number;
  isReloading(): boolean;
  /** A connection was lost on its way. */
  onLost(): void;
}

/** How often connections are looked at for being spread evenly. */
const evenOutIntervalMs = 1000;

export class Migrations {
  readonly #options: MigrationsOptions;
  readonly #moves = new Map<string, Move>();
  readonly #timer: NodeJS.Timeout;
  #isPossible = false;

  constructor(options: MigrationsOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#evenOut(), evenOutIntervalMs);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Whether connections can move. */
  get isPossible(): boolean {
    return this.#isPossible;
  }

  /** Finds out whether connections can move with this Node; until then, and if not, none does. Never rejects. */
  async tryOut(worker: WorkerHandle): Promise<void> {
    try {
      await checkMigration(worker);
      this.#isPossible = true;
    } catch (error) {
      this.#options.log.warn(
        { reason: messageOf(error), node: process.version },
        'connections cannot move between workers here: at reloads and at scaling down they are drained',
      );
    }
  }

  /** Models whose connections some other worker could take over from this one. */
  movable(from: WorkerHandle): readonly string[] {
    if (!this.#isPossible) return [];
    const others = this.#others(from);
    return [...new Set(others.flatMap((to) => movableModels(from.deployment, to.deployment)))];
  }

  begin(from: WorkerHandle, move: Extract<FromWorker, { kind: 'migrate' }>, handle: RawHandle | undefined): void {
    const { id, model, address } = move;
    const to = this.#leastLoaded(from, model);
    if (handle === undefined || to === null) {
      handle?.close();
      this.#lost(from, 'no other worker could take it');
      return;
    }
    this.#moves.set(id, { from, to, handle, state: 'begun' });
    this.#options.ledger.move(from, to, address);
    to.send({ kind: 'attach', id, model, address }, handle);
  }

  complete({ id, state }: Extract<FromWorker, { kind: 'migration-state' }>): void {
    const move = this.#moves.get(id);
    if (move === undefined) return;
    move.state = 'complete';
    move.to.send({ kind: 'attach-state', id, state });
  }

  attached({ id }: Extract<FromWorker, { kind: 'attached' }>): void {
    this.#moves.get(id)?.handle.close();
    this.#moves.delete(id);
  }

  /** A worker has ended: what was on its way to it is lost with it, and what it had not let go of whole as well. */
  gone(worker: WorkerHandle): void {
    for (const [id, move] of this.#moves) {
      const { from, to, handle, state } = move;
      if (to === worker) {
        if (state !== 'lost') this.#lost(from, 'the worker that took it over died');
        handle.close();
        this.#moves.delete(id);
      } else if (from === worker && state === 'begun') {
        this.#lost(from, 'the worker that gave it away died');
        move.state = 'lost';
        to.send({ kind: 'attach-state', id, state: null });
      }
    }
  }

  /** Has workers that serve many connections give some to those that serve few. */
  #evenOut(): void {
    const { isReloading, workers } = this.#options;
    if (!this.#isPossible || isReloading() || this.#moves.size > 0) return;
    const ready = workers().filter(({ state }) => state === 'ready');
    surplus(ready.map(({ connections }) => connections)).forEach((count, i) => {
      const worker = ready[i] as WorkerHandle;
      if (count > 0) worker.send({ kind: 'migrate-some', count, movable: this.movable(worker) });
    });
  }

  #lost(from: WorkerHandle, reason: string): void {
    this.#options.log.error(
      { slot: from.slot, worker: from.pid, reason },
      'connection lost on its way to another worker',
    );
    this.#options.onLost();
  }

  #others(from: WorkerHandle): readonly WorkerHandle[] {
    return this.#options.workers().filter((worker) => worker !== from && worker.state === 'ready');
  }

  #leastLoaded(from: WorkerHandle, model: string): WorkerHandle | null {
    const able = this.#others(from).filter((to) => movableModels(from.deployment, to.deployment).includes(model));
    // In a reload a connection moves once: to a worker that stays.
    const revision = this.#options.wantedRevision();
    const staying = able.filter((worker) => worker.revision === revision);
    return (staying.length > 0 ? staying : able).reduce<WorkerHandle | null>(
      (best, worker) => (best === null || worker.connections < best.connections ? worker : best),
      null,
    );
  }
}
