// The outcome of a batch: the model's checked replies or, when it failed as a whole, the outcome of each row by itself.

import { setImmediate as nextTurn } from 'node:timers/promises';
import { toError } from '../thrown.js';
import { type Batch, type BatchOutcome, type Replies, singleRow } from './batch.js';
import { type Model, SharedRunError, ThreadLostError } from './model.js';

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
 * The rows that may succeed in a run of their own: all of a batch that failed as a whole, or those that failed in a run
 * that they shared. Indices; null: all.
 */
export function rowsToRetry(outcome: BatchOutcome): readonly number[] | null {
  if (outcome.kind === 'failed') return null;
  if (outcome.kind === 'uniform') return [];
  const { rows } = outcome;
  return rows.some(isShared) ? [...rows.keys()].filter((i) => isShared(rows[i])) : [];
}

const isShared = (reply: unknown): boolean => reply instanceof SharedRunError;

/**
 * Runs each of these rows as a batch of its own; rows that fail again are Errors in the outcome. When `deadline`
 * (monotonic milliseconds) passes, the remaining rows fail as they did; when a thread is lost, with that error: a batch
 * full of bad rows must not delay the others for long.
 * @param before the outcome that has failed
 * @param indices of the rows, or null for all of them
 */
export async function runRowByRow(
  model: Model,
  batch: Batch,
  before: Exclude<BatchOutcome, { kind: 'uniform' }>,
  indices: readonly number[] | null,
  deadline: number,
): Promise<{ readonly outcome: BatchOutcome; readonly runs: number }> {
  const rows: (Uint8Array | Error)[] =
    before.kind === 'rows' ? [...before.rows] : new Array<Error>(batch.rows).fill(before.error);
  const retried = indices ?? [...rows.keys()];
  let yieldedAt = performance.now();
  let runs = 0;
  let crash: Error | null = null;
  for (const row of retried) {
    if (crash !== null) rows[row] = crash;
    else if (performance.now() < deadline) {
      const reply = await runRow(model, batch, row);
      if (reply instanceof ThreadLostError) crash = reply;
      rows[row] = reply;
      runs++;
      if (performance.now() - yieldedAt > longestHoldMs) {
        await nextTurn();
        yieldedAt = performance.now();
      }
    }
  }
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
