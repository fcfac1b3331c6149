// A client of calls on frames that shares no codec with the server: protobufjs reads and writes its messages.

import { decodeByOthers, encodeByOthers, type Plain } from './protos.js';
import { RawClient } from './raw-client.js';
import { until } from './until.js';

/** A reply as it is told apart: `call` as text, texts that are not there empty. */
export interface CallReply {
  readonly call: string;
  readonly code: number;
  readonly reason: string;
  readonly message: string;
  readonly retry_after_ms: number;
  readonly infer?: {
    readonly model_name: string;
    readonly model_version: string;
    readonly id: string;
    readonly outputs: readonly {
      readonly name: string;
      readonly datatype: string;
      readonly shape: readonly string[];
    }[];
    readonly raw_output_contents: readonly Buffer[];
  };
  readonly model_metadata?: Plain;
  readonly server_metadata?: Plain;
}

export class CallClient {
  readonly raw: RawClient;
  #calls = 0;

  private constructor(raw: RawClient) {
    this.raw = raw;
  }

  static async connect(port: number): Promise<CallClient> {
    return new CallClient(await RawClient.connect(port));
  }

  /** All that have come, in their order. */
  get replies(): readonly CallReply[] {
    return this.raw.replies.map((bytes) => decodeByOthers('mltcp.v1.Reply', bytes) as unknown as CallReply);
  }

  /** Sends a call, and returns its number. */
  send(body: Plain, call = ++this.#calls): number {
    this.raw.send(encodeByOthers('mltcp.v1.Call', { call, ...body }));
    return call;
  }

  /** Sends texts to a model whose payloads are its own matter. */
  sendTexts(model: string, texts: readonly string[], more: Plain = {}): number {
    return this.send({ infer: textsRequest(model, texts), ...more });
  }

  /** The reply to this call, as soon as it has come. */
  async reply(call: number): Promise<CallReply> {
    const own = (): CallReply | undefined => this.replies.find((reply) => reply.call === String(call));
    await until(`the reply to call ${call}`, () => own() !== undefined, { intervalMs: 2 });
    return own() as CallReply;
  }

  async ask(body: Plain): Promise<CallReply> {
    return this.reply(this.send(body));
  }
}

export function textsRequest(model: string, texts: readonly string[]): Plain {
  const elements = texts.map((text) => {
    const bytes = Buffer.from(text);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    return Buffer.concat([length, bytes]);
  });
  return {
    model_name: model,
    inputs: [{ name: 'payload', datatype: 'BYTES', shape: [texts.length] }],
    raw_input_contents: [Buffer.concat(elements)],
  };
}

/** The texts of an answer to `textsRequest`. */
export function textsOf({ infer }: CallReply): readonly string[] {
  const bytes = infer?.raw_output_contents[0] ?? Buffer.alloc(0);
  const texts: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at);
    texts.push(bytes.toString('utf8', at + 4, at + 4 + length));
    at += 4 + length;
  }
  return texts;
}

/** A request of numbers of float32 to the input of this name. */
export function floatsRequest(model: string, name: string, shape: readonly number[], values: Float32Array): Plain {
  return {
    model_name: model,
    inputs: [{ name, datatype: 'FP32', shape }],
    raw_input_contents: [Buffer.from(values.buffer, values.byteOffset, values.byteLength)],
  };
}
