// Reads a request of inference in JSON, as the REST form of the Open Inference Protocol has it, with Triton's extension
// for binary tensors: behind the JSON lie the bytes of those inputs whose parameter `binary_data_size` says how many.
//
//   {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 1]}]}
//   {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}]} + 8 bytes

import { InvalidMessage, quoted } from '../../invalid-message.js';
import {
  checkOutputParameter,
  flag,
  InferCallDraft,
  isSharedMemory,
  setParameter,
  settleSequence,
  sharedInput,
} from '../draft.js';
import {
  checkCount,
  checkData,
  checkNames,
  type InferCall,
  type InferTensor,
  inputNamed,
  inputSpec,
  maxRank,
  type ParameterValue,
  type TensorSpec,
  type WantedOutput,
} from '../infer.js';
import { readData } from './data.js';
import { JsonReader } from './reader.js';

/** In HTTP, the path says the model. */
export interface Asked {
  readonly model: string;
  readonly version: string;
}

/**
 * How many bytes of a body are JSON, by its header Inference-Header-Content-Length. Throws InvalidMessage.
 * @param header undefined: there is none, and all is JSON
 */
export function jsonBytesOf(header: string | undefined, bodyBytes: number): number {
  if (header === undefined) return bodyBytes;
  const bytes = /^\d{1,15}$/.test(header) ? Number(header) : -1;
  if (bytes < 0 || bytes > bodyBytes)
    throw new InvalidMessage(
      `Inference-Header-Content-Length should be a number up to ${bodyBytes}, the bytes of the body, and is ${quoted(header)}`,
    );
  return bytes;
}

/**
 * Reads a body. The result refers to it. Throws InvalidMessage, and nothing else.
 * @param jsonBytes how many bytes of it are JSON; the others are binary tensors
 */
export function decodeJsonRequest(body: Buffer, jsonBytes: number, { model, version }: Asked): InferCall {
  const call = new InferCallDraft(false);
  call.model = model;
  call.version = version;
  return new RequestReader(body, jsonBytes, call).read();
}

class RequestReader {
  readonly #body: Buffer;
  readonly #reader: JsonReader;
  readonly #call: InferCallDraft;
  /** Where the next binary tensor begins. */
  #binaryAt: number;
  readonly #inputs: InferTensor[] = [];
  /** By name; null: as the request says for all. */
  readonly #outputs: { readonly name: string; readonly isBinary: boolean | null }[] = [];

  constructor(body: Buffer, jsonBytes: number, call: InferCallDraft) {
    this.#body = body;
    this.#reader = new JsonReader(body, 0, jsonBytes);
    this.#call = call;
    this.#binaryAt = jsonBytes;
  }

  read(): InferCall {
    const reader = this.#reader;
    const call = this.#call;
    let hasInputs = false;
    reader.object('the request', (name) => {
      switch (name) {
        case 'id':
          if (reader.takesNull()) return;
          call.id = this.#text('the id of the request');
          return;
        case 'parameters':
          this.#parameters('the parameters of the request', (parameter, value) => setParameter(call, parameter, value));
          return;
        case 'inputs':
          if (hasInputs) throw new InvalidMessage('the request has inputs twice');
          hasInputs = true;
          reader.list('inputs', (index) => {
            checkCount(index, 'inputs');
            this.#input(index);
          });
          return;
        case 'outputs':
          this.#outputs.length = 0;
          if (reader.takesNull()) return;
          reader.list('outputs', (index) => {
            checkCount(index, 'outputs');
            this.#output(index);
          });
          return;
        default:
          reader.skip('a member of the request');
      }
    });
    reader.finish();
    if (!hasInputs) throw new InvalidMessage('the request has no inputs');
    if (this.#binaryAt < this.#body.length)
      throw new InvalidMessage(
        `${this.#body.length - this.#binaryAt} bytes follow the data of all inputs: the binary_data_size of each must add up to what follows the JSON`,
      );
    settleSequence(call);
    checkNames(this.#inputs, ({ spec }) => spec.name, 'inputs');
    checkNames(this.#outputs, ({ name }) => name, 'outputs');
    call.inputs = this.#inputs;
    call.outputs = this.#outputs.map(
      ({ name, isBinary }): WantedOutput => ({ name, isBinary: isBinary ?? call.isBinary }),
    );
    return call;
  }

  #input(index: number): void {
    const reader = this.#reader;
    const what = `inputs[${index}]`;
    let name: string | undefined;
    let datatype: string | undefined;
    let shape: readonly number[] | undefined;
    let binaryBytes = -1;
    let isElsewhere = false;
    let dataAt = -1;
    let tensor: InferTensor | null = null;
    const once = (before: unknown, member: string): void => {
      if (before !== undefined && before !== -1) throw new InvalidMessage(`${what} has ${member} twice`);
    };
    reader.object(what, (member) => {
      switch (member) {
        case 'name':
          once(name, member);
          name = this.#text(`${what}.name`);
          return;
        case 'datatype':
          once(datatype, member);
          datatype = this.#text(`${what}.datatype`);
          return;
        case 'shape':
          once(shape, member);
          shape = this.#shape(`${what}.shape`);
          return;
        case 'parameters':
          this.#parameters(`${what}.parameters`, (parameter, value) => {
            if (isSharedMemory(parameter)) isElsewhere = true;
            else if (parameter === 'binary_data_size') binaryBytes = sizeOf(what, value);
          });
          return;
        case 'data':
          once(dataAt, member);
          if (reader.takesNull()) return;
          reader.peek();
          dataAt = reader.at;
          // Read at once where it is known what it is, as clients write it.
          if (name !== undefined && datatype !== undefined && shape !== undefined)
            tensor = readData(reader, inputSpec(name, datatype, shape));
          else reader.skip(`${what}.data`);
          return;
        default:
          reader.skip(`${what}.${quoted(member)}`);
      }
    });
    const missing = [name, datatype, shape].indexOf(undefined);
    if (missing >= 0) throw new InvalidMessage(`${what} has no ${['name', 'datatype', 'shape'][missing]}`);
    if (isElsewhere) throw sharedInput(name ?? '');
    const spec = (tensor as InferTensor | null)?.spec ?? inputSpec(name ?? '', datatype ?? '', shape ?? []);
    if (dataAt >= 0 && binaryBytes >= 0)
      throw new InvalidMessage(`${inputNamed(spec.name)} has both data and binary_data_size`);
    if (binaryBytes >= 0) tensor = this.#binary(spec, binaryBytes);
    else if (dataAt < 0) {
      if (spec.elements > 0)
        throw new InvalidMessage(
          `${inputNamed(spec.name)} has no data: it takes data, or the parameter binary_data_size`,
        );
      tensor = { spec, source: this.#body, start: 0, end: 0 };
    } else if (tensor === null) tensor = this.#dataAt(dataAt, spec);
    this.#inputs.push(tensor as InferTensor);
  }

