// A batch that failed, row by row: a bad row must fail alone.

import { setImmediate as nextTurn } from 'node:timers/promises';
import { toError } from '../thrown.js';
import { type Batch, type BatchOutcome, type ReplyDims, singleRow } from './batch.js';
import { type Model, SharedRunError, ThreadLostError } from './model.js';
import { checked, longestHoldMs } from './outcome.js';

/** The outcome of a batch in which some rows may succeed in a run of their own. */
type Retriable = Exclude<BatchOutcome, { kind: 'uniform' }>;

/** A batch that has lost its thread is not retried: each of its rows might lose another one. */
export function isWorthRetrying(batch: Batch, outcome: BatchOutcome): outcome is Retriable {
  if (outcome.kind === 'uniform' || batch.rows === 1) return false;
  if (outcome.kind === 'failed') return !(outcome.error instanceof ThreadLostError);
  return outcome.rows.some(isShared);
}

/**
 * Runs each of the rows that may succeed as a batch of its own: all of a batch that failed as a whole, or those that
 * failed in a run that they shared. Rows that fail again are Errors in the outcome. When `deadline` (monotonic
 * milliseconds) passes, the remaining rows fail as they did; when a thread is lost, with that error: a batch full of
 * bad rows must not delay the others for long.
 * @param before the outcome that has failed
 */
export async function retryRows(
  model: Model,
  batch: Batch,
  before: Retriable,
  deadline: number,
): Promise<{ readonly outcome: BatchOutcome; readonly runs: number }> {
  const rows: (Uint8Array | Error)[] =
    before.kind === 'rows' ? [...before.rows] : new Array<Error>(batch.rows).fill(before.error);
  const dims: (ReplyDims | null)[] =
    before.kind === 'rows' && before.dims !== undefined ? [...before.dims] : new Array<null>(batch.rows).fill(null);
  const retried = [...rows.keys()].filter((i) => before.kind === 'failed' || isShared(rows[i]));
  let yieldedAt = performance.now();
  let runs = 0;
  let crash: Error | null = null;
  for (const row of retried) {
    if (crash !== null) rows[row] = crash;
    else if (performance.now() < deadline) {
      const { reply, replyDims } = await runRow(model, batch, row);
      if (reply instanceof ThreadLostError) crash = reply;
      rows[row] = reply;
      dims[row] = replyDims;
      runs++;
      if (performance.now() - yieldedAt > longestHoldMs) {
        await nextTurn();
        yieldedAt = performance.now();
      }
    }
  }
  return { outcome: { kind: 'rows', rows, ...(dims.some((one) => one !== null) ? { dims } : {}) }, runs };
}

const isShared = (reply: unknown): boolean => reply instanceof SharedRunError;

interface RetriedRow {
  readonly reply: Uint8Array | Error;
  readonly replyDims: ReplyDims | null;
}

async function runRow(model: Model, batch: Batch, index: number): Promise<RetriedRow> {
  const row = singleRow(batch, index);
  try {
    const outcome = checked(row, await model.run(row));
    if (outcome.kind === 'failed') return { reply: outcome.error, replyDims: null };
    if (outcome.kind === 'uniform')
      return { reply: outcome.bytes.subarray(0, outcome.rowBytes), replyDims: outcome.dims ?? null };
    return { reply: outcome.rows[0] as Uint8Array | Error, replyDims: outcome.dims?.[0] ?? null };
  } catch (error) {
    return { reply: toError(error), replyDims: null };
  }
}
