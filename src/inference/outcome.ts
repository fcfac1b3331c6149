// The outcome of a batch: the model's replies, checked, or why there are none.

import type { BatchOutcome, Replies } from './batch.js';

/** An inline model that runs again and again yields to the event loop after this long, for other models and sockets. */
export const longestHoldMs = 2;

/** Too few or too many replies fail the batch: otherwise clients would get each other's. */
export function checked(source: { readonly rows: number }, replies: Replies): BatchOutcome {
  if (replies.kind === 'rows') {
    if (Array.isArray(replies.rows) && replies.rows.length === source.rows) return replies;
    const count = Array.isArray(replies.rows) ? replies.rows.length : typeof replies.rows;
    return failed(`the model returned ${count} replies for ${source.rows} payloads: it must return one for each`);
  }
  const { bytes, stride, rowBytes } = replies;
  if (Number.isSafeInteger(rowBytes) && bytes.length === (source.rows - 1) * stride + rowBytes) return replies;
  return failed(`the model returned ${bytes.length} bytes, which are not ${source.rows} replies of ${rowBytes}`);
}

/** Bytes of one reply, on average if they differ; null when there is none. */
export function bytesOfReply(outcome: BatchOutcome): number | null {
  if (outcome.kind === 'uniform') return outcome.rowBytes;
  if (outcome.kind === 'failed') return null;
  const replies = outcome.rows.filter((row) => row instanceof Uint8Array);
  return replies.length === 0 ? null : replies.reduce((sum, { length }) => sum + length, 0) / replies.length;
}

const failed = (message: string): BatchOutcome => ({ kind: 'failed', error: new Error(message) });
