// One place in the fleet: the worker in it, for a while its successor as well, and how its workers fared so far.

import { backOffMs, type SlotView, youngMs } from './plan.js';
import type { WorkerHandle } from './worker-handle.js';

export class Slot implements SlotView {
  readonly slot: number;
  readonly members: WorkerHandle[] = [];
  /** Whether a worker has been ready in it since it was last wanted. */
  hasServed = false;
  /** Why the last worker that could not start could not. */
  lastFailure = '';
  #notBefore = 0;
  #youngDeaths = 0;
  #bootFailures = 0;

  constructor(slot: number) {
    this.slot = slot;
  }

  get notBefore(): number {
    return this.#notBefore;
  }

  get bootFailures(): number {
    return this.#bootFailures;
  }

  add(worker: WorkerHandle): void {
    this.members.push(worker);
    this.lastFailure = '';
  }

  remove(worker: WorkerHandle): void {
    this.members.splice(this.members.indexOf(worker), 1);
  }

  noteReady(): void {
    this.hasServed = true;
    this.#bootFailures = 0;
  }

  /** A worker of this slot has died; returns in how many milliseconds another one may start. */
  noteDeath(worker: WorkerHandle): number {
    if (worker.state === 'starting' && this.members.length === 0) this.#bootFailures++;
    this.#youngDeaths = worker.ageMs < youngMs ? this.#youngDeaths + 1 : 0;
    const delayMs = backOffMs(this.#youngDeaths, Math.random());
    this.#notBefore = performance.now() + delayMs;
    return delayMs;
  }
}
