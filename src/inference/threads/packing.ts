// Batches and replies as they cross to a thread and back: one block of bytes each, transferred, not copied. A batch whose
// rows lie side by side crosses in its own memory, which comes back with the replies: rows of hundreds of kilobytes are
// not copied once more, and need no new memory for each run.

import { textOfThrown } from '../../thrown.js';
import type { Replies, ReplyDims, RowSource } from '../batch.js';
import { SharedRunError } from '../model.js';

export interface PackedRows {
  readonly rows: number;
  readonly bytes: ArrayBuffer;
  /** Whether `bytes` is lent: it goes back with the replies. */
  readonly isLent: boolean;
  /** Length of each row, or of all of them when they have the same. */
  readonly lengths: Uint32Array<ArrayBuffer> | number;
}

export type PackedReplies =
  | Extract<Replies, { kind: 'uniform' }>
  | {
      readonly kind: 'rows';
      readonly bytes: Uint8Array;
      /** Length of each reply; -1: that row failed; -2: it failed in a run that it shared. */
      readonly lengths: Int32Array<ArrayBuffer>;
      readonly errors: readonly string[];
      readonly dims: readonly (ReplyDims | null)[] | undefined;
    };

/** @param inputBytes bytes of a row, or null when rows differ */
export function packRows(source: RowSource, inputBytes: number | null): PackedRows {
  const { rows } = source;
  if (inputBytes !== null) {
    const lent = source.lend?.() ?? null;
    if (lent !== null) return { rows, bytes: lent, isLent: true, lengths: inputBytes };
    const bytes = Buffer.allocUnsafeSlow(rows * inputBytes);
    for (let i = 0; i < rows; i++) source.copyRow(i, bytes, i * inputBytes, 0, inputBytes);
    return { rows, bytes: bytes.buffer, isLent: false, lengths: inputBytes };
  }
  const payloads = Array.from({ length: rows }, (_, i) => source.payload(i));
  const { bytes, lengths } = join(payloads);
  return { rows, bytes: bytes.buffer, isLent: false, lengths: Uint32Array.from(lengths) };
}

export function unpackRows({ rows, bytes, lengths }: PackedRows): RowSource {
  const all = Buffer.from(bytes);
  if (typeof lengths === 'number')
    return {
      rows,
      ...readerOf(
        all,
        (i) => i * lengths,
        (i) => (i + 1) * lengths,
      ),
      packed: bytes,
    };
  const ends = cumulate(lengths);
  return {
    rows,
    ...readerOf(
      all,
      (i) => (i === 0 ? 0 : (ends[i - 1] as number)),
      (i) => ends[i] as number,
    ),
  };
}

function readerOf(
  all: Buffer,
  begin: (i: number) => number,
  end: (i: number) => number,
): Pick<RowSource, 'payload' | 'copyRow'> {
  return {
    payload: (i) => all.subarray(begin(i), end(i)),
    copyRow: (i, target, at, from, length) => void all.copy(target, at, begin(i) + from, begin(i) + from + length),
  };
}

export function packReplies(replies: Replies): { readonly packed: PackedReplies; readonly transfer: ArrayBuffer[] } {
  if (replies.kind === 'uniform') {
    const { rowBytes, stride, dims } = replies;
    const bytes = wholeBuffer(replies.bytes);
    // Bytes that runs share (a dummy's reply) must stay here; a copy of them is small.
    const owned = stride === 0 ? bytes.slice() : bytes;
    const packed = { kind: 'uniform', bytes: owned, rowBytes, stride } as const;
    return { packed: dims === undefined ? packed : { ...packed, dims }, transfer: [owned.buffer] };
  }
  const rows = replies.rows.map((row) => (row instanceof Error ? null : row));
  const errors = replies.rows.flatMap((row) => (row instanceof Error ? textOfThrown(row) : []));
  const { bytes, lengths } = join(rows.map((row) => row ?? Buffer.alloc(0)));
  const failed = (i: number): number => (replies.rows[i] instanceof SharedRunError ? -2 : -1);
  const marked = Int32Array.from(rows, (row, i) => (row === null ? failed(i) : (lengths[i] as number)));
  const { dims } = replies;
  return { packed: { kind: 'rows', bytes, lengths: marked, errors, dims }, transfer: [bytes.buffer, marked.buffer] };
}

export function unpackReplies(packed: PackedReplies): Replies {
  if (packed.kind === 'uniform') return packed;
  const errors = packed.errors.values();
  let at = 0;
  const rows = Array.from(packed.lengths, (length) => {
    if (length < 0) {
      const error = new Error(errors.next().value ?? 'failed');
      return length === -2 ? new SharedRunError(error) : error;
    }
    at += length;
    return packed.bytes.subarray(at - length, at);
  });
  return packed.dims === undefined ? { kind: 'rows', rows } : { kind: 'rows', rows, dims: packed.dims };
}

function join(parts: readonly Uint8Array[]): { bytes: Buffer<ArrayBuffer>; lengths: number[] } {
  const lengths = parts.map(({ length }) => length);
  const bytes = Buffer.allocUnsafeSlow(lengths.reduce((sum, length) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return { bytes, lengths };
}

function cumulate(lengths: Uint32Array): number[] {
  let end = 0;
  return Array.from(lengths, (length) => {
    end += length;
    return end;
  });
}

/** The bytes in a buffer of their own: transferring a slice would take away the bytes around it. */
function wholeBuffer(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer } = bytes;
  const isWhole = buffer instanceof ArrayBuffer && bytes.byteOffset === 0 && bytes.byteLength === buffer.byteLength;
  return isWhole ? new Uint8Array(buffer) : new Uint8Array(bytes);
}
