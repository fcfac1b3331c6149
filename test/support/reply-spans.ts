// Replies by where they lie, as views and back.

import type { ReplySpan } from '#src/serving/request-group.js';

export const viewOf = ({ source, start, end }: ReplySpan): Uint8Array => source.subarray(start, end);

/** In the middle of other bytes, as in the outcome of a batch. */
export function spanOf(bytes: Uint8Array): ReplySpan {
  const source = new Uint8Array(bytes.buffer);
  return { source, start: bytes.byteOffset, end: bytes.byteOffset + bytes.length };
}
