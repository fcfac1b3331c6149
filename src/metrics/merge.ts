// Adding up counts: of departed workers on a node, and of all records of a cluster.

import { addSparse, bucketCount, type SparseHistogram, toSparse } from './histogram.js';
import { batchRowsBuckets, modelCounters, workerCounters } from './recorder.js';
import type { MetricsRecord, ModelCounts, NodeRecord, WorkerCounts, WorkerRecord } from './snapshot.js';

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
  const names = new Set([...Object.keys(a.models), ...Object.keys(b.models)]);
  const models = [...names].map((name) => [
    name,
    addModelCounts(a.models[name] ?? noModelCounts(), b.models[name] ?? noModelCounts()),
  ]);
  return { ...added(workerCounters, a, b), models: Object.fromEntries(models) };
}

export function addModelCounts(a: ModelCounts, b: ModelCounts): ModelCounts {
  return {
    ...added(modelCounters, a, b),
    latency: mergeHistograms([a.latency, b.latency]),
    queueTime: mergeHistograms([a.queueTime, b.queueTime]),
    runTime: mergeHistograms([a.runTime, b.runTime]),
    batchRows: a.batchRows.map((batches, i) => batches + (b.batchRows[i] ?? 0)),
  };
}

export function mergeHistograms(histograms: readonly SparseHistogram[]): SparseHistogram {
  const filled = histograms.filter((histogram) => histogram.length > 0);
  if (filled.length <= 1) return filled[0] ?? [];
  const sum = new Float64Array(bucketCount);
  for (const histogram of filled) addSparse(sum, histogram);
  return toSparse(sum);
}

/** The workers whose own records still count: those that their node has not folded in. */
export function liveWorkers(records: readonly MetricsRecord[]): readonly WorkerRecord[] {
  const folded = new Map(nodes(records).map((node) => [node.run, node.folded]));
  return records.filter(
    (record): record is WorkerRecord =>
      record.kind === 'worker' && record.incarnation > (folded.get(record.run)?.[record.slot] ?? -1),
  );
}

export function nodes(records: readonly MetricsRecord[]): readonly NodeRecord[] {
  return records.filter((record) => record.kind === 'node');
}

/** Everything that the cluster has counted, living and departed. */
export function totalCounts(records: readonly MetricsRecord[]): WorkerCounts {
  const counts = [
    ...nodes(records).map((node) => node.departed),
    ...liveWorkers(records).map((worker) => worker.counts),
  ];
  return counts.reduce(addCounts, noCounts());
}

function zeros<Name extends string>(names: readonly Name[]): Record<Name, number> {
  return Object.fromEntries(names.map((name) => [name, 0])) as Record<Name, number>;
}

function added<Name extends string>(
  names: readonly Name[],
  a: Readonly<Record<Name, number>>,
  b: Readonly<Record<Name, number>>,
): Record<Name, number> {
  return Object.fromEntries(names.map((name) => [name, a[name] + b[name]])) as Record<Name, number>;
}
