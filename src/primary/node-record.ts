// What the primary itself publishes: the node, and the counts of its workers that are gone, and of its earlier runs.

import type { WorkerCounter } from '../metrics/counters.js';
import { addCounts, departed, noCounts } from '../metrics/merge.js';
import {
  type ContainedRun,
  type FoldedIncarnations,
  isFolded,
  type NodeRecord,
  nodeRecordId,
  type WorkerCounts,
  withFolded,
} from '../metrics/snapshot.js';

export interface NodeIdentity {
  readonly node: string;
  readonly run: string;
  readonly version: string;
}

/** What a run of a node counted beyond its living workers; its successor takes it over. */
export interface RunCounts {
  readonly run: string;
  readonly departed: WorkerCounts;
  readonly folded: FoldedIncarnations;
  readonly contains: readonly ContainedRun[];
  /** How often its workers were replaced, and those of the runs that it contains. */
  readonly restarts: number;
}

/**
 * Earlier runs that a record names, the newest ones. What is named is not counted again when an old record of it comes
 * back, with an old dump of Redis say: a hundred runs before that dump are far beyond what a dump is old.
 */
const maxContained = 100;

export class NodeRecordKeeper {
  workersWanted = 0;
  restarts = 0;
  reloads = 0;
  isStopping = false;
  /** By model, what it takes and gives. */
  signatures: Readonly<Record<string, string>> = {};
  readonly #identity: NodeIdentity;
  readonly #living = new Set<number>();
  #foldedUpTo = 0;
  #departed = noCounts();
  #earlierRestarts = 0;
  #contains: readonly ContainedRun[] = [];
  #sequence = 0;
  // Not the start of the process, in which `npm start` may have installed and built for minutes.
  readonly #startedAt = performance.now();

  constructor(identity: NodeIdentity) {
    this.#identity = identity;
  }

  /** Milliseconds since the server began to start. */
  get uptimeMs(): number {
    return performance.now() - this.#startedAt;
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

  /** Takes over what an earlier run of the node counted, but for its workers. */
  contain({ run, departed, folded, contains, restarts }: RunCounts): void {
    this.#departed = addCounts(this.#departed, departed);
    this.#earlierRestarts += restarts;
    this.#contains = [...this.#contains, ...contains, { run, ...folded }].slice(-maxContained);
  }

  /** Whether it has taken this run over. */
  hasContained(run: string): boolean {
    return this.#contains.some((contained) => contained.run === run);
  }

  /** Whether it has taken over what this worker of an earlier run counted. */
  hasFolded(run: string, incarnation: number): boolean {
    return this.#contains.some((contained) => contained.run === run && isFolded(incarnation, contained));
  }

  /** Takes over what a worker of an earlier run counted, once. */
  foldEarlier(run: string, incarnation: number, counts: WorkerCounts): void {
    if (this.hasFolded(run, incarnation)) return;
    this.#departed = addCounts(this.#departed, departed(counts));
    this.#contains = this.#contains.map((contained) =>
      contained.run === run ? { run, ...withFolded(contained, incarnation) } : contained,
    );
  }

  /** What the next run of the node has to know. */
  get counts(): RunCounts {
    return {
      run: this.#identity.run,
      departed: this.#departed,
      folded: this.#folded,
      contains: this.#contains,
      restarts: this.restarts + this.#earlierRestarts,
    };
  }

  snapshot(): NodeRecord {
    const { node, run, version } = this.#identity;
    return {
      kind: 'node',
      id: nodeRecordId(node, run),
      node,
      run,
      version,
      sequence: ++this.#sequence,
      uptimeMs: Math.round(this.uptimeMs),
      pid: process.pid,
      workersWanted: this.workersWanted,
      restarts: this.restarts,
      reloads: this.reloads,
      isStopping: this.isStopping,
      signatures: this.signatures,
      departed: this.#departed,
      folded: this.#folded,
      earlierRestarts: this.#earlierRestarts,
      contains: this.#contains,
    };
  }

  get #folded(): FoldedIncarnations {
    const upTo = this.#foldedUpTo;
    return { upTo, except: [...this.#living].filter((living) => living < upTo) };
  }
}
