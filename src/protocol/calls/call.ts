// Reads a Call: a number, what it is about, and for an inference the same ModelInferRequest as over gRPC.
//
// A call whose envelope is sound has a number, and so can be answered whatever is wrong inside of it: it is read as
// `invalid`, with the reason. Only where the envelope itself is broken is there nobody to answer.

import { InvalidMessage } from '../invalid-message.js';
import type { InferCall } from '../oip/infer.js';
import { modelMetadataRequest, serverMetadataRequest } from '../oip/messages.js';
import { InferRequestDecoder } from '../oip/request.js';
import { decode } from '../protobuf/messages.js';
import { WireReader, wireTypes } from '../protobuf/reader.js';
import { cancel, ping } from './messages.js';

/** A number that a client gave, to know the reply by; a bigint from 2^53 on. */
export type CallNumber = number | bigint;

interface Envelope {
  readonly call: CallNumber;
  /** Of the first call of a connection, where the server wants one; empty otherwise. */
  readonly secret: string;
}

export type Call = Envelope &
  (
    | { readonly kind: 'infer'; readonly infer: InferCall }
    /** To cancel is to say the number of the call that is no longer wanted. */
    | { readonly kind: 'cancel' | 'ping' | 'server-metadata' }
    | { readonly kind: 'model-metadata'; readonly model: string; readonly version: string }
    /** `model`: what it named, as far as that could be read. */
    | { readonly kind: 'invalid'; readonly model: string; readonly error: InvalidMessage }
  );

const infer = 4;
const modelMetadata = 7;
/** Bodies in which there is nothing, by field. */
const bare = {
  5: { kind: 'cancel', type: cancel },
  6: { kind: 'ping', type: ping },
  8: { kind: 'server-metadata', type: serverMetadataRequest },
} as const;

export class CallDecoder {
  readonly #reader = new WireReader();
  readonly #request = new InferRequestDecoder();

  /** Reads the message `source[start, end)`. The result refers to `source`. Throws InvalidMessage, and nothing else. */
  decode(source: Buffer, start: number, end: number): Call {
    const reader = this.#reader;
    let call: CallNumber = 0;
    let timeoutUs = 0;
    let secret = '';
    let body = 0;
    let bodyStart = 0;
    let bodyEnd = 0;
    reader.open(source, start, end);
    while (reader.next()) {
      const { field } = reader;
      if (field === 1) {
        reader.expect(wireTypes.varint);
        call = reader.integer(false);
      } else if (field === 2) {
        reader.expect(wireTypes.varint);
        reader.varint64();
        timeoutUs = reader.low >>> 0;
      } else if (field === 3) secret = reader.text();
      else if (field >= infer && field <= 8) {
        if (body !== 0) reader.fail('a call has more than one body');
        body = field;
        const length = reader.length();
        bodyStart = reader.at;
        bodyEnd = reader.at += length;
      } else reader.skip();
    }
    if (call === 0) throw new InvalidMessage('a call has no number: clients count from 1');
    try {
      return this.#read(body, { call, secret }, timeoutUs, source, bodyStart, bodyEnd);
    } catch (error) {
      if (!(error instanceof InvalidMessage)) throw error;
      return { call, secret, kind: 'invalid', model: body === infer ? this.#request.model : '', error };
    }
  }

  #read(body: number, { call, secret }: Envelope, timeoutUs: number, source: Buffer, start: number, end: number): Call {
    if (body === infer) {
      const request = this.#request.decode(source, start, end);
      if (timeoutUs > 0 && (request.timeoutUs === 0 || timeoutUs < request.timeoutUs)) request.timeoutUs = timeoutUs;
      return { call, secret, kind: 'infer', infer: request };
    }
    if (body === 5 || body === 6 || body === 8) {
      const { kind, type } = bare[body];
      decode(type, source, start, end);
      return { call, secret, kind };
    }
    if (body !== modelMetadata) throw new InvalidMessage('a call has no body that this server knows');
    const { name, version } = decode(modelMetadataRequest, source, start, end);
    return { call, secret, kind: 'model-metadata', model: name, version };
  }
}
