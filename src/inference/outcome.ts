// The outcome of a batch: the model's checked replies or, when it failed as a whole, the outcome of each row by itself.

import { setImmediate as nextTurn } from 'node:timers/promises';
import { toError } from '../thrown.js';
import { type Batch, type BatchOutcome, type Replies, singleRow } from './batch.js';
import { type Model, ThreadLostError } from './model.js';

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

/**
 * Runs each row as a batch of its own; rows that fail again are Errors in the outcome. When `deadline` (monotonic
 * milliseconds) passes, the remaining rows fail with `reason`; when a thread is lost, with that error: a batch full of
 * bad rows must not delay the others for long.
 */
export async function runRowByRow(
  model: Model,
  batch: Batch,
  reason: Error,
  deadline: number,
): Promise<{ readonly outcome: BatchOutcome; readonly runs: number }> {
  const rows: (Uint8Array | Error)[] = [];
  let yieldedAt = performance.now();
  let crash: Error | null = null;
  while (rows.length < batch.rows && crash === null && performance.now() < deadline) {
    const reply = await runRow(model, batch, rows.length);
    if (reply instanceof ThreadLostError) crash = reply;
    rows.push(reply);
    if (performance.now() - yieldedAt > longestHoldMs) {
      await nextTurn();
      yieldedAt = performance.now();
    }
  }
  const runs = rows.length;
  while (rows.length < batch.rows) rows.push(crash ?? reason);
  return { outcome: { kind: 'rows', rows }, runs };
}

async function runRow(model: Model, batch: Batch, index: number): Promise<Uint8Array | Error> {
  const row = singleRow(batch, index);
  try {
    const outcome = checked(row, await model.run(row));
    if (outcome.kind === 'rows') return outcome.rows[0] as Uint8Array | Error;
    return outcome.kind === 'uniform' ? outcome.bytes.subarray(0, outcome.rowBytes) : outcome.error;
  } catch (error) {
    return toError(error);
  }
}

const failed = (message: string): BatchOutcome => ({ kind: 'failed', error: new Error(message) });
