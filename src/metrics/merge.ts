// Adds up counts: those of departed workers on a node, and those of all records of a cluster.

import {
  type Counter,
  countersWith,
  eachHistogram,
  type ModelCounter,
  modelCounters,
  modelHistograms,
  type WorkerCounter,
  workerCounters,
} from './counters.js';
import { addSparse, batchRowsBuckets, bucketCount, since, toSparse } from './histogram.js';
import {
  type BaseRecord,
  type FoldedIncarnations,
  type GoneRecord,
  incarnationOf,
  isFolded,
  type MetricsRecord,
  type ModelCounts,
  type NodeRecord,
  type WorkerCounts,
  type WorkerRecord,
} from './snapshot.js';

/** How a worker's connections end. */
const closings = countersWith({ scope: 'worker', outcome: 'closed' });
const errorCounters = countersWith({ scope: 'model', outcome: 'error' });
/** How requests end. */
const outcomes = [
  ...errorCounters,
  ...countersWith({ scope: 'model', outcome: 'answered' }),
  ...countersWith({ scope: 'model', outcome: 'abandoned' }),
];

export function noModelCounts(): ModelCounts {
  return {
    ...zeros(modelCounters),
    ...eachHistogram(() => []),
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

/** The final counts of a worker that is gone: its requests in flight and its open connections have ended with it. */
export function departed(counts: WorkerCounts): WorkerCounts {
  const models = Object.entries(counts.models).map(([name, model]) => {
    const lost = Math.max(0, unsettled(model));
    return [name, { ...model, abandoned: model.abandoned + lost, lost: (model.lost ?? 0) + lost }];
  });
  const closedByDeath = (counts.closedByDeath ?? 0) + Math.max(0, openConnections(counts));
  return { ...counts, closedByDeath, models: Object.fromEntries(models) };
}

/** Connections that a worker accepted or took over and that have neither ended nor moved to another worker. */
function openConnections(counts: WorkerCounts): number {
  const { connectionsAccepted, connectionsMoved, connectionsMovedAway } = counts;
  if (connectionsMovedAway === undefined) return 0; // from a version that did not count them
  return connectionsAccepted + connectionsMoved - connectionsMovedAway - sumOf(counts, closings);
}

/** Requests that were received and have no outcome yet. */
export function unsettled(model: ModelCounts): number {
  return model.received - sumOf(model, outcomes);
}

/** The same over all models. */
export const unsettledOf = ({ models }: WorkerCounts): number =>
  Object.values(models).reduce((all, model) => all + unsettled(model), 0);

/** Requests that were answered with an error. */
export const errorsOf = (model: ModelCounts): number => sumOf(model, errorCounters);

/** The sum of some counters. One that a record of an earlier version lacks counts as 0. */
export function sumOf<Name extends Counter>(
  counts: Readonly<Partial<Record<Name, number>>>,
  names: readonly Name[],
): number {
  return names.reduce((sum, name) => sum + (counts[name] ?? 0), 0);
}

/** Which records count. */
export interface LiveRecords {
  readonly base: BaseRecord | null;
  /** Runs of nodes that no other record contains. */
  readonly nodes: readonly NodeRecord[];
  /** Workers whose own records still count: no other record contains them. */
  readonly workers: readonly WorkerRecord[];
  /** For runs that are gone, or were taken for gone: what the records above do not count. */
  readonly gone: readonly Remains[];
  /** Records that others now contain; they may be removed. */
  readonly superseded: readonly MetricsRecord[];
}

/** The part of a gone record that counts. */
export interface Remains {
  readonly record: GoneRecord;
  readonly counts: WorkerCounts;
  /** The parts of `counts`: of the node's record and, by id, of its workers'. */
  readonly departed: WorkerCounts;
  readonly workers: Readonly<Record<string, WorkerCounts>>;
  /** Requests in `counts` that have no outcome without this being a counting error. */
  readonly inFlight: number;
  readonly restarts: number;
  /** Whether the run has published again. */
  readonly isBack: boolean;
  /** The record without the parts that other records now contain; null when they contain none. */
  readonly trimmed: GoneRecord | null;
}

export function liveRecordsOf(records: readonly MetricsRecord[]): LiveRecords {
  const base = records.find((record) => record.kind === 'base') ?? null;
  const based = new Set(base?.runs);
  const contained = containedRuns(records);
  const isContained = (run: string, incarnation: number): boolean =>
    contained.get(run)?.some((folded) => isFolded(incarnation, folded)) === true;
  const goneRecords = records.filter(
    (record): record is GoneRecord => record.kind === 'gone' && !based.has(record.run),
  );
  const goneByRun = new Map(goneRecords.map((record) => [record.run, record]));
  const isReplaced = ({ id, run, sequence }: NodeRecord | WorkerRecord): boolean =>
    (goneByRun.get(run)?.replaces[id] ?? -1) >= sequence;
  const nodes = records.filter(
    (record): record is NodeRecord =>
      record.kind === 'node' && !based.has(record.run) && !contained.has(record.run) && !isReplaced(record),
  );
  const folded = new Map(nodes.map((node) => [node.run, node.folded]));
  const workers = records.filter(
    (record): record is WorkerRecord =>
      record.kind === 'worker' &&
      !based.has(record.run) &&
      !isReplaced(record) &&
      !isFolded(record.incarnation, folded.get(record.run)) &&
      !isFolded(record.incarnation, goneByRun.get(record.run)?.folded) &&
      !isContained(record.run, record.incarnation),
  );
  const back = [...nodes, ...workers].filter(({ run }) => goneByRun.has(run));
  const gone = goneRecords.flatMap((record) => {
    const own = back.filter(({ run }) => run === record.run);
    return remainsOf(record, own, contained.has(record.run), isContained) ?? [];
  });
  const counting = new Set<MetricsRecord>([...nodes, ...workers, ...gone.map(({ record }) => record)]);
  return { base, nodes, workers, gone, superseded: records.filter((r) => r.kind !== 'base' && !counting.has(r)) };
}

/**
 * By run, what other records contain of it. A record that is itself contained in another is there with all that it
 * contains.
 */
function containedRuns(records: readonly MetricsRecord[]): ReadonlyMap<string, readonly FoldedIncarnations[]> {
  const contained = new Map<string, FoldedIncarnations[]>();
  for (const record of records) {
    if (record.kind !== 'node' && record.kind !== 'gone') continue;
    for (const { run, ...folded } of record.contains) {
      const known = contained.get(run);
      if (known === undefined) contained.set(run, [folded]);
      else known.push(folded);
    }
  }
  return contained;
}

/**
 * The part of a gone record that counts beside the run's `own` records, which are newer than those it replaces; null
 * when nothing does. Counts only grow, so of two figures for the same run the larger one is newer.
 * @param isNodeContained whether another record contains what the run's node record counted
 */
function remainsOf(
  record: GoneRecord,
  own: readonly (NodeRecord | WorkerRecord)[],
  isNodeContained: boolean,
  isContained: (run: string, incarnation: number) => boolean,
): Remains | null {
  const trimmed = isNodeContained ? withoutContained(record, isContained) : null;
  const { departed, workers, inFlight, restarts } = trimmed ?? record;
  const isBack = own.length > 0;
  const ofNode = own.find((one) => one.kind === 'node');
  const ownWorkers = new Map(own.flatMap((one) => (one.kind === 'worker' ? [[one.id, one.counts] as const] : [])));
  // Workers that ended with their machine: the node's next run cannot have found their counts.
  const left: Record<string, WorkerCounts> = {};
  const ofNodeBefore = new CountsSum();
  ofNodeBefore.add(departed);
  for (const [id, counts] of Object.entries(workers)) {
    if (incarnationOf(id).some((incarnation) => isFolded(incarnation, ofNode?.folded))) ofNodeBefore.add(counts);
    else {
      const back = ownWorkers.get(id);
      const more = back === undefined ? counts : countsBeyond(counts, back);
      if (more !== null) left[id] = more;
    }
  }
  const ofNodeLeft = ofNode === undefined ? departed : countsBeyond(ofNodeBefore.value(), ofNode.departed);
  const sum = new CountsSum();
  for (const counts of [ofNodeLeft ?? noCounts(), ...Object.values(left)]) sum.add(counts);
  const counts = sum.value();
  const isNothing = isNodeContained
    ? Object.keys(left).length === 0
    : isBack && countsBeyond(counts, noCounts()) === null;
  if (isNothing) return null;
  return {
    record,
    counts,
    departed: ofNodeLeft ?? noCounts(),
    workers: left,
    inFlight: isBack ? unsettledOf(counts) : inFlight,
    restarts: ofNode === undefined ? restarts : 0,
    isBack,
    trimmed,
  };
}

/**
 * The record without what a later run of the node took over, which is counted there even once the later run no longer
 * names this one; null when that changes nothing.
 */
function withoutContained(
  record: GoneRecord,
  isContained: (run: string, incarnation: number) => boolean,
): GoneRecord | null {
  const all = Object.entries(record.workers);
  const left = all.filter(([id]) => incarnationOf(id).some((incarnation) => !isContained(record.run, incarnation)));
  const hasAll =
    left.length === all.length && record.restarts === 0 && countsBeyond(record.departed, noCounts()) === null;
  if (hasAll) return null;
  return {
    ...record,
    sequence: record.sequence + 1,
    departed: noCounts(),
    workers: Object.fromEntries(left),
    inFlight:
      left.length === all.length ? record.inFlight : left.reduce((sum, [, counts]) => sum + unsettledOf(counts), 0),
    restarts: 0,
  };
}

/** Everything that the cluster has counted, by living and departed workers. */
export function totalCounts({ base, nodes, workers, gone }: Omit<LiveRecords, 'superseded'>): WorkerCounts {
  const sum = new CountsSum();
  if (base !== null) sum.add(base.counts);
  for (const node of nodes) sum.add(node.departed);
  for (const worker of workers) sum.add(worker.counts);
  for (const { counts } of gone) sum.add(counts);
  return sum.value();
}

/** By how much each count of `larger` exceeds that of `smaller`; null when none does. */
export function countsBeyond(larger: WorkerCounts, smaller: WorkerCounts): WorkerCounts | null {
  const worker = beyond(workerCounters, larger, smaller);
  let isMore = isAnyAboveZero(worker);
  const models = Object.entries(larger.models).map(([name, model]) => {
    const other = smaller.models[name] ?? noModelCounts();
    const counters = beyond(modelCounters, model, other);
    const histograms = eachHistogram((key) => since(model[key] ?? [], other[key] ?? []));
    const batchRows = model.batchRows.map((rows, i) => Math.max(0, rows - (other.batchRows[i] ?? 0)));
    isMore ||=
      isAnyAboveZero(counters) ||
      Object.values(histograms).some((more) => more.length > 0) ||
      batchRows.some((n) => n > 0);
    return [name, { ...counters, ...histograms, batchRows }] as const;
  });
  return isMore ? { ...worker, models: Object.fromEntries(models) } : null;
}

function beyond<Name extends string>(
  names: readonly Name[],
  larger: Readonly<Record<Name, number>>,
  smaller: Readonly<Record<Name, number>>,
): Record<Name, number> {
  const entries = names.map((name) => [name, Math.max(0, (larger[name] ?? 0) - (smaller[name] ?? 0))]);
  return Object.fromEntries(entries) as Record<Name, number>;
}

const isAnyAboveZero = (counts: Readonly<Record<string, number>>): boolean =>
  Object.values(counts).some((count) => count > 0);

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
  readonly #histograms = eachHistogram(() => new Float64Array(bucketCount));
  readonly #batchRows: number[] = new Array(batchRowsBuckets).fill(0);

  add(model: ModelCounts): void {
    for (const name of modelCounters) this.#counters[name] = (this.#counters[name] ?? 0) + (model[name] ?? 0);
    for (const name of modelHistograms) addSparse(this.#histograms[name], model[name] ?? []);
    for (const [i, batches] of model.batchRows.entries()) this.#batchRows[i] = (this.#batchRows[i] ?? 0) + batches;
  }

  value(): ModelCounts {
    return {
      ...(this.#counters as Record<ModelCounter, number>),
      ...eachHistogram((name) => toSparse(this.#histograms[name])),
      batchRows: this.#batchRows,
    };
  }
}

function zeros<Name extends string>(names: readonly Name[]): Record<Name, number> {
  return Object.fromEntries(names.map((name) => [name, 0])) as Record<Name, number>;
}
