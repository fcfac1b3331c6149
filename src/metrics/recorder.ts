// What one worker counts, in one flat array of doubles: to count is to add to an element, and the whole state is one
// block of memory. Doubles count exactly up to 2^53.
//
//   ┌ worker counters ┬ model 0: counters, latency histogram ┬ model 1: … ┐

import { bucketCount, bucketOf, toSparse } from './histogram.js';
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
  'abandoned',
  'batches',
  'batchedRows',
  'runMicroseconds',
] as const;

export type WorkerCounter = (typeof workerCounters)[number];
export type ModelCounter = (typeof modelCounters)[number];

/** Counts the requests of one model; `durationMs` of a request runs from its last byte's arrival to its reply. */
export class ModelRecorder {
  readonly #slab: Float64Array;
  readonly #at: Readonly<Record<ModelCounter, number>>;
  readonly #histogramAt: number;

  constructor(slab: Float64Array, offset: number) {
    this.#slab = slab;
    this.#at = indexes(modelCounters, offset);
    this.#histogramAt = offset + modelCounters.length;
  }

  count(counter: ModelCounter, by = 1): void {
    const at = this.#at[counter];
    this.#slab[at] = (this.#slab[at] as number) + by;
  }

  /** `requests` replies that left together, `durationMs` after their requests had arrived together. */
  answered(requests: number, durationMs: number): void {
    this.count('answered', requests);
    const at = this.#histogramAt + bucketOf(durationMs);
    this.#slab[at] = (this.#slab[at] as number) + requests;
  }

  snapshot(): ModelCounts {
    const counters = values(this.#at, this.#slab);
    return { ...counters, latency: toSparse(this.#slab, this.#histogramAt) };
  }
}

export class Recorder {
  readonly #slab: Float64Array;
  readonly #at = indexes(workerCounters, 0);
  readonly #models = new Map<string, ModelRecorder>();

  constructor(modelNames: readonly string[]) {
    const modelSize = modelCounters.length + bucketCount;
    this.#slab = new Float64Array(workerCounters.length + modelNames.length * modelSize);
    modelNames.forEach((name, i) => {
      this.#models.set(name, new ModelRecorder(this.#slab, workerCounters.length + i * modelSize));
    });
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

function indexes<Name extends string>(names: readonly Name[], offset: number): Record<Name, number> {
  return Object.fromEntries(names.map((name, i) => [name, offset + i])) as Record<Name, number>;
}

function values<Name extends string>(at: Readonly<Record<Name, number>>, slab: Float64Array): Record<Name, number> {
  const entries = Object.entries<number>(at).map(([name, i]) => [name, slab[i]]);
  return Object.fromEntries(entries) as Record<Name, number>;
}
