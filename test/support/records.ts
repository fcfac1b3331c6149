// Records with every field filled in, for tests that care about a few fields.

import { noCounts, noModelCounts } from '#src/metrics/merge.js';
import {
  type GoneRecord,
  goneRecordId,
  type MetricsRecord,
  type ModelCounts,
  type ModelGauges,
  type NodeRecord,
  noneFolded,
  type WorkerCounts,
  type WorkerRecord,
  workerRecordId,
} from '#src/metrics/snapshot.js';
import type { RecordsSnapshot } from '#src/metrics/transport/transport.js';

export function workerRecord(fields: Partial<WorkerRecord> = {}): WorkerRecord {
  const { node = 'a', run = 'run', slot = 0, incarnation = 1 } = fields;
  return {
    kind: 'worker',
    id: workerRecordId(node, run, slot, incarnation),
    node,
    run,
    slot,
    incarnation,
    sequence: 1,
    uptimeMs: 0,
    pid: 100 + slot,
    counts: noCounts(),
    gauges: {
      state: 'ready',
      connections: 0,
      inFlight: 0,
      models: {},
      rssBytes: 1,
      cpuSeconds: 1,
      cpuShare: 0,
      eventLoopUtilization: 0,
      eventLoopDelayP99Ms: 0,
    },
    ...fields,
  };
}

/** Of a model that has nothing to do. */
export function modelGauges(version: string): ModelGauges {
  return {
    version,
    execution: 'inline',
    queued: 0,
    predictedWaitMs: 0,
    maxRows: 256,
    maxRowsBecause: 'auto takes no more',
    hungThreads: 0,
  };
}

export function nodeRecord(fields: Partial<NodeRecord> = {}): NodeRecord {
  const { node = 'a', run = 'run' } = fields;
  return {
    kind: 'node',
    id: `node:${node}:${run}`,
    node,
    run,
    version: '0.0.0',
    sequence: 1,
    uptimeMs: 0,
    pid: 99,
    workersWanted: 1,
    restarts: 0,
    reloads: 0,
    isStopping: false,
    departed: noCounts(),
    folded: { upTo: 0, except: [] },
    earlierRestarts: 0,
    contains: [],
    ...fields,
  };
}

export function goneRecord(fields: Partial<GoneRecord> = {}): GoneRecord {
  const { node = 'a', run = 'run' } = fields;
  return {
    kind: 'gone',
    id: goneRecordId(node, run),
    node,
    run,
    sequence: 1,
    departed: noCounts(),
    workers: {},
    inFlight: 0,
    restarts: 0,
    folded: noneFolded,
    contains: [],
    replaces: {},
    ...fields,
  };
}

/** Counts of one model. */
export function countsOf(fields: Partial<ModelCounts>, model = 'm'): WorkerCounts {
  return { ...noCounts(), models: { [model]: { ...noModelCounts(), ...fields } } };
}

/** A snapshot of these records, all of the same age. */
export function snapshotOf(records: readonly MetricsRecord[], ageMs = 0, now = 0): RecordsSnapshot {
  return { records: records.map((record) => ({ record, ageMs })), now };
}
