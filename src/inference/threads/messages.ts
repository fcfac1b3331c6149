// The messages between the host of a model's threads and a thread.

import type { ModelSource } from '../backends/load.js';
import type { KnownModel, Model } from '../model.js';
import type { CurveLimits, WarmUp } from '../warm-up.js';
import type { PackedReplies, PackedRows } from './packing.js';

/** Indices into the array that a thread shares with its host. */
export const tells = {
  /** How many native libraries the thread has loaded. */
  nativeLibraries: 0,
  /** How many lots of rows the thread has computed. */
  lots: 1,
} as const;

/** `workerData` of a thread. */
export interface ThreadBoot {
  readonly source: ModelSource;
  /** What another thread has found out about the model. */
  readonly known: KnownModel | null;
  /** Rows of the largest batch that the thread will get. */
  readonly maxBatchSize: number;
  /** How far its warm-up goes. */
  readonly curve: CurveLimits;
  /** What the host can read even while the thread is in native code; see `tells`. */
  readonly shared: Int32Array<SharedArrayBuffer>;
}

export type ToThread = { readonly kind: 'run'; readonly rows: PackedRows } | { readonly kind: 'close' };

export type FromThread =
  | {
      readonly kind: 'ready';
      /** The code that the thread runs: its `runningCode`. */
      readonly code: string;
      readonly model: Pick<
        Model,
        'inputBytes' | 'outputBytes' | 'fixedRows' | 'runsAloneBecause' | 'plan' | 'description'
      > & { readonly sample: Uint8Array | null };
      readonly warmUp: WarmUp | null;
    }
  | { readonly kind: 'replies'; readonly replies: PackedReplies; readonly lent: ArrayBuffer | null }
  | { readonly kind: 'failed'; readonly message: string; readonly lent: ArrayBuffer | null };
