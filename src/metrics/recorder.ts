// What one worker counts, in one flat array of doubles: to count is to add to an element, and the whole state is one
// block of memory. Doubles count exactly up to 2^53.
//
//   ┌ worker counters ┬ model 0: counters, histograms, batch sizes ┬ model 1: … ┐

import { bucketCount, bucketOf, type SparseHistogram, toSparse } from './histogram.js';
import type { ModelCounts, WorkerCounts } from './snapshot.js';

/** Counters of a worker as a whole. The names are those of the snapshot. */
export const workerCounters = [
  'connectionsAccepted',
  'connectionsRefused',
  'closedByClient',
  'closedByError',
  'closedByPayloadTimeout',
  'closedByIdleTimeout',
  'closedByPayloadTooLarge',
  'closedByDrain',
  'framesTruncated',
  'pausedByInFlight',
  'pausedByWriteBuffer',
  'bytesReceived',
  'bytesSent',
] as const;

/** Counters of one model. Every received request ends as exactly one of the outcomes, or is still in flight. */
export const modelCounters = [
  'received',
  'answered',
  'failed',
  'refusedBadInput',
  'refusedQueueFull',
  'refusedPayloadTooLarge',
  'expired',
  'abandoned',
  'batchedRows',
  'retriedRows',
  'closedFull',
  'closedTurn',
  'closedDelay',
  'closedDrain',
  'loads',
  'loadFailures',
  'threadCrashes',
] as const;

/** Histograms of one model: reply times, waiting times and run times in ms; `batchRows` counts batches by their size. */
export const modelHistograms = ['latency', 'queueTime', 'runTime'] as const;

/** Batches of 1 row, up to 2, up to 4 … rows; the last bucket takes all larger ones. */
export const batchRowsBuckets = 16;

export type WorkerCounter = (typeof workerCounters)[number];
export type ModelCounter = (typeof modelCounters)[number];
export type ModelHistogram = (typeof modelHistograms)[number];

const modelSize = modelCounters.length + modelHistograms.length * bucketCount + batchRowsBuckets;

/** Counts the requests and the batches of one model. */
export class ModelRecorder {
  readonly #slab: Float64Array;
  readonly #at: Readonly<Record<ModelCounter, number>>;
  readonly #histogramAt: Readonly<Record<ModelHistogram, number>>;
  readonly #batchRowsAt: number;

  constructor(slab: Float64Array, offset: number) {
    this.#slab = slab;
    this.#at = indexes(modelCounters, offset);
    this.#histogramAt = indexes(modelHistograms, offset + modelCounters.length, bucketCount);
    this.#batchRowsAt = offset + modelCounters.length + modelHistograms.length * bucketCount;
  }

  count(counter: ModelCounter, by = 1): void {
    this.#add(this.#at[counter], by);
  }

  /** `requests` that took this long: from a request's last byte to its reply, to its run, or in its run. */
  time(histogram: ModelHistogram, durationMs: number, requests = 1): void {
    this.#add(this.#histogramAt[histogram] + bucketOf(durationMs), requests);
  }

  /** A batch of this many rows was run. */
  batch(rows: number): void {
    const bucket = Math.min(32 - Math.clz32(rows - 1), batchRowsBuckets - 1);
    this.#add(this.#batchRowsAt + bucket, 1);
    this.count('batchedRows', rows);
  }

  snapshot(): ModelCounts {
    const histogram = (name: ModelHistogram): SparseHistogram => toSparse(this.#slab, this.#histogramAt[name]);
    return {
      ...values(this.#at, this.#slab),
      latency: histogram('latency'),
      queueTime: histogram('queueTime'),
      runTime: histogram('runTime'),
      batchRows: [...this.#slab.subarray(this.#batchRowsAt, this.#batchRowsAt + batchRowsBuckets)],
    };
  }

  #add(at: number, by: number): void {
    this.#slab[at] = (this.#slab[at] as number) + by;
  }
}

/** What stands for the order and the sizes of all counters: a slab of another layout cannot be read. */
export const recorderLayout = [
  ...workerCounters,
  '|',
  ...modelCounters,
  '|',
  ...modelHistograms,
  bucketCount,
  batchRowsBuckets,
].join(' ');

export class Recorder {
  readonly modelNames: readonly string[];
  readonly #slab: Float64Array;
  readonly #at = indexes(workerCounters, 0);
  readonly #models = new Map<string, ModelRecorder>();

  /** @param slab counts to go on from, of a recorder of the same models: what `slab` was; by default none. */
  constructor(modelNames: readonly string[], slab?: Float64Array) {
    const size = workerCounters.length + modelNames.length * modelSize;
    if (slab !== undefined && slab.length !== size)
      throw new RangeError(`${slab.length} counts cannot be those of ${modelNames.length} models`);
    this.modelNames = modelNames;
    this.#slab = slab ?? new Float64Array(size);
    modelNames.forEach((name, i) => {
      this.#models.set(name, new ModelRecorder(this.#slab, workerCounters.length + i * modelSize));
    });
  }

  /** All counts, as they lie in memory. */
  get slab(): Float64Array {
    return this.#slab;
  }

  count(counter: WorkerCounter, by = 1): void {
    const at = this.#at[counter];
    this.#slab[at] = (this.#slab[at] as number) + by;
  }

  model(name: string): ModelRecorder {
    const model = this.#models.get(name);
    if (model === undefined) throw new Error(`no recorder for the model ${name}`);
    return model;
  }

  snapshot(): WorkerCounts {
    const models = Object.fromEntries([...this.#models].map(([name, model]) => [name, model.snapshot()]));
    return { ...values(this.#at, this.#slab), models };
  }
}

function indexes<Name extends string>(names: readonly Name[], offset: number, size = 1): Record<Name, number> {
  return Object.fromEntries(names.map((name, i) => [name, offset + i * size])) as Record<Name, number>;
}

function values<Name extends string>(at: Readonly<Record<Name, number>>, slab: Float64Array): Record<Name, number> {
  const entries = Object.entries<number>(at).map(([name, i]) => [name, slab[i]]);
  return Object.fromEntries(entries) as Record<Name, number>;
}
