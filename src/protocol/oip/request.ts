// Reads a ModelInferRequest. The data of tensors is not copied: it stays where it came. What a client repeats with each
// request (names, shapes, parameters) is compared with that of the last request at the same place, and read only where it
// differs; so a decoder serves best where the same client, or the same kind of client, speaks.

import { InvalidMessage } from '../invalid-message.js';
import { WireReader, wireTypes } from '../protobuf/reader.js';
import { readContents } from './contents.js';
import {
  checkOutputParameter,
  InferCallDraft,
  isSharedMemory,
  setParameter,
  settleSequence,
  sharedInput,
} from './draft.js';
import {
  checkCount,
  checkData,
  checkNames,
  type InferTensor,
  inputNamed,
  inputSpec,
  maxRank,
  type ParameterValue,
  type TensorSpec,
  type WantedOutput,
} from './infer.js';
import { type Parameter, readParameter } from './parameters.js';
import { Remembered } from './remembered.js';

/** As many parts of a kind are remembered. */
const maxRemembered = 16;

const specName = ({ spec }: InferTensor): string => spec.name;
const outputName = ({ name }: WantedOutput): string => name;
const noOutputs: readonly WantedOutput[] = [];

export class InferRequestDecoder {
  readonly #reader = new WireReader();
  #last = new InferCallDraft(true);
  readonly #model = new Remembered<string>();
  readonly #version = new Remembered<string>();
  readonly #parameters: Remembered<Parameter>[] = [];
  readonly #inputs: Remembered<TensorSpec>[] = [];
  readonly #outputs: Remembered<WantedOutput>[] = [];
  /** Of the last request; the same again when nothing of it has changed. */
  #lastOutputs: readonly WantedOutput[] = noOutputs;
  /**
   * Of the request that is being read: where each raw tensor begins and ends, and each typed one (0: it has none). What
   * was read counts; behind it is what longer requests have left, since arrays that are emptied are allocated again.
   */
  readonly #raw: number[] = [];
  readonly #contents: number[] = [];
  readonly #specs: TensorSpec[] = [];
  readonly #wanted: WantedOutput[] = [];
  #rawCount = 0;
  #inputCount = 0;
  #wantedCount = 0;

  /** Reads the message `source[start, end)`. The result refers to `source`. Throws InvalidMessage, and nothing else. */
  decode(source: Buffer, start: number, end: number): InferCallDraft {
    const reader = this.#reader;
    const call = new InferCallDraft(true);
    this.#last = call;
    this.#rawCount = this.#inputCount = this.#wantedCount = 0;
    let parameters = 0;
    reader.open(source, start, end);
    while (reader.next()) {
      switch (reader.field) {
        case 1:
          call.model = this.#text(this.#model);
          break;
        case 2:
          call.version = this.#text(this.#version);
          break;
        case 3:
          call.id = reader.text();
          break;
        case 4: {
          const { name, value } = this.#parameter(parameters++);
          setParameter(call, name, value);
          break;
        }
        case 5:
          this.#readInput();
          break;
        case 6:
          this.#readOutput();
          break;
        case 7: {
          const count = this.#rawCount++;
          checkCount(count, 'raw_input_contents');
          const length = reader.length();
          this.#raw[2 * count] = reader.at;
          reader.at += length;
          this.#raw[2 * count + 1] = reader.at;
          break;
        }
        default:
          reader.skip();
      }
    }
    if (call.sequence !== null) settleSequence(call);
    call.inputs = this.#rawCount > 0 ? this.#rawInputs(source) : this.#typedInputs();
    call.outputs = this.#wantedOutputs();
    checkNames(call.inputs, specName, 'inputs');
    return call;
  }

  /** The model that the last message named, as far as it could be read. */
  get model(): string {
    return this.#last.model;
  }

