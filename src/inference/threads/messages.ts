// What the host of a model's threads and a thread say to each other.

import type { ModelSource } from '../catalogue.js';
import type { WarmUp } from '../warm-up.js';
import type { PackedReplies, PackedRows } from './packing.js';

/** `workerData` of a thread. */
export interface ThreadBoot {
  readonly source: ModelSource;
  /** Rows of the largest batch it will get. */
  readonly maxBatchSize: number;
}

export type ToThread = { readonly kind: 'run'; readonly rows: PackedRows } | { readonly kind: 'close' };

export type FromThread =
  | {
      readonly kind: 'ready';
      readonly inputBytes: number | null;
      readonly description: string;
      readonly warmUp: WarmUp | null;
    }
  | { readonly kind: 'replies'; readonly replies: PackedReplies }
  | { readonly kind: 'failed'; readonly message: string };
