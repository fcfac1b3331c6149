// Writes the answer of an inference in JSON, and behind it the bytes of the outputs that are wanted in binary form.

import { isUtf8 } from 'node:buffer';
import { typedView } from '../../../tensors/dtypes.js';
import { lengthBytes } from '../../../tensors/strings.js';
import { InvalidMessage, quoted } from '../../invalid-message.js';
import { datatypes } from '../datatypes.js';
import type { InferAnswer, InferCall, InferTensor, ParameterValue } from '../infer.js';
import { JsonWriter } from './writer.js';

export interface JsonAnswer {
  /** The JSON, then the binary outputs in their order. */
  readonly body: Buffer;
  /** How many bytes of it are JSON, for Inference-Header-Content-Length; null: all are, and no header is sent. */
  readonly jsonBytes: number | null;
}

/**
 * Throws InvalidMessage when an output is wanted in JSON and JSON cannot say it.
 * @param call what was asked for
 */
export function encodeJsonAnswer(answer: InferAnswer, call: Pick<InferCall, 'outputs' | 'isBinary'>): JsonAnswer {
  const writer = new JsonWriter();
  const binary: Uint8Array[] = [];
  writer.raw(`{"model_name":${JSON.stringify(answer.model)},"model_version":${JSON.stringify(answer.version)}`);
  if (answer.id !== '') writer.raw(`,"id":${JSON.stringify(answer.id)}`);
  if (answer.parameters !== undefined) writeParameters(writer, answer.parameters);
  writer.raw(',"outputs":[');
  for (const [i, output] of answer.outputs.entries()) {
    const { spec, source, start, end } = output;
    const head = `{"name":${JSON.stringify(spec.name)},"datatype":"${spec.datatype}","shape":[${spec.shape}],`;
    writer.raw(i === 0 ? head : `,${head}`);
    if (isBinaryOutput(output, call)) {
      writer.raw(`"parameters":{"binary_data_size":${end - start}}}`);
      binary.push(source.subarray(start, end));
    } else {
      writer.raw('"data":[');
      writeData(writer, output);
      writer.raw(']}');
    }
  }
  writer.raw(']}');
  const json = writer.finish();
  return binary.length === 0
    ? { body: json, jsonBytes: null }
    : { body: Buffer.concat([json, ...binary]), jsonBytes: json.length };
}

/** Whether an answer has this output in binary form. */
export const isBinaryOutput = ({ spec }: InferTensor, { outputs, isBinary }: Pick<InferCall, 'outputs' | 'isBinary'>) =>
  outputs.find(({ name }) => name === spec.name)?.isBinary ?? isBinary;

/** Throws InvalidMessage as `encodeJsonAnswer` would, in a small part of its time. */
export function checkJsonAnswer(answer: InferAnswer, call: Pick<InferCall, 'outputs' | 'isBinary'>): void {
  for (const output of answer.outputs) if (!isBinaryOutput(output, call)) checkSpeakable(output);
}

function checkSpeakable(output: InferTensor): void {
  const { spec, source, start, end } = output;
  const { dtype, contents } = datatypes[spec.datatype];
  if (dtype === null || contents === 0) throw unspeakable(output, `is ${spec.datatype}`);
  if (dtype === 'string') eachText(output, () => {});
  else if (dtype === 'float32' || dtype === 'float64') {
    const values = typedView(dtype, new Uint8Array(source.subarray(start, end)).buffer, spec.elements) as Float64Array;
    for (let i = 0; i < values.length; i++) checkFinite(output, values[i] as number);
  }
}

function checkFinite(output: InferTensor, value: number): void {
  if (!Number.isFinite(value)) throw unspeakable(output, `has ${value}`);
}

function writeParameters(writer: JsonWriter, parameters: Readonly<Record<string, ParameterValue>>): void {
  const members = Object.entries(parameters).map(
    ([name, value]) => `${JSON.stringify(name)}:${typeof value === 'bigint' ? value : JSON.stringify(value)}`,
  );
  writer.raw(`,"parameters":{${members.join(',')}}`);
}

const comma = 0x2c;

function writeData(writer: JsonWriter, output: InferTensor): void {
  const { spec, source, start, end } = output;
  const { dtype, contents } = datatypes[spec.datatype];
  if (dtype === null || contents === 0) throw unspeakable(output, `is ${spec.datatype}`);
  if (dtype === 'string') {
    writeTexts(writer, output);
    return;
  }
  // A copy: views of numbers must begin where their size divides.
  const bytes = new Uint8Array(source.subarray(start, end));
  const values = typedView(dtype, bytes.buffer, spec.elements);
  if (dtype === 'float32' || dtype === 'float64') {
    for (let i = 0; i < values.length; i++) {
      const value = values[i] as number;
      checkFinite(output, value);
      if (i > 0) writer.byte(comma);
      if (dtype === 'float32') writer.float32(value);
      else writer.float64(value);
    }
  } else if (dtype === 'bool') writer.raw(Array.from(bytes, (value) => value !== 0).join(','));
  else writer.raw(values.join(','));
}

function writeTexts(writer: JsonWriter, output: InferTensor): void {
  eachText(output, (text, i) => {
    if (i > 0) writer.byte(comma);
    writer.text(text.toString());
  });
}

function eachText(output: InferTensor, take: (text: Buffer, index: number) => void): void {
  const { spec, source, start } = output;
  const bytes = Buffer.from(source.buffer, source.byteOffset, source.byteLength);
  let at = start;
  for (let i = 0; i < spec.elements; i++) {
    const from = at + lengthBytes;
    at = from + bytes.readUInt32LE(at);
    const text = bytes.subarray(from, at);
    if (!isUtf8(text)) throw unspeakable(output, 'has a string that is not UTF-8');
    take(text, i);
  }
}

const unspeakable = ({ spec }: InferTensor, what: string): InvalidMessage =>
  new InvalidMessage(
    `output ${quoted(spec.name)} ${what}, which JSON cannot say: ask for it in binary form (parameter binary_data of the output, or binary_data_output)`,
  );
