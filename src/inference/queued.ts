// A batch on its way to its run.

import type { Batch } from './batch.js';
import type { Lease } from './lease.js';

/** Why a batch was closed. */
export type CloseReason = 'full' | 'turn' | 'delay' | 'drain';

export interface Queued {
  readonly batch: Batch;
  readonly lease: Lease;
  readonly closedBy: CloseReason;
}
