// Writes a Reply: the number of its call, and either what was asked for, or why not.

import type { InferAnswer } from '../oip/infer.js';
import { InferResponseEncoder } from '../oip/response.js';
import { encode } from '../protobuf/messages.js';
import { varintBytes, WireWriter, writeVarint } from '../protobuf/writer.js';
import type { CallNumber } from './call.js';
import { reply } from './messages.js';

/** Why there is no answer. */
export interface Failure {
  /** Of google.rpc.Code. */
  readonly code: number;
  /** Of errors.ts: a name that programs may act on. */
  readonly reason: string;
  /** For people: what was expected, and what came. */
  readonly message: string;
  /** 0: another try is of no use, or nobody knows when it will be. */
  readonly retryAfterMs: number;
}

/** The reply to a call that failed; to call 0, what the server says of the connection. */
export function encodeFailure(call: CallNumber, { code, reason, message, retryAfterMs }: Failure): Buffer {
  return encode(reply, { call, code, reason, message, retry_after_ms: retryAfterMs });
}

/** A number as a varint; a bigint takes 8 to 10 bytes. */
function numberOf(call: CallNumber): Buffer {
  const writer = new WireWriter();
  writer.varint(call);
  return writer.finish();
}

/** Writes the replies of inferences into buffers of exactly their size: `measure`, then `write`. */
export class ReplyEncoder {
  readonly #response = new InferResponseEncoder();
  #call: CallNumber = 0;
  #bodyBytes = 0;

  /** How many bytes the next `write` takes: that of this reply. */
  measure(call: CallNumber, answer: InferAnswer): number {
    this.#call = call;
    this.#bodyBytes = this.#response.measure(answer);
    const numberBytes = typeof call === 'number' ? varintBytes(call) : numberOf(call).length;
    return 1 + numberBytes + 1 + varintBytes(this.#bodyBytes) + this.#bodyBytes;
  }

  /** Writes the reply that was measured last at `at`, and returns the offset after it. */
  write(out: Buffer, at: number): number {
    const call = this.#call;
    out[at++] = 0x08;
    if (typeof call === 'number') at = writeVarint(out, at, call);
    else at += numberOf(call).copy(out, at);
    out[at++] = 0x32;
    at = writeVarint(out, at, this.#bodyBytes);
    return this.#response.write(out, at);
  }

  encode(call: CallNumber, answer: InferAnswer): Buffer {
    const bytes = Buffer.allocUnsafe(this.measure(call, answer));
    this.write(bytes, 0);
    return bytes;
  }
}
