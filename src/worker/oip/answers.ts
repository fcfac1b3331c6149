// From the replies of a model to the tensors of an answer. In a reply, the outputs lie one after another, each with one
// row; in an answer, each output has all rows: the reverse of payloads.ts. What the shapes of a request tell of those of
// its outputs is worked out once for all requests that look alike.

import type { ReplyDims } from '../../inference/batch.js';
import type { ModelPlan, OutputPlan } from '../../inference/plan.js';
import { type DatatypeName, datatypeOf, datatypes } from '../../protocol/oip/datatypes.js';
import { type InferTensor, type TensorSpec, tensorSpec } from '../../protocol/oip/infer.js';
import type { ReplySpan } from '../../serving/request-group.js';
import { eachPiece, elementsIn, resized } from '../../tensors/axis.js';
import { lengthBytes } from '../../tensors/strings.js';
import type { CheckedShapes, SignatureTensor } from './request-check.js';
import { CallError } from './service.js';

export interface SignatureOutput extends SignatureTensor {
  readonly dims: OutputPlan['requestDims'];
  /** Along it the rows of replies are joined; -1: it is the same in the replies to all rows of a request. */
  readonly rowAxis: number;
  readonly elementBytes: number;
  /** Whether a request of several rows cannot have it. */
  readonly isAlone: boolean;
}

/** The outputs that replies have. */
export const outputsOf = ({ outputs }: ModelPlan): readonly SignatureOutput[] =>
  outputs
    .filter(({ isReturned }) => isReturned)
    .map(({ name, dtype, batchAxis, requestDims }) => {
      const rowAxis = typeof batchAxis === 'number' && requestDims[batchAxis] === 1 ? batchAxis : -1;
      const datatype: DatatypeName = datatypeOf(dtype);
      const shape = requestDims.map((dim, axis) => (typeof dim === 'string' || axis === rowAxis ? -1 : dim));
      const isAlone = batchAxis === 'none';
      return { name, datatype, shape, dims: requestDims, rowAxis, elementBytes: datatypes[datatype].bytes, isAlone };
    });

/** The dimensions of each output in a reply to one payload; null where the shapes of a request do not tell them. */
export function toldBy(
  outputs: readonly SignatureOutput[],
  { sizes }: Pick<CheckedShapes, 'sizes'>,
  fixedSizes: ReadonlyMap<string, number>,
): ReplyDims | null {
  const told = outputs.map(({ dims }) =>
    dims.map((dim) => (typeof dim === 'number' ? dim : (sizes.get(dim) ?? fixedSizes.get(dim) ?? -1))),
  );
  return told.some((dims) => dims.includes(-1)) ? null : told;
}

export const failed = (message: string): CallError => new CallError('INFERENCE_FAILED', message);

/** The part of a reply that is one output of it. */
interface Part {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
  readonly dims: readonly number[];
}

/** Gives the tensors of outputs; a spec is the same object as the last time, where the tensor looks as it did then. */
export class AnswerTensors {
  readonly #outputs: readonly SignatureOutput[];
  readonly #specs: (TensorSpec | undefined)[] = [];

  constructor(outputs: readonly SignatureOutput[]) {
    this.#outputs = outputs;
  }

  /**
   * @param wanted which of the outputs
   * @param dims those of each reply, where the model has told them
   * @param told what the shapes of the request tell of those of others
   * @throws CallError INFERENCE_FAILED when the replies are not what they should be
   */
  of(
    wanted: readonly number[],
    replies: readonly ReplySpan[],
    dims: readonly (ReplyDims | null)[] | null,
    told: ReplyDims | null,
  ): readonly InferTensor[] {
    if (dims === null && told !== null) {
      const quick = this.#sideBySide(replies, told);
      if (quick !== null) return [quick];
    }
    const parts = replies.map((reply, i) => this.#partsOf(reply, dims?.[i] ?? told));
    return wanted.map((k) => this.#tensorOf(k, parts));
  }

  /** The replies as they lie, if they are the rows of the only output side by side: most are. */
  #sideBySide(replies: readonly ReplySpan[], told: ReplyDims): InferTensor | null {
    const [output] = this.#outputs as [SignatureOutput];
    const [dims] = told as [readonly number[]];
    const [first] = replies as [ReplySpan];
    const { source, start } = first;
    if (this.#outputs.length > 1 || output.elementBytes === 0) return null;
    const rows = replies.length;
    if (rows > 1 && output.rowAxis !== 0) return null;
    const spec = this.#specOf(0, rows === 1 ? dims : resized(dims, 0, rows));
    const rowBytes = (spec.elements / rows) * output.elementBytes;
    for (let i = 0; i < rows; i++) {
      const reply = replies[i] as ReplySpan;
      const at = start + i * rowBytes;
      if (reply.source !== source || reply.start !== at || reply.end !== at + rowBytes) return null;
    }
    return { spec, source, start, end: start + rows * rowBytes };
  }

  /** Where each output of a reply is. */
  #partsOf(reply: ReplySpan, dims: ReplyDims | null): readonly Part[] {
    if (dims === null) throw failed('the model does not tell the shapes of its outputs');
    let end = reply.start;
    const parts = this.#outputs.map(({ elementBytes }, k) => {
      const own = dims[k] as readonly number[];
      const start = end;
      const elements = elementsIn(own);
      end = elementBytes > 0 ? start + elements * elementBytes : textsEnd(reply, start, elements);
      return { bytes: reply.source, start, end, dims: own };
    });
    if (end !== reply.end)
      throw failed(`a reply of the model has ${reply.end - reply.start} bytes, and its outputs ${end - reply.start}`);
    return parts;
  }

  #tensorOf(k: number, replies: readonly (readonly Part[])[]): InferTensor {
    const output = this.#outputs[k] as SignatureOutput;
    const { rowAxis } = output;
    const [first] = replies as [readonly Part[]];
    const { bytes, start, end, dims } = first[k] as Part;
    if (replies.length === 1 || rowAxis < 0) return { spec: this.#specOf(k, dims), source: bytes, start, end };
    const parts = replies.map((reply) => reply[k] as Part);
    checkAlike(output, parts);
    const whole = resized(dims, rowAxis, parts.length);
    const source = elementsIn(dims.slice(0, rowAxis)) === 1 ? inARow(parts) : woven(output, parts, whole);
    return { spec: this.#specOf(k, whole), ...source };
  }

  #specOf(k: number, shape: readonly number[]): TensorSpec {
    const last = this.#specs[k];
    if (last !== undefined && isSame(last.shape, shape)) return last;
    const { name, datatype } = this.#outputs[k] as SignatureOutput;
    const spec = tensorSpec(name, datatype, shape);
    this.#specs[k] = spec;
    return spec;
  }
}

