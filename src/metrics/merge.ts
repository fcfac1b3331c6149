// Adding up counts: of departed workers on a node, and of all records of a cluster.

import { addSparse, bucketCount, type SparseHistogram, toSparse } from './histogram.js';
import {
  batchRowsBuckets,
  type ModelCounter,
  type ModelHistogram,
  modelCounters,
  modelHistograms,
  type WorkerCounter,
  workerCounters,
} from './recorder.js';
import type {
  BaseRecord,
  FoldedIncarnations,
  MetricsRecord,
  ModelCounts,
  NodeRecord,
  WorkerCounts,
  WorkerRecord,
} from './snapshot.js';

export function noModelCounts(): ModelCounts {
  return {
    ...zeros(modelCounters),
    latency: [],
    queueTime: [],
    runTime: [],
    batchRows: new Array(batchRowsBuckets).fill(0),
  };
}

export function noCounts(): WorkerCounts {
  return { ...zeros(workerCounters), models: {} };
}

export function addCounts(a: WorkerCounts, b: WorkerCounts): WorkerCounts {
  const sum = new CountsSum();
  sum.add(a);
  sum.add(b);
  return sum.value();
}

/** What a worker left behind: requests that it had in flight will never have another outcome. */
export function departed(counts: WorkerCounts): WorkerCounts {
  const models = Object.entries(counts.models).map(([name, model]) => [
    name,
    { ...model, abandoned: model.abandoned + Math.max(0, unsettled(model)) },
  ]);
  return { ...counts, models: Object.fromEntries(models) };
}

/** Requests that were received and have no outcome yet. */
export function unsettled(model: ModelCounts): number {
  const { received, answered, failed, expired, abandoned } = model;
  return received - answered - failed - expired - abandoned - refused(model);
}

export function refused(model: ModelCounts): number {
  return model.refusedBadInput + model.refusedQueueFull + model.refusedPayloadTooLarge;
}

/** Which records count. */
export interface Census {
  readonly base: BaseRecord | null;
  /** Runs of nodes that the base does not contain. */
  readonly nodes: readonly NodeRecord[];
  /** Workers whose own records still count: those that neither their node nor the base has folded in. */
  readonly workers: readonly WorkerRecord[];
  /** Records that others contain by now: they may be removed. */
  readonly covered: readonly MetricsRecord[];
}

export function census(records: readonly MetricsRecord[]): Census {
  const base = records.find((record) => record.kind === 'base') ?? null;
  const based = new Set(base?.runs);
  const nodes = records.filter((record): record is NodeRecord => record.kind === 'node' && !based.has(record.run));
  const folded = new Map(nodes.map((node) => [node.run, node.folded]));
  const workers = records.filter(
    (record): record is WorkerRecord =>
      record.kind === 'worker' && !based.has(record.run) && !isFolded(record.incarnation, folded.get(record.run)),
  );
  const counting = new Set<MetricsRecord>([...nodes, ...workers]);
  return { base, nodes, workers, covered: records.filter((r) => r.kind !== 'base' && !counting.has(r)) };
}

function isFolded(incarnation: number, folded: FoldedIncarnations | undefined): boolean {
  return folded !== undefined && incarnation <= folded.upTo && !folded.except.includes(incarnation);
}

/** Everything that the cluster has counted, living and departed. */
export function totalCounts({ base, nodes, workers }: Omit<Census, 'covered'>): WorkerCounts {
  const sum = new CountsSum();
  if (base !== null) sum.add(base.counts);
  for (const node of nodes) sum.add(node.departed);
  for (const worker of workers) sum.add(worker.counts);
  return sum.value();
}

/** Adds up many counts without making a new object for each. */
export class CountsSum {
  readonly #worker: Record<string, number> = zeros(workerCounters);
  readonly #models = new Map<string, ModelSum>();

  add(counts: WorkerCounts): void {
    for (const name of workerCounters) this.#worker[name] = (this.#worker[name] ?? 0) + (counts[name] ?? 0);
    for (const name in counts.models) {
      let model = this.#models.get(name);
      if (model === undefined) {
        model = new ModelSum();
        this.#models.set(name, model);
      }
      model.add(counts.models[name] as ModelCounts);
    }
  }

  value(): WorkerCounts {
    const models = Object.fromEntries([...this.#models].map(([name, model]) => [name, model.value()]));
    return { ...(this.#worker as Record<WorkerCounter, number>), models };
  }
}

class ModelSum {
  readonly #counters: Record<string, number> = zeros(modelCounters);
  readonly #histograms = modelHistograms.map((name) => ({ name, counts: new Float64Array(bucketCount) }));
  readonly #batchRows: number[] = new Array(batchRowsBuckets).fill(0);

  add(model: ModelCounts): void {
    for (const name of modelCounters) this.#counters[name] = (this.#counters[name] ?? 0) + (model[name] ?? 0);
    for (const { name, counts } of this.#histograms) addSparse(counts, model[name] ?? []);
    for (const [i, batches] of model.batchRows.entries()) this.#batchRows[i] = (this.#batchRows[i] ?? 0) + batches;
  }

  value(): ModelCounts {
    const histograms = this.#histograms.map(({ name, counts }) => [name, toSparse(counts)]);
    return {
      ...(this.#counters as Record<ModelCounter, number>),
      ...(Object.fromEntries(histograms) as Record<ModelHistogram, SparseHistogram>),
      batchRows: this.#batchRows,
    };
  }
}

function zeros<Name extends string>(names: readonly Name[]): Record<Name, number> {
  return Object.fromEntries(names.map((name) => [name, 0])) as Record<Name, number>;
}
