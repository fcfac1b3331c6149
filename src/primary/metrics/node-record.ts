// What the primary itself publishes: the node, with the counts of its departed workers and of its earlier runs.

import { cutReport, type ModelReport, shareOf } from '../../inference/model-report.js';
import type { WorkerCounter } from '../../metrics/counters.js';
import { addCounts, departed, noCounts } from '../../metrics/merge.js';
import {
  type ContainedRun,
  type FoldedIncarnations,
  isFolded,
  type NodeRecord,
  nodeRecordId,
  type PublishedModel,
  type WorkerCounts,
  withFolded,
} from '../../metrics/snapshot.js';

export interface NodeIdentity {
  readonly node: string;
  readonly run: string;
  readonly version: string;
}

/** The counts of a run of a node, without its living workers; its successor takes them over. */
export interface RunCounts {
  readonly run: string;
  readonly departed: WorkerCounts;
  readonly folded: FoldedIncarnations;
  readonly contains: readonly ContainedRun[];
  /** How often its workers, and those of the runs that it contains, were replaced. */
  readonly restarts: number;
}

/**
 * How many earlier runs a record names, the newest ones. A named run is not counted again when an old record of it
 * comes back, for example with an old dump of Redis: no dump is a hundred runs old.
 */
const maxContained = 100;

/** JSON of what is published of a model, and of all. */
const maxModelBytes = 4096;
const maxModelsBytes = 32_768;

export class NodeRecordKeeper {
  workersWanted = 0;
  restarts = 0;
  reloads = 0;
  isStopping = false;
  #signatures: Readonly<Record<string, string>> = {};
  #models: Readonly<Record<string, PublishedModel>> = {};
  readonly #identity: NodeIdentity;
  readonly #living = new Set<number>();
  #foldedUpTo = 0;
  #departed = noCounts();
  #earlierRestarts = 0;
  #contains: readonly ContainedRun[] = [];
  #sequence = 0;
  // Not the start of the process: in it, `npm start` may have installed and built for minutes.
  readonly #startedAt = performance.now();

  constructor(identity: NodeIdentity) {
    this.#identity = identity;
  }

  /** Milliseconds since the server began to start. */
  get uptimeMs(): number {
    return performance.now() - this.#startedAt;
  }

  /** The workers have loaded their models. The record goes out several times a second: it has what fits. */
  learnModels(reports: Readonly<Record<string, ModelReport>>): void {
    const models = Object.entries(reports);
    const maxBytes = shareOf(maxModelsBytes, models.length, maxModelBytes);
    this.#signatures = Object.fromEntries(models.map(([name, { signature }]) => [name, signature]));
    this.#models = Object.fromEntries(
      models.map(([name, report]) => {
        const { signature: _, ...published } = cutReport({ ...report, signature: '' }, maxBytes);
        return [name, published];
      }),
    );
  }

  /** Counts what belongs to no worker. */
  count(counter: WorkerCounter, by = 1): void {
    this.#departed = addCounts(this.#departed, { ...noCounts(), [counter]: by });
  }

  /** A worker has started. Its own record counts while it is alive. */
  born(incarnation: number): void {
    this.#living.add(incarnation);
  }

  /** Takes over the counts of a departed worker; its own record no longer counts from the next snapshot on. */
  fold(incarnation: number, counts: WorkerCounts | null): void {
    if (counts !== null) this.#departed = addCounts(this.#departed, departed(counts));
    this.#living.delete(incarnation);
    this.#foldedUpTo = Math.max(incarnation, this.#foldedUpTo);
  }

  /** Takes over the counts of an earlier run of the node, without the workers that it had not folded. */
  contain({ run, departed, folded, contains, restarts }: RunCounts): void {
    this.#departed = addCounts(this.#departed, departed);
    this.#earlierRestarts += restarts;
    this.#contains = [...this.#contains, ...contains, { run, ...folded }].slice(-maxContained);
  }

  /** Whether this run has been taken over. */
  hasContained(run: string): boolean {
    return this.#contains.some((contained) => contained.run === run);
  }

  /** Whether the counts of this worker of an earlier run have been taken over. */
  hasFolded(run: string, incarnation: number): boolean {
    return this.#contains.some((contained) => contained.run === run && isFolded(incarnation, contained));
  }

  /** Takes over the counts of a worker of an earlier run, once. */
  foldEarlier(run: string, incarnation: number, counts: WorkerCounts): void {
    if (this.hasFolded(run, incarnation)) return;
    this.#departed = addCounts(this.#departed, departed(counts));
    this.#contains = this.#contains.map((contained) =>
      contained.run === run ? { run, ...withFolded(contained, incarnation) } : contained,
    );
  }

  /** What the next run of the node needs to know. */
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
      signatures: this.#signatures,
      models: this.#models,
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