export function isSame(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function checkAlike({ name, rowAxis }: SignatureOutput, parts: readonly Part[]): void {
  const [{ dims: first }] = parts as [Part];
  const odd = parts.find(({ dims }) => dims[rowAxis] !== 1);
  if (odd !== undefined)
    throw failed(
      `the output ${JSON.stringify(name)} is [${odd.dims}] for one row of the request: ask for each row in a request of its own`,
    );
  const other = parts.find(({ dims }) => dims !== first && !isSame(dims, first));
  if (other !== undefined)
    throw failed(
      `the output ${JSON.stringify(name)} is [${first}] for one row of the request, and [${other.dims}] for another: ask for each row in a request of its own`,
    );
}

type Bytes = Pick<InferTensor, 'source' | 'start' | 'end'>;

/** The parts one after the other; not copied where they lie like that already. */
function inARow(parts: readonly Part[]): Bytes {
  const [{ bytes, start }] = parts as [Part];
  const origin = bytes.byteOffset + start;
  let length = 0;
  let isView = true;
  for (const part of parts) {
    if (part.bytes.buffer !== bytes.buffer || part.bytes.byteOffset + part.start !== origin + length) isView = false;
    length += part.end - part.start;
  }
  if (isView) return { source: new Uint8Array(bytes.buffer, origin, length), start: 0, end: length };
  const source = Buffer.allocUnsafe(length);
  let at = 0;
  for (const part of parts) {
    source.set(part.bytes.subarray(part.start, part.end), at);
    at += part.end - part.start;
  }
  return { source, start: 0, end: length };
}

/** The parts joined along an axis that is not the first. */
function woven({ rowAxis, elementBytes }: SignatureOutput, parts: readonly Part[], whole: readonly number[]): Bytes {
  const length = parts.reduce((sum, { start, end }) => sum + end - start, 0);
  // Where each piece of the whole comes from, by where it begins; strings have no place before those before them have.
  const pieces: { readonly at: number; readonly part: Part; readonly from: number; readonly to: number }[] = [];
  for (const [row, part] of parts.entries()) {
    const origin = whole.map((_, axis) => (axis === rowAxis ? row : 0));
    const ends = elementBytes > 0 ? null : textEnds(part);
    eachPiece(part.dims, whole, origin, (partAt, at, elements) => {
      const from = ends === null ? part.start + partAt * elementBytes : (ends[partAt] as number);
      const to = ends === null ? from + elements * elementBytes : (ends[partAt + elements] as number);
      pieces.push({ at, part, from, to });
    });
  }
  pieces.sort((a, b) => a.at - b.at);
  const source = Buffer.allocUnsafe(length);
  let at = 0;
  for (const { part, from, to } of pieces) {
    source.set(part.bytes.subarray(from, to), at);
    at += to - from;
  }
  return { source, start: 0, end: length };
}

function textEnds({ bytes: source, start, end, dims }: Part): readonly number[] {
  const ends = [start];
  let at = start;
  for (let i = elementsIn(dims); i > 0; i--) {
    at = textsEnd({ source, start, end }, at, 1);
    ends.push(at);
  }
  return ends;
}

/** Where so many texts end; beyond the reply when it does not have as many. */
function textsEnd({ source, end }: ReplySpan, at: number, count: number): number {
  for (let i = 0; i < count && at <= end; i++)
    at +=
      lengthBytes +
      (source[at] as number) +
      (source[at + 1] as number) * 0x100 +
      (source[at + 2] as number) * 0x1_0000 +
      (source[at + 3] as number) * 0x100_0000;
  return at;
}
