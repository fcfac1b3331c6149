import type { Replies, RowSource } from '#src/inference/batch.js';

/** Payloads as the rows of a batch. */
export function rowsOf(payloads: readonly Buffer[]): RowSource {
  return {
    rows: payloads.length,
    payload: (i) => payloads[i] as Buffer,
    copyRow: (i, target, at, from, length) => void payloads[i]?.copy(target, at, from, from + length),
  };
}

/** The reply to each row, in hexadecimal digits; `Error: …` for a row that failed. */
export function repliesOf(replies: Replies, rows: number): readonly string[] {
  if (replies.kind === 'rows')
    return replies.rows.map((row) => (row instanceof Error ? String(row) : Buffer.from(row).toString('hex')));
  const { bytes, rowBytes, stride } = replies;
  return Array.from({ length: rows }, (_, i) =>
    Buffer.from(bytes.subarray(i * stride, i * stride + rowBytes)).toString('hex'),
  );
}