  #text(remembered: Remembered<string>): string {
    const reader = this.#reader;
    const length = reader.length();
    const { source, at } = reader;
    const known = remembered.recall(source, at, at + length);
    if (known !== undefined) {
      reader.at += length;
      return known;
    }
    const text = reader.textOf(length);
    remembered.keep(source, at, at + length, text);
    return text;
  }

  #parameter(index: number): Parameter {
    const reader = this.#reader;
    const outer = reader.enter();
    const { source, at, end } = reader;
    const remembered = rememberedAt(this.#parameters, index);
    let parameter = remembered?.recall(source, at, end);
    if (parameter === undefined) {
      parameter = readParameter(reader);
      remembered?.keep(source, at, end, parameter);
    }
    reader.at = end;
    reader.end = outer;
    return parameter;
  }

  #readInput(): void {
    const reader = this.#reader;
    const index = this.#inputCount++;
    checkCount(index, 'inputs');
    this.#contents[2 * index] = this.#contents[2 * index + 1] = 0;
    const outer = reader.enter();
    const { source, at, end } = reader;
    const remembered = rememberedAt(this.#inputs, index);
    let spec = remembered?.recall(source, at, end);
    if (spec === undefined) {
      spec = this.#readSpec(index);
      // The bytes of an input with typed contents are its data as well.
      if (this.#contents[2 * index] === 0) remembered?.keep(source, at, end, spec);
    }
    this.#specs[index] = spec;
    reader.at = end;
    reader.end = outer;
  }

  #readSpec(index: number): TensorSpec {
    const reader = this.#reader;
    let name = '';
    let datatype = '';
    const shape: number[] = [];
    let isElsewhere = false;
    const contents = this.#contents;
    while (reader.next()) {
      switch (reader.field) {
        case 1:
          name = reader.text();
          break;
        case 2:
          datatype = reader.text();
          break;
        case 3:
          this.#readShape(shape);
          break;
        case 4: {
          const outer = reader.enter();
          if (isSharedMemory(readParameter(reader).name)) isElsewhere = true;
          reader.end = outer;
          break;
        }
        case 5: {
          if (contents[2 * index] !== 0) reader.fail('an input has contents twice');
          const length = reader.length();
          contents[2 * index] = reader.at;
          reader.at += length;
          contents[2 * index + 1] = reader.at;
          break;
        }
        default:
          reader.skip();
      }
    }
    if (isElsewhere) throw sharedInput(name);
    return inputSpec(name, datatype, shape);
  }

  #readShape(shape: number[]): void {
    const reader = this.#reader;
    if (reader.wireType === wireTypes.bytes) {
      const outer = reader.enter();
      while (reader.at < reader.end) this.#readSize(shape);
      reader.end = outer;
    } else {
      reader.expect(wireTypes.varint);
      this.#readSize(shape);
    }
  }

  #readSize(shape: number[]): void {
    const reader = this.#reader;
    if (shape.length === maxRank) reader.fail(`a shape has more than ${maxRank} sizes`);
    shape.push(Number(reader.integer(true)));
  }

  #readOutput(): void {
    const reader = this.#reader;
    const index = this.#wantedCount++;
    checkCount(index, 'outputs');
    const outer = reader.enter();
    const { source, at, end } = reader;
    const remembered = rememberedAt(this.#outputs, index);
    let output = remembered?.recall(source, at, end);
    if (output === undefined) {
      output = this.#readWanted();
      remembered?.keep(source, at, end, output);
    }
    this.#wanted[index] = output;
    reader.at = end;
    reader.end = outer;
  }

  #readWanted(): WantedOutput {
    const reader = this.#reader;
    let name = '';
    const parameters = new Map<string, ParameterValue>();
    while (reader.next()) {
      if (reader.field === 1) name = reader.text();
      else if (reader.field === 2) {
        const outer = reader.enter();
        const parameter = readParameter(reader);
        if (parameters.size < maxRemembered) parameters.set(parameter.name, parameter.value);
        reader.end = outer;
      } else reader.skip();
    }
    for (const [parameter, value] of parameters) checkOutputParameter(name, parameter, value);
    return { name, isBinary: true };
  }

  #wantedOutputs(): readonly WantedOutput[] {
    const count = this.#wantedCount;
    const last = this.#lastOutputs;
    let i = 0;
    while (i < count && this.#wanted[i] === last[i]) i++;
    if (i === count && count === last.length) return last;
    const outputs = this.#wanted.slice(0, count);
    checkNames(outputs, outputName, 'outputs');
    this.#lastOutputs = outputs;
    return outputs;
  }

  #rawInputs(source: Buffer): readonly InferTensor[] {
    const raw = this.#raw;
    const count = this.#inputCount;
    if (this.#rawCount !== count)
      throw new InvalidMessage(`there are ${count} inputs, and ${this.#rawCount} raw_input_contents`);
    let inputs: InferTensor[] = [];
    for (let i = 0; i < count; i++) {
      const spec = this.#specs[i] as TensorSpec;
      if (this.#contents[2 * i] !== this.#contents[2 * i + 1])
        throw new InvalidMessage(`${inputNamed(spec.name)} has contents, and there are raw_input_contents as well`);
      const input = { spec, source, start: raw[2 * i] as number, end: raw[2 * i + 1] as number };
      checkData(input);
      // `[one]` allocates room for one element; a push to an empty array allocates room for seventeen.
      if (i > 0) inputs.push(input);
      else inputs = [input];
    }
    return inputs;
  }

  #typedInputs(): readonly InferTensor[] {
    const reader = this.#reader;
    return this.#specs.slice(0, this.#inputCount).map((spec, i) => {
      const start = this.#contents[2 * i] as number;
      if (start > 0) return readContents(reader, start, this.#contents[2 * i + 1] as number, spec);
      if (spec.elements > 0)
        throw new InvalidMessage(
          `${inputNamed(spec.name)} has no data: send raw_input_contents, or the contents of each input`,
        );
      return { spec, source: reader.source, start: 0, end: 0 };
    });
  }
}

/** The memory of the part with this index; undefined for those that are not remembered. */
function rememberedAt<T>(parts: Remembered<T>[], index: number): Remembered<T> | undefined {
  if (index === parts.length && index < maxRemembered) parts.push(new Remembered<T>());
  return parts[index];
}
