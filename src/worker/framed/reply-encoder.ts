// Encodes the replies of settled groups as frames: one for each request, an empty one where there is no reply.

import type { BatchOutcome } from '../../inference/batch.js';
import { type LengthFieldSize, maxFrameLength, writeLength } from '../../protocol/frames.js';
import type { RequestGroup } from '../../serving/request-group.js';

/** The length of a reply; -1 when there is none or the length field cannot hold it: then its request fails. */
const replyLength = (reply: Uint8Array | Error | undefined, maxLength: number): number =>
  reply instanceof Uint8Array && reply.length <= maxLength ? reply.length : -1;

/** Bytes that the replies of a settled group take on the wire. */
export function repliesSize(group: RequestGroup, lengthFieldSize: LengthFieldSize): number {
  const { outcome, requests, first } = group;
  const headers = requests * lengthFieldSize;
  const maxLength = maxFrameLength(lengthFieldSize);
  if (outcome === null || outcome.kind === 'failed') return headers;
  if (outcome.kind === 'uniform')
    return outcome.rowBytes <= maxLength ? headers + requests * outcome.rowBytes : headers;
  let size = headers;
  for (let i = 0; i < requests; i++) size += Math.max(0, replyLength(outcome.rows[first + i], maxLength));
  return size;
}

/** Writes a settled group's replies at `at`, an empty frame for each that failed; returns how many failed. */
export function writeReplies(group: RequestGroup, out: Buffer, at: number, lengthFieldSize: LengthFieldSize): number {
  const { outcome, requests, first } = group;
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
  // Below some thirty bytes a loop is quicker than the call into native code, and than the view that this needs.
  const source = rowBytes <= 32 ? null : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let from = first * stride;
  for (let i = 0; i < requests; i++) {
    at = writeLength(out, at, rowBytes, lengthFieldSize);
    if (source === null) for (let k = 0; k < rowBytes; k++) out[at + k] = bytes[from + k] as number;
    else source.copy(out, at, from, from + rowBytes);
    at += rowBytes;
    from += stride;
  }
}
