// How the primary tells a worker of a connection whose handle comes along: a few bytes in the stream of Node's own
// messages, which the worker takes out before Node reads that stream.
//
//   ┌ mark: 4 bytes ┬ length of what follows: 1 ┬ listener: 2 ┬ decision: 1 ┬ client's address ┐
//
// Node puts before each of its messages the length in 4 bytes (`serialization: 'advanced'`); the mark is a length that
// none can have. The kernel ends a read with the bytes that a handle was sent with, so a read brings one handle at the
// most, and it belongs to the last message that begins in it.

import type { Arrival, Decision } from './ipc/messages.js';

/** A connection that is sent to try the way; the worker answers it. */
export const trialListener = 0xff_ff;

const verdicts: readonly Decision[] = ['granted', 'refusedByLimit', 'refusedByAddressLimit', 'refusedByRate'];
const mark = 0xff_ff_ff_fe;
const headerBytes = 5;
const lengthBytes = 4;

/** As latin1 text. */
export function arrivalFrame({ listener, decision, address }: Arrival): string {
  const body = String.fromCharCode(listener >> 8, listener & 0xff, verdicts.indexOf(decision)) + address;
  return `\xff\xff\xff\xfe${String.fromCharCode(body.length)}${body}`;
}

/** Where the parts of a channel's stream go. */
export interface FrameSink<Handle> {
  /** Bytes that are Node's own, and the handle that came with the last message that begins in them. */
  onOther(bytes: Buffer, handle: Handle | null): void;
  /** Null: the handle was lost on its way, since this process had no descriptor left for it. */
  onArrival(arrival: Arrival, handle: Handle | null): void;
}

/** One that begins in the bytes just read; one of Node's may end beyond them. */
interface Message {
  readonly begin: number;
  readonly end: number;
  /** Null: it is Node's. */
  readonly arrival: Arrival | null;
}

export class FrameSplitter<Handle> {
  readonly #sink: FrameSink<Handle>;
  /** What of Node's last message is still to come. */
  #missingBytes = 0;
  /** The beginning of a message that cannot be told yet, and what came with it. */
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

  /** @param first came with the first of the messages, `last` with the last of them */
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

/** Null when there is not enough of it to be told whose it is, or of one of ours to be read. */
function messageAt(bytes: Buffer, begin: number): Message | null {
  if (begin + lengthBytes > bytes.length) return null;
  const length = bytes.readUInt32BE(begin);
  if (length !== mark) return { begin, end: begin + lengthBytes + length, arrival: null };
  const body = begin + headerBytes;
  const end = body + (bytes[body - 1] ?? Number.POSITIVE_INFINITY);
  if (end > bytes.length) return null;
  const listener = bytes.readUInt16BE(body);
  const decision = verdicts[bytes[body + 2] ?? 0] ?? 'granted';
  return { begin, end, arrival: { listener, decision, address: bytes.toString('latin1', body + 3, end) } };
}
