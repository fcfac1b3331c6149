// What one worker counts, in one flat array of doubles: counting adds to an element, and the whole state is one block
// of memory. Doubles count exactly up to 2^53.
//
//   ┌ counters of the worker, of model 0, of model 1 … ┬ histograms of model 0 ┬ of model 1 … ┐
//
// The histograms of a model are interleaved bucket by bucket: what an event-loop turn touches lies close together, so
// little has to be written to the counter file.

import {
  eachHistogram,
  type ModelCounter,
  type ModelHistogram,
  modelCounters,
  modelHistograms,
  type WorkerCounter,
  workerCounters,
} from './counters.js';
import { batchRowsBuckets, bucketCount, bucketOf, toSparse } from './histogram.js';
import type { ModelCounts, WorkerCounts } from './snapshot.js';

export type { ModelCounter, WorkerCounter } from './counters.js';

const countersSize = modelCounters.length + batchRowsBuckets;
const histogramsSize = modelHistograms.length * bucketCount;

/** What may have changed since the counts were last written out: all counters, and the histograms in [from, to). */
interface Touched {
  from: number;
  to: number;
}

/** Counts the requests and the batches of one model. */
export class ModelRecorder {
  readonly #counters: Float64Array;
  readonly #touched: Touched;
  readonly #at: Readonly<Record<ModelCounter, number>>;
  readonly #batchRowsAt: number;
  readonly #histogramAt: Readonly<Record<ModelHistogram, number>>;

  constructor(counters: Float64Array, touched: Touched, countersAt: number, histogramsAt: number) {
    this.#counters = counters;
    this.#touched = touched;
    this.#at = indexes(modelCounters, countersAt);
    this.#batchRowsAt = countersAt + modelCounters.length;
    this.#histogramAt = indexes(modelHistograms, histogramsAt);
  }

  count(counter: ModelCounter, by = 1): void {
    this.#add(this.#at[counter], by);
  }

  /** Counts `requests` that took this long: from a request's last byte to its reply or to its run, or in its run. */
  time(histogram: ModelHistogram, durationMs: number, requests = 1): void {
    const at = this.#histogramAt[histogram] + bucketOf(durationMs) * modelHistograms.length;
    this.#add(at, requests);
    if (at < this.#touched.from) this.#touched.from = at;
    if (at >= this.#touched.to) this.#touched.to = at + 1;
  }

  /** Counts a batch of this many rows that was run. */
  batch(rows: number): void {
    const bucket = Math.min(32 - Math.clz32(rows - 1), batchRowsBuckets - 1);
    this.#add(this.#batchRowsAt + bucket, 1);
    this.count('batchedRows', rows);
  }

  snapshot(): ModelCounts {
    const stride = modelHistograms.length;
    return {
      ...values(this.#at, this.#counters),
      ...eachHistogram((name) => toSparse(this.#counters, this.#histogramAt[name], stride)),
      batchRows: [...this.#counters.subarray(this.#batchRowsAt, this.#batchRowsAt + batchRowsBuckets)],
    };
  }

  #add(at: number, by: number): void {
    this.#counters[at] = (this.#counters[at] as number) + by;
  }
}

/** Identifies the order and the sizes of all counters: a counter file of another layout cannot be read. */
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
  readonly #counters: Float64Array;
  readonly #touched: Touched = { from: 0, to: 0 };
  readonly #countersEnd: number;
  readonly #at = indexes(workerCounters, 0);
  readonly #models = new Map<string, ModelRecorder>();

  /**
   * @param counters counts to continue from: the `counters` of a recorder of the same models. By default all counts
   * start at 0.
   */
  constructor(modelNames: readonly string[], counters?: Float64Array) {
    this.#countersEnd = workerCounters.length + modelNames.length * countersSize;
    const size = this.#countersEnd + modelNames.length * histogramsSize;
    if (counters !== undefined && counters.length !== size)
      throw new RangeError(`${counters.length} counts cannot be those of ${modelNames.length} models`);
    this.modelNames = modelNames;
    this.#counters = counters ?? new Float64Array(size);
    this.#touched.to = size;
    for (const [i, name] of modelNames.entries()) {
      const countersAt = workerCounters.length + i * countersSize;
      const histogramsAt = this.#countersEnd + i * histogramsSize;
      this.#models.set(name, new ModelRecorder(this.#counters, this.#touched, countersAt, histogramsAt));
    }
  }

  /** All counts, as they lie in memory. */
  get counters(): Float64Array {
    return this.#counters;
  }

  /** Calls `write` with the ranges of `counters` that may have changed since the last call. */
  takeTouched(write: (from: number, to: number) => void): void {
    const { from, to } = this.#touched;
    // A second write costs more than the few hundred counts between the two ranges.
    if (from >= to) write(0, this.#countersEnd);
    else if (from - this.#countersEnd < 512) write(0, to);
    else {
      write(from, to);
      write(0, this.#countersEnd);
    }
    this.#touched.from = this.#counters.length;
    this.#touched.to = 0;
  }

  count(counter: WorkerCounter, by = 1): void {
    const at = this.#at[counter];
    this.#counters[at] = (this.#counters[at] as number) + by;
  }

  model(name: string): ModelRecorder {
    const model = this.#models.get(name);
    if (model === undefined) throw new Error(`no recorder for the model ${name}`);
    return model;
  }

  snapshot(): WorkerCounts {
    const models = Object.fromEntries([...this.#models].map(([name, model]) => [name, model.snapshot()]));
    return { ...values(this.#at, this.#counters), models };
  }
}

function indexes<Name extends string>(names: readonly Name[], offset: number): Record<Name, number> {
  return Object.fromEntries(names.map((name, i) => [name, offset + i])) as Record<Name, number>;
}

function values<Name extends string>(at: Readonly<Record<Name, number>>, counters: Float64Array): Record<Name, number> {
  const entries = Object.entries<number>(at).map(([name, i]) => [name, counters[i]]);
  return Object.fromEntries(entries) as Record<Name, number>;
}
