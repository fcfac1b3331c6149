// The unit that a connection waits for: requests that one read brought, side by side in one batch (or refused
// together). Counting, timing and answering happen once a segment, not once a request.

import type { Batch, BatchOutcome } from '../inference/batch.js';
import type { ModelCounter } from '../metrics/recorder.js';
import { type LengthFieldSize, maxFrameLength, writeLength } from '../protocol/frames.js';

/** Why requests were refused, by the name of their counter. */
export type Refusal = Extract<ModelCounter, `refused${string}`>;

export class Segment {
  /** The batch that holds its rows, or why there are none: then each request is answered with an empty frame. */
  readonly target: Batch | Refusal;
  /** Index in the batch of the segment's first row. */
  readonly first: number;
  /** When the last byte of its requests had arrived, in milliseconds of the monotonic clock. */
  readonly arrivedAt: number;
  requests = 0;

  constructor(target: Batch | Refusal, arrivedAt: number) {
    this.target = target;
    this.first = typeof target === 'string' ? 0 : target.rows;
    this.arrivedAt = arrivedAt;
  }

  /** Whether its replies can be written. */
  get isSettled(): boolean {
    return typeof this.target === 'string' || this.target.outcome !== null;
  }
}

/** A reply that cannot be told on this wire fails its request. */
const replyLength = (reply: Uint8Array | Error | undefined, maxLength: number): number =>
  reply instanceof Uint8Array && reply.length <= maxLength ? reply.length : -1;

/** Bytes that the replies of a settled segment take on the wire. */
export function repliesSize(segment: Segment, lengthFieldSize: LengthFieldSize): number {
  const outcome = outcomeOf(segment);
  const headers = segment.requests * lengthFieldSize;
  const maxLength = maxFrameLength(lengthFieldSize);
  if (outcome === null || outcome.kind === 'failed') return headers;
  if (outcome.kind === 'uniform')
    return outcome.rowBytes <= maxLength ? headers + segment.requests * outcome.rowBytes : headers;
  let size = headers;
  for (let i = 0; i < segment.requests; i++)
    size += Math.max(0, replyLength(outcome.rows[segment.first + i], maxLength));
  return size;
}

/** Writes a settled segment's replies at `at`, an empty frame for each that failed; returns how many failed. */
export function writeReplies(segment: Segment, out: Buffer, at: number, lengthFieldSize: LengthFieldSize): number {
  const outcome = outcomeOf(segment);
  const { requests, first } = segment;
  const maxLength = maxFrameLength(lengthFieldSize);
  if (outcome === null || outcome.kind === 'failed' || (outcome.kind === 'uniform' && outcome.rowBytes > maxLength)) {
    out.fill(0, at, at + requests * lengthFieldSize);
    return requests;
  }
  if (outcome.kind === 'uniform') {
    writeUniform(out, at, outcome, first, requests, lengthFieldSize);
    return 0;
  }
  let failed = 0;
  for (let i = 0; i < requests; i++) {
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