  /** Data that was skipped, since the shape came after it. */
  #dataAt(at: number, spec: TensorSpec): InferTensor {
    const reader = this.#reader;
    const after = reader.at;
    reader.at = at;
    const tensor = readData(reader, spec);
    reader.at = after;
    return tensor;
  }

  #binary(spec: TensorSpec, bytes: number): InferTensor {
    const start = this.#binaryAt;
    const left = this.#body.length - start;
    if (bytes > left)
      throw new InvalidMessage(
        `${inputNamed(spec.name)} has a binary_data_size of ${bytes}, and ${left} bytes are left behind the JSON, whose length Inference-Header-Content-Length says`,
      );
    this.#binaryAt = start + bytes;
    const tensor = { spec, source: this.#body, start, end: start + bytes };
    checkData(tensor);
    return tensor;
  }

  #output(index: number): void {
    const what = `outputs[${index}]`;
    let name: string | undefined;
    let isBinary: boolean | null = null;
    const parameters: [string, ParameterValue][] = [];
    this.#reader.object(what, (member) => {
      if (member === 'name') name = this.#text(`${what}.name`);
      else if (member === 'parameters')
        this.#parameters(`${what}.parameters`, (parameter, value) => {
          if (parameter === 'binary_data') isBinary = flag(parameter, value);
          else if (parameter === 'classification' || isSharedMemory(parameter)) parameters.push([parameter, value]);
        });
      else this.#reader.skip(`${what}.${quoted(member)}`);
    });
    if (name === undefined) throw new InvalidMessage(`${what} has no name`);
    for (const [parameter, value] of parameters) checkOutputParameter(name, parameter, value);
    this.#outputs.push({ name, isBinary });
  }

  #text(what: string): string {
    if (!this.#reader.isText) throw this.#reader.unexpected(what, 'a text');
    return this.#reader.text();
  }

  #shape(what: string): readonly number[] {
    const reader = this.#reader;
    const shape: number[] = [];
    reader.list(what, (index) => {
      if (index === maxRank) throw new InvalidMessage(`${what} has more than ${maxRank} sizes`);
      if (!reader.isNumber) throw reader.unexpected(`${what}[${index}]`, 'a whole number');
      reader.number();
      const size = reader.integer;
      if (size === null)
        throw new InvalidMessage(`${what}[${index}] should be a whole number, and is ${reader.numberShown()}`);
      shape.push(Number(size));
    });
    return shape;
  }

  /** Reads parameters; those that are lists, objects or null say nothing here. */
  #parameters(what: string, take: (name: string, value: ParameterValue) => void): void {
    const reader = this.#reader;
    if (reader.takesNull()) return;
    reader.object(what, (name) => {
      if (reader.isText) take(name, reader.text());
      else if (reader.isNumber) {
        reader.number();
        take(name, reader.integer ?? reader.value);
      } else if (reader.isList || reader.isObject) reader.skip(`${what}.${quoted(name)}`);
      else {
        const word = reader.word();
        if (word === undefined) throw reader.unexpected(`${what}.${quoted(name)}`, 'a value');
        if (word !== null) take(name, word);
      }
    });
  }
}

function sizeOf(what: string, value: ParameterValue): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new InvalidMessage(
    `binary_data_size of ${what} should be a whole number, 0 or more, and is ${typeof value === 'string' ? quoted(value) : value}`,
  );
}
