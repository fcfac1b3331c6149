// What the host of a model's threads and a thread say to each other.

import type { ModelSource } from '../backends/load.js';
import type { Model } from '../model.js';
import type { WarmUp } from '../warm-up.js';
import type { PackedReplies, PackedRows } from './packing.js';

/** Places in what a thread shares with its host. */
export const tells = {
  /** How many native libraries it has loaded. */
  nativeLibraries: 0,
  /** How many lots of rows it has computed. */
  lots: 1,
} as const;

/** `workerData` of a thread. */
export interface ThreadBoot {
  readonly source: ModelSource;
  /** Rows of the largest batch it will get. */
  readonly maxBatchSize: number;
  /** What a batch of more than one row may take. */
  readonly longestCallMs: number;
  /** What can be read of the thread while it is in native code; see `tells`. */
  readonly shared: Int32Array<SharedArrayBuffer>;
}

export type ToThread = { readonly kind: 'run'; readonly rows: PackedRows } | { readonly kind: 'close' };

export type FromThread =
  | {
      readonly kind: 'ready';
      /** What the thread runs, as `code.ts` tells it. */
      readonly code: string;
      readonly model: Pick<Model, 'inputBytes' | 'outputBytes' | 'fixedRows' | 'runsAloneBecause' | 'description'>;
      readonly warmUp: WarmUp | null;
    }
  | { readonly kind: 'replies'; readonly replies: PackedReplies }
  | { readonly kind: 'failed'; readonly message: string };
