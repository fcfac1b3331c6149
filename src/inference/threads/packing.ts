// Batches and replies as they cross to a thread and back: one block of bytes each, transferred, not copied.

import { textOfThrown } from '../../thrown.js';
import type { Replies, RowSource } from '../batch.js';
import { SharedRunError } from '../model.js';

export interface PackedRows {
  readonly rows: number;
  readonly bytes: ArrayBuffer;
  /** Length of each row, or null when all have the same. */
  readonly lengths: Uint32Array<ArrayBuffer> | null;
}

export type PackedReplies =
  | { readonly kind: 'uniform'; readonly bytes: Uint8Array; readonly rowBytes: number; readonly stride: number }
  | {
      readonly kind: 'rows';
      readonly bytes: Uint8Array;
      /** Length of each reply; -1: that row failed; -2: it failed in a run that it shared. */
      readonly lengths: Int32Array<ArrayBuffer>;
      readonly errors: readonly string[];
    };

/** @param inputBytes bytes of a row, or null when rows differ */
export function packRows(source: RowSource, inputBytes: number | null): PackedRows {
  const { rows } = source;
  if (inputBytes !== null) {
    const bytes = Buffer.allocUnsafeSlow(rows * inputBytes);
    if (source.packed !== undefined) bytes.set(new Uint8Array(source.packed, 0, bytes.length));
    else for (let i = 0; i < rows; i++) source.copyRow(i, bytes, i * inputBytes, 0, inputBytes);
    return { rows, bytes: bytes.buffer, lengths: null };
  }
  const payloads = Array.from({ length: rows }, (_, i) => source.payload(i));
  const { bytes, lengths } = join(payloads);
  return { rows, bytes: bytes.buffer, lengths: Uint32Array.from(lengths) };
}

export function unpackRows({ rows, bytes, lengths }: PackedRows): RowSource {
  const all = Buffer.from(bytes);
  const ends = lengths === null ? null : cumulate(lengths);
  const size = lengths === null ? bytes.byteLength / rows : 0;
  const begin = (i: number): number => (ends === null ? i * size : i === 0 ? 0 : (ends[i - 1] as number));
  return {
    rows,
    payload: (i) => all.subarray(begin(i), ends === null ? (i + 1) * size : ends[i]),
    copyRow: (i, target, at, from, length) => void all.copy(target, at, begin(i) + from, begin(i) + from + length),
    ...(lengths === null ? { packed: bytes } : {}),
  };
}

export function packReplies(replies: Replies): { readonly packed: PackedReplies; readonly transfer: ArrayBuffer[] } {
  if (replies.kind === 'uniform') {
    const { rowBytes, stride } = replies;
    const bytes = wholeBuffer(replies.bytes);
    // Bytes that runs share (a dummy's reply) must stay here; a copy of them is small.
    const owned = stride === 0 ? bytes.slice() : bytes;
    return { packed: { kind: 'uniform', bytes: owned, rowBytes, stride }, transfer: [owned.buffer] };
  }
  const rows = replies.rows.map((row) => (row instanceof Error ? null : row));
  const errors = replies.rows.flatMap((row) => (row instanceof Error ? textOfThrown(row) : []));
  const { bytes, lengths } = join(rows.map((row) => row ?? Buffer.alloc(0)));
  const failed = (i: number): number => (replies.rows[i] instanceof SharedRunError ? -2 : -1);
  const marked = Int32Array.from(rows, (row, i) => (row === null ? failed(i) : (lengths[i] as number)));
  return { packed: { kind: 'rows', bytes, lengths: marked, errors }, transfer: [bytes.buffer, marked.buffer] };
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
  return { kind: 'rows', rows };
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
