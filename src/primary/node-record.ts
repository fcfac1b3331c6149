// What the primary itself publishes: the node, and the counts of its workers that are gone.

import { addCounts, departed, noCounts } from '../metrics/merge.js';
import type { NodeRecord, WorkerCounts } from '../metrics/snapshot.js';

export interface NodeIdentity {
  readonly node: string;
  readonly run: string;
  readonly version: string;
}

export class NodeRecordKeeper {
  workersWanted = 0;
  restarts = 0;
  isStopping = false;
  readonly #identity: NodeIdentity;
  readonly #folded: Record<string, number> = {};
  #departed = noCounts();
  #sequence = 0;

  constructor(identity: NodeIdentity) {
    this.#identity = identity;
  }

  /** Takes over what a departed worker counted; its own record does not count from the next snapshot on. */
  fold(slot: number, incarnation: number, counts: WorkerCounts | null): void {
    if (counts !== null) this.#departed = addCounts(this.#departed, departed(counts));
    this.#folded[slot] = Math.max(incarnation, this.#folded[slot] ?? 0);
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
      isStopping: this.isStopping,
      departed: this.#departed,
      folded: { ...this.#folded },
    };
  }
}
