// How the primary announces a connection to a worker, along with its handle: by a few bytes in the stream of Node's own
// messages, which the worker takes out before Node reads that stream.
//
//   ┌ mark: 4 bytes ┬ length of what follows: 1 ┬ listener: 2 ┬ decision: 1 ┬ client's address ┐
//
// Node starts each of its messages with a length in 4 bytes (`serialization: 'advanced'`); the mark is a length that no
// message can have. The kernel ends a read with the bytes that a handle was sent with, so a read brings at most one
// handle, and the handle belongs to the last message that begins in that read.

import type { Arrival, Decision } from './messages.js';

/** The listener of a connection that is sent to test this way; the worker answers it. */
export const trialListener = 0xff_ff;

const decisions: readonly Decision[] = ['granted', 'refusedByLimit', 'refusedByAddressLimit', 'refusedByRate'];
const mark = 0xff_ff_ff_fe;
const headerBytes = 5;
const lengthBytes = 4;

/** The frame of an arrival, as latin1 text. */
export function arrivalFrame({ listener, decision, address }: Arrival): string {
  const body = String.fromCharCode(listener >> 8, listener & 0xff, decisions.indexOf(decision)) + address;
  return `\xff\xff\xff\xfe${String.fromCharCode(body.length)}${body}`;
}

/** Receives the parts of a channel's stream. */
export interface FrameSink<Handle> {
  /** Bytes that are Node's own, and the handle that came with the last message that begins in them. */
  onOther(bytes: Buffer, handle: Handle | null): void;
  /** A null handle was lost on its way, because this process had no descriptor left for it. */
  onArrival(arrival: Arrival, handle: Handle | null): void;
}

/** A message that begins in the bytes just read; one of Node's messages may end beyond them. */
interface Message {
  readonly begin: number;
  readonly end: number;
  /** Null: the message is Node's. */
  readonly arrival: Arrival | null;
}

export class FrameSplitter<Handle> {
  readonly #sink: FrameSink<Handle>;
  /** Bytes of Node's last message that are still to come. */
  #missingBytes = 0;
  /** The beginning of a message that cannot be read yet, and the handle that came with it. */
  #held: Buffer | null = null;
  #heldHandle: Handle | null = null;

  constructor(sink: FrameSink<Handle>) {
    this.#sink = sink;
  }

  /** @param handle that came with the last message that begins in `chunk` */
  read(chunk: Buffer, handle: Handle | null): void {
    const bytes = this.#held === null ? chunk : Buffer.concat([this.#held, chunk]);
    const heldHandle = this.#heldHandle;
    const messages: Message[] = [];
    let at = Math.min(this.#missingBytes, bytes.length);
    this.#missingBytes -= at;
    for (let next = messageAt(bytes, at); next !== null; next = messageAt(bytes, at)) {
      messages.push(next);
      at = Math.min(next.end, bytes.length);
      this.#missingBytes = next.end - at;
    }
    const isCut = at < bytes.length;
    const isNothingWhole = messages.length === 0;
    this.#held = isCut ? bytes.subarray(at) : null;
    this.#heldHandle = isCut ? ((isNothingWhole ? heldHandle : null) ?? handle) : null;
    this.#pass(bytes.subarray(0, at), messages, isNothingWhole ? null : heldHandle, isCut ? null : handle);
  }

  /**
   * @param first the handle that came with the first of the messages
   * @param last the handle that came with the last of them
   */
  #pass(bytes: Buffer, messages: readonly Message[], first: Handle | null, last: Handle | null): void {
    let from = 0;
    const passOther = (end: number, handle: Handle | null): void => {
      if (end > from) this.#sink.onOther(bytes.subarray(from, end), handle);
      from = end;
    };
    messages.forEach(({ begin, end, arrival }, i) => {
      const handle = (i === 0 ? first : null) ?? (i === messages.length - 1 ? last : null);
      if (arrival !== null) {
        passOther(begin, null);
        from = end;
        this.#sink.onArrival(arrival, handle);
      } else if (handle !== null) passOther(Math.min(end, bytes.length), handle);
    });
    passOther(bytes.length, messages.length === 0 ? last : null);
  }
}

/** Null when the bytes do not suffice to tell whose message it is, or to read one of ours. */
function messageAt(bytes: Buffer, begin: number): Message | null {
  if (begin + lengthBytes > bytes.length) return null;
  const length = bytes.readUInt32BE(begin);
  if (length !== mark) return { begin, end: begin + lengthBytes + length, arrival: null };
  const body = begin + headerBytes;
  const end = body + (bytes[body - 1] ?? Number.POSITIVE_INFINITY);
  if (end > bytes.length) return null;
  const listener = bytes.readUInt16BE(body);
  const decision = decisions[bytes[body + 2] ?? 0] ?? 'granted';
  return { begin, end, arrival: { listener, decision, address: bytes.toString('latin1', body + 3, end) } };
}
