// Connections that migrate from one worker to another: which worker gets them, and what happens when either dies in
// between. The primary passes on handles and never reads from them.

import { messageOf } from '../../errors.js';
import type { FromWorker } from '../../ipc/messages.js';
import type { RawHandle } from '../../net/raw-handle.js';
import type { Log } from '../../process/log.js';
import { movableRoutes } from '../deployment.js';
import type { WorkerHandle } from '../supervision/worker-handle.js';
import { surplus } from './balance.js';
import type { ConnectionLedger } from './connection-ledger.js';
import { checkMigration } from './migration-check.js';

interface Move {
  readonly from: WorkerHandle;
  readonly to: WorkerHandle;
  /** Kept until the new worker has its own: it may die before that. */
  readonly handle: RawHandle;
  /** Whether the old worker has sent the connection's state, or never will. */
  state: 'begun' | 'complete' | 'lost';
}

export interface MigrationsOptions {
  readonly ledger: ConnectionLedger;
  readonly log: Log;
  workers(): readonly WorkerHandle[];
  /** The revision of workers that will not be replaced. */
  wantedRevision(): number;
  isReloading(): boolean;
  /** A connection was lost during its migration. */
  onLost(): void;
}

/** How often to check whether connections are spread evenly. */
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

  /** Whether connections can migrate. */
  get isPossible(): boolean {
    return this.#isPossible;
  }

  /** Checks whether connections can migrate with this version of Node; until they can, none does. Never rejects. */
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

  /** The routes whose connections can migrate from this worker to some other. */
  movable(from: WorkerHandle): readonly string[] {
    if (!this.#isPossible) return [];
    const others = this.#others(from);
    return [...new Set(others.flatMap((to) => movableRoutes(from.deployment, to.deployment)))];
  }

  begin(from: WorkerHandle, move: Extract<FromWorker, { kind: 'migrate' }>, handle: RawHandle | undefined): void {
    const { id, route, address } = move;
    const to = this.#leastLoaded(from, route);
    if (handle === undefined || to === null) {
      handle?.close();
      this.#lost(from, 'no other worker could take it');
      return;
    }
    this.#moves.set(id, { from, to, handle, state: 'begun' });
    this.#options.ledger.move(from, to, address);
    to.send({ kind: 'attach', id, route, address }, handle);
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

  /** A worker has ended: connections on their way to it are lost, and so are those whose state it had not sent. */
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

  /** Has workers with many connections migrate some to workers with few. */
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

  #leastLoaded(from: WorkerHandle, route: string): WorkerHandle | null {
    const able = this.#others(from).filter((to) => movableRoutes(from.deployment, to.deployment).includes(route));
    // During a reload a connection migrates only once: to a worker that stays.
    const revision = this.#options.wantedRevision();
    const staying = able.filter((worker) => worker.revision === revision);
    return (staying.length > 0 ? staying : able).reduce<WorkerHandle | null>(
      (best, worker) => (best === null || worker.connections < best.connections ? worker : best),
      null,
    );
  }
}
