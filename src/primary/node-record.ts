// What the primary itself publishes: the node, and the counts of its workers that are gone.

import { addCounts, departed, noCounts } from '../metrics/merge.js';
import type { WorkerCounter } from '../metrics/recorder.js';
import type { NodeRecord, WorkerCounts } from '../metrics/snapshot.js';

export interface NodeIdentity {
  readonly node: string;
  readonly run: string;
  readonly version: string;
}

export class NodeRecordKeeper {
  workersWanted = 0;
  restarts = 0;
  reloads = 0;
  isStopping = false;
  readonly #identity: NodeIdentity;
  readonly #living = new Set<number>();
  #foldedUpTo = 0;
  #departed = noCounts();
  #sequence = 0;

  constructor(identity: NodeIdentity) {
    this.#identity = identity;
  }

  /** Counts what belongs to no worker. */
  count(counter: WorkerCounter, by = 1): void {
    this.#departed = addCounts(this.#departed, { ...noCounts(), [counter]: by });
  }

  /** A worker begins, whose own record counts while it lives. */
  born(incarnation: number): void {
    this.#living.add(incarnation);
  }

  /** Takes over what a departed worker counted; its own record does not count from the next snapshot on. */
  fold(incarnation: number, counts: WorkerCounts | null): void {
    if (counts !== null) this.#departed = addCounts(this.#departed, departed(counts));
    this.#living.delete(incarnation);
    this.#foldedUpTo = Math.max(incarnation, this.#foldedUpTo);
  }

  snapshot(): NodeRecord {
    const { node, run, version } = this.#identity;
    return {
      kind: 'node',
      id: `node:${node}:${run}`,
      node,
      run,
      version,
      sequence: ++this.#sequence,
      uptimeMs: Math.round(performance.now()),
      pid: process.pid,
      workersWanted: this.workersWanted,
      restarts: this.restarts,
      reloads: this.reloads,
      isStopping: this.isStopping,
      departed: this.#departed,
      folded: { upTo: this.#foldedUpTo, except: [...this.#living].filter((living) => living < this.#foldedUpTo) },
    };
  }
}
