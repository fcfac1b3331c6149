// The unit that a connection waits for: requests that one read brought, side by side in one batch (or refused
// together). Counting, timing and answering happen once a segment, not once a request.

import type { Batch, BatchEntry, BatchOutcome } from '../inference/batch.js';
import type { ModelCounter } from '../metrics/recorder.js';
import { type LengthFieldSize, maxFrameLength, writeLength } from '../protocol/frames.js';

/** Why requests have no outcome of the model, by the name of their counter. */
export type Refusal = Extract<ModelCounter, `refused${string}` | 'expired'>;

export class Segment implements BatchEntry {
  rows = 0;
  /** Bytes of its rows in a batch, and that their replies will have. */
  bytes = 0;
  readonly arrivedAt: number;
  readonly #onSettled: () => void;
  #target: Batch | Refusal;
  #first: number;

  /** @param onSettled called when the replies of a segment that waited for a batch can be written */
  constructor(target: Batch | Refusal, arrivedAt: number, onSettled: () => void) {
    this.#target = target;
    this.#first = typeof target === 'string' ? 0 : target.rows;
    this.arrivedAt = arrivedAt;
    this.#onSettled = onSettled;
  }

  /** The batch that holds its rows, or why there is none: then each request is answered with an empty frame. */
  get target(): Batch | Refusal {
    return this.#target;
  }

  get first(): number {
    return this.#first;
  }

  /** Whether its replies can be written. */
  get isSettled(): boolean {
    return typeof this.#target === 'string' || this.#target.outcome !== null;
  }

  /** Its rows are the batch's own from here on. */
  keep(): void {
    if (typeof this.#target !== 'string') this.#target.keep();
  }

  moved(batch: Batch, first: number): void {
    this.#target = batch;
    this.#first = first;
  }

  expired(): void {
    this.#target = 'expired';
    this.#onSettled();
  }

  settled(): void {
    this.#onSettled();
  }
}

/** A reply that cannot be told on this wire fails its request. */
const replyLength = (reply: Uint8Array | Error | undefined, maxLength: number): number =>
  reply instanceof Uint8Array && reply.length <= maxLength ? reply.length : -1;

/** Bytes that the replies of a settled segment take on the wire. */
export function repliesSize(segment: Segment, lengthFieldSize: LengthFieldSize): number {
  const outcome = outcomeOf(segment);
  const headers = segment.rows * lengthFieldSize;
  const maxLength = maxFrameLength(lengthFieldSize);
  if (outcome === null || outcome.kind === 'failed') return headers;
  if (outcome.kind === 'uniform')
    return outcome.rowBytes <= maxLength ? headers + segment.rows * outcome.rowBytes : headers;
  let size = headers;
  for (let i = 0; i < segment.rows; i++) size += Math.max(0, replyLength(outcome.rows[segment.first + i], maxLength));
  return size;
}

/** Writes a settled segment's replies at `at`, an empty frame for each that failed; returns how many failed. */
export function writeReplies(segment: Segment, out: Buffer, at: number, lengthFieldSize: LengthFieldSize): number {
  const outcome = outcomeOf(segment);
  const { rows, first } = segment;
  const maxLength = maxFrameLength(lengthFieldSize);
  if (outcome === null || outcome.kind === 'failed' || (outcome.kind === 'uniform' && outcome.rowBytes > maxLength)) {
    out.fill(0, at, at + rows * lengthFieldSize);
    return rows;
  }
  if (outcome.kind === 'uniform') {
    writeUniform(out, at, outcome, first, rows, lengthFieldSize);
    return 0;
  }
  let failed = 0;
  for (let i = 0; i < rows; i++) {
    const reply = outcome.rows[first + i];
    const length = replyLength(reply, maxLength);
    if (length < 0) failed++;
    at = writeLength(out, at, Math.max(0, length), lengthFieldSize);
    if (length > 0) out.set(reply as Uint8Array, at);
    at += Math.max(0, length);
  }
  return failed;
}

function writeUniform(
  out: Buffer,
  at: number,
  outcome: Extract<BatchOutcome, { kind: 'uniform' }>,
  first: number,
  requests: number,
  lengthFieldSize: LengthFieldSize,
): void {
  const { bytes, rowBytes, stride } = outcome;
  const source = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let from = first * stride;
  for (let i = 0; i < requests; i++) {
    at = writeLength(out, at, rowBytes, lengthFieldSize);
    // Below some thirty bytes a loop is quicker than the call into native code.
    if (rowBytes <= 32) for (let k = 0; k < rowBytes; k++) out[at + k] = source[from + k] as number;
    else source.copy(out, at, from, from + rowBytes);
    at += rowBytes;
    from += stride;
  }
}

function outcomeOf({ target }: Segment): BatchOutcome | null {
  if (typeof target === 'string') return null;
  if (target.outcome === null) throw new Error('the batch of this segment is not settled');
  return target.outcome;
}
