// The primary's picture of one worker process.

import type { Worker } from 'node:cluster';
import type { FromWorker, ToWorker } from '../control.js';
import type { WorkerRecord } from '../metrics/snapshot.js';
import { closeInTransit } from './in-transit.js';

export class WorkerHandle {
  readonly slot: number;
  readonly incarnation: number;
  readonly forkedAt = performance.now();
  state: 'starting' | 'ready' | 'draining' = 'starting';
  /** The newest record it published. */
  lastRecord: WorkerRecord | null = null;
  /** When it gave its last sign of life, by the monotonic clock. */
  heardAt = performance.now();
  /** Connections it holds a place for. */
  connections = 0;
  readonly #worker: Worker;

  constructor(worker: Worker, slot: number, incarnation: number) {
    this.#worker = worker;
    closeInTransit(worker.process);
    this.slot = slot;
    this.incarnation = incarnation;
  }

  get pid(): number | undefined {
    return this.#worker.process.pid;
  }

  get ageMs(): number {
    return performance.now() - this.forkedAt;
  }

  onMessage(listener: (message: FromWorker) => void): void {
    this.#worker.on('message', listener);
  }

  onExit(listener: (exitCode: number | null, signal: string | null) => void): void {
    this.#worker.once('exit', listener);
  }

  /** A message to a worker that is just dying is lost with it; its exit is what counts then. */
  send(message: ToWorker): void {
    if (this.#worker.isConnected()) this.#worker.send(message, () => {});
  }

  /** Kills it unless it has ended by then. */
  killAfter(delayMs: number, beforeKill: () => void): void {
    const overdue = setTimeout(() => {
      beforeKill();
      this.kill();
    }, delayMs);
    this.#worker.once('exit', () => clearTimeout(overdue));
  }

  kill(): void {
    this.#worker.process.kill('SIGKILL');
  }
}
