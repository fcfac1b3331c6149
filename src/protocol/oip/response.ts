// Writes a ModelInferResponse into a buffer of exactly its size: `measure`, then `write`, so that the protocol can put
// its own bytes before it. What answers repeat (the name of the model, names and shapes of outputs) is kept as bytes.

import { varintBytes, WireWriter, writeVarint } from '../protobuf/writer.js';
import type { InferAnswer, InferTensor, ParameterValue, TensorSpec } from './infer.js';

/** Below this many bytes a loop is quicker than the call into native code, and than the view that this needs. */
const fewBytes = 48;
const maxRemembered = 16;
const nothing: Buffer = Buffer.alloc(0);

interface Head {
  readonly spec: TensorSpec;
  readonly bytes: Buffer;
}

export class InferResponseEncoder {
  #answer: InferAnswer | null = null;
  #model = '';
  #version = '';
  /** Fields 1 and 2. */
  #names = nothing;
  #idBytes = 0;
  /** Field 4. */
  #parameters = nothing;
  /** Field 5 of each output of the last answer. */
  readonly #heads: Head[] = [];

  /** How many bytes the next `write` takes: that of this answer. */
  measure(answer: InferAnswer): number {
    const { model, version, id, outputs, parameters } = answer;
    this.#answer = answer;
    if (model !== this.#model || version !== this.#version) this.#setNames(model, version);
    this.#idBytes = utf8Bytes(id);
    this.#parameters = parameters === undefined ? nothing : encodeParameters(parameters);
    let size = this.#names.length + this.#parameters.length;
    if (this.#idBytes > 0) size += 1 + varintBytes(this.#idBytes) + this.#idBytes;
    for (let i = 0; i < outputs.length; i++) {
      const { spec, start, end } = outputs[i] as InferTensor;
      size += this.#headOf(spec, i).length + 1 + varintBytes(end - start) + end - start;
    }
    return size;
  }

  /** Writes the answer that was measured last at `at`, and returns the offset after it. */
  write(out: Buffer, at: number): number {
    const { id, outputs } = this.#answer as InferAnswer;
    at = put(out, at, this.#names, 0, this.#names.length);
    if (this.#idBytes > 0) {
      out[at++] = 0x1a;
      at = writeVarint(out, at, this.#idBytes);
      at = writeText(out, at, id, this.#idBytes);
    }
    if (this.#parameters !== nothing) at = put(out, at, this.#parameters, 0, this.#parameters.length);
    for (let i = 0; i < outputs.length; i++) {
      const bytes = this.#headOf((outputs[i] as InferTensor).spec, i);
      at = put(out, at, bytes, 0, bytes.length);
    }
    for (let i = 0; i < outputs.length; i++) {
      const { source, start, end } = outputs[i] as InferTensor;
      out[at++] = 0x32;
      at = writeVarint(out, at, end - start);
      at = put(out, at, source, start, end);
    }
    return at;
  }

  encode(answer: InferAnswer): Buffer {
    const bytes = Buffer.allocUnsafe(this.measure(answer));
    this.write(bytes, 0);
    return bytes;
  }

  #setNames(model: string, version: string): void {
    const writer = new WireWriter();
    for (const [i, text] of [model, version].entries()) {
      if (text === '') continue;
      writer.tag(i + 1, 2);
      writer.text(text);
    }
    this.#names = writer.finish();
    this.#model = model;
    this.#version = version;
  }

  #headOf(spec: TensorSpec, index: number): Buffer {
    const known = this.#heads[index];
    if (known?.spec === spec) return known.bytes;
    const bytes = encodeHead(spec);
    if (index < maxRemembered) this.#heads[index] = { spec, bytes };
    return bytes;
  }
}

function encodeHead({ name, datatype, shape }: TensorSpec): Buffer {
  const head = new WireWriter();
  if (name !== '') {
    head.tag(1, 2);
    head.text(name);
  }
  head.tag(2, 2);
  head.text(datatype);
  if (shape.length > 0) {
    head.tag(3, 2);
    head.varint(shape.reduce((sum, size) => sum + varintBytes(size), 0));
    for (const size of shape) head.varint(size);
  }
  const field = new WireWriter();
  field.tag(5, 2);
  field.bytes(head.finish());
  return field.finish();
}

function encodeParameters(parameters: Readonly<Record<string, ParameterValue>>): Buffer {
  const fields = new WireWriter();
  for (const [name, value] of Object.entries(parameters)) {
    const entry = new WireWriter();
    entry.tag(1, 2);
    entry.text(name);
    entry.tag(2, 2);
    entry.bytes(encodeParameter(value));
    fields.tag(4, 2);
    fields.bytes(entry.finish());
  }
  return fields.finish();
}

function encodeParameter(value: ParameterValue): Buffer {
  const writer = new WireWriter();
  if (typeof value === 'boolean') {
    writer.tag(1, 0);
    writer.varint(value ? 1 : 0);
  } else if (typeof value === 'string') {
    writer.tag(3, 2);
    writer.text(value);
  } else if (typeof value === 'bigint' && value >= 2n ** 63n) {
    writer.tag(5, 0);
    writer.varint(value);
  } else if (typeof value === 'bigint' || Number.isSafeInteger(value)) {
    writer.tag(2, 0);
    writer.varint(value);
  } else {
    writer.tag(4, 1);
    writer.double(value);
  }
  return writer.finish();
}

function utf8Bytes(text: string): number {
  const { length } = text;
  if (length > fewBytes) return Buffer.byteLength(text);
  for (let i = 0; i < length; i++) if (text.charCodeAt(i) >= 0x80) return Buffer.byteLength(text);
  return length;
}

function writeText(out: Buffer, at: number, text: string, bytes: number): number {
  // As many bytes as characters: all of them are ASCII.
  if (bytes !== text.length || bytes > fewBytes) return at + out.write(text, at, bytes);
  for (let i = 0; i < bytes; i++) out[at + i] = text.charCodeAt(i);
  return at + bytes;
}

function put(out: Buffer, at: number, source: Uint8Array, start: number, end: number): number {
  const length = end - start;
  if (length <= fewBytes) for (let i = 0; i < length; i++) out[at + i] = source[start + i] as number;
  else out.set(start === 0 && end === source.length ? source : source.subarray(start, end), at);
  return at + length;
}
