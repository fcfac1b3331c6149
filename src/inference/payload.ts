// How a payload says its tensors: the inputs of a plan one after another, apart from constants, in C order and
// little-endian; each string with its length in front. At most one dimension is dynamic, here called the open one: the
// length of the payload tells its size, or with strings their number.
//
// Pure, and made from plain data: what checks a payload need not hold the model.

import { elementsIn } from '../tensors/axis.js';
import { dtypes } from '../tensors/dtypes.js';
import { readStrings, stringEnd } from '../tensors/strings.js';
import type { Model } from './model.js';
import type { InputPlan, ModelPlan } from './plan.js';

/** An input as it lies in a payload. */
export interface Field {
  readonly input: InputPlan;
  /** Bytes of an element; 0 for strings. */
  readonly elementBytes: number;
  /** Elements when the open dimension has the size 1. */
  readonly unitElements: number;
  /** How many of its dimensions are the open one. */
  readonly power: number;
}

/** A payload taken apart. */
export interface ParsedPayload {
  /** Of the open dimension; 0 when there is none. */
  readonly size: number;
  /** Where each field begins. */
  readonly offsets: readonly number[];
  /** The strings of each field that has some; null for the others. */
  readonly strings: readonly (readonly string[] | null)[];
}

/** Bytes that depend on the open dimension. */
export interface OpenBytes {
  /** How often it is a dimension of theirs. */
  readonly power: number;
  /** Bytes for a size of 1. */
  readonly bytes: number;
}

/** The size of the open dimension for which all of them together have so many bytes; NaN when there is none. */
export function sizeOfOpen(powers: readonly OpenBytes[], bytes: number): number {
  const [only] = powers;
  if (powers.length === 1 && only?.power === 1) {
    const size = bytes / only.bytes;
    return Number.isInteger(size) ? size : Number.NaN;
  }
  const bytesFor = (size: number): number => powers.reduce((sum, one) => sum + one.bytes * size ** one.power, 0);
  let low = 0;
  let high = Math.max(1, bytes);
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (bytesFor(middle) < bytes) low = middle + 1;
    else high = middle;
  }
  return bytesFor(low) === bytes ? low : Number.NaN;
}

type Limits = { readonly maxRows: number };

export class PayloadLayout {
  readonly fields: readonly Field[];
  /** The name of the open dimension, or null. */
  readonly open: string | null;
  /** Bytes of every payload, or null when they differ. */
  readonly bytes: number | null;
  /** Whether the open dimension is the number of rows of a request. */
  readonly isOpenRows: boolean;
  readonly #hasStrings: boolean;
  readonly #mostOpen: number;
  readonly #fixedRows: number;
  #last: ParsedPayload | null = null;
  /** Of numbers: bytes that do not depend on the open dimension, and bytes for a size of 1 by power. */
  readonly #fixedBytes: number;
  readonly #powers: readonly OpenBytes[];

  /**
   * @param limits maxRows: the most rows that a request may have
   * @throws Error that says what would mend it, when a payload cannot say the shapes of this plan
   */
  constructor(plan: ModelPlan, { maxRows }: Limits) {
    this.fields = plan.inputs.filter(({ isConstant }) => !isConstant).map(fieldOf);
    this.open = openOf(this.fields);
    const { rows, isOpen } = rowsOf(this.fields, this.open);
    this.isOpenRows = isOpen;
    this.#fixedRows = rows;
    if (rows > maxRows)
      throw new Error(`a request has ${rows} rows, and a run takes ${maxRows} at the most: raise maxBatchSize`);
    this.#mostOpen = isOpen ? maxRows : Number.MAX_SAFE_INTEGER;
    this.#hasStrings = this.fields.some(isText);
    if (this.#hasStrings && this.open !== null) checkOrder(this.fields, this.open);
    const bytesOf = (fields: readonly Field[]): number =>
      fields.reduce((sum, { elementBytes, unitElements }) => sum + elementBytes * unitElements, 0);
    this.#fixedBytes = bytesOf(this.fields.filter(({ power }) => power === 0));
    const powers = [...new Set(this.fields.map(({ power }) => power))].filter((power) => power > 0);
    this.#powers = powers.map((power) => ({ power, bytes: bytesOf(this.fields.filter((one) => one.power === power)) }));
    this.bytes = this.#hasStrings || this.open !== null ? null : this.#fixedBytes;
  }

  /** Whether `source[start, end)` is a payload. */
  accepts(source: Buffer, start: number, end: number): boolean {
    if (this.#hasStrings) return this.#walk(source, start, end, null) >= 0;
    return this.sizeOf(end - start) >= 0;
  }

  /** Takes a payload apart; null when it is none. */
  parse(payload: Buffer): ParsedPayload | null {
    if (!this.#hasStrings) {
      const size = this.sizeOf(payload.length);
      return size < 0 ? null : this.#parsed(size);
    }
    const offsets = new Array<number>(this.fields.length);
    const size = this.#walk(payload, 0, payload.length, offsets);
    if (size < 0) return null;
    const strings = this.fields.map((field, i) =>
      isText(field) ? readStrings(payload, offsets[i] as number, elementsOf(field, size)) : null,
    );
    return { size, offsets, strings };
  }

  /** The size of the open dimension for a payload of numbers of this length; -1 when there is no such payload. */
  sizeOf(length: number): number {
    if (this.open === null) return length === this.#fixedBytes ? 0 : -1;
    return this.#openSize(length - this.#fixedBytes);
  }

  /** The size for which the numbers that depend on it have this many bytes; -1 when there is none. */
  #openSize(bytes: number): number {
    const size = sizeOfOpen(this.#powers, bytes);
    return size >= 1 && size <= this.#mostOpen ? size : -1;
  }

  /** A payload of numbers; most often it has the size of the one before. */
  #parsed(size: number): ParsedPayload {
    if (this.#last?.size === size) return this.#last;
    let at = 0;
    const offsets = this.fields.map((field) => {
      const begin = at;
      at += field.elementBytes * elementsOf(field, size);
      return begin;
    });
    this.#last = { size, offsets, strings: this.fields.map(() => null) };
    return this.#last;
  }

  /** Rows of a payload that was accepted. */
  rowsIn(payload: Buffer): number {
    if (!this.isOpenRows) return this.#fixedRows;
    return this.#hasStrings ? this.#walk(payload, 0, payload.length, null) : this.sizeOf(payload.length);
  }

  /** Rows of a request with this size of the open dimension. */
  rowsFor(size: number): number {
    return this.isOpenRows ? size : this.#fixedRows;
  }

  /** The dimensions of one input of a request. */
  dimsOf({ requestDims }: Pick<InputPlan, 'requestDims'>, size: number): readonly number[] {
    return requestDims.map((dim) => (typeof dim === 'number' ? dim : size));
  }

  /**
   * Walks through a payload that has strings. @returns the size of the open dimension, 0 without one; -1 when the
   * payload is not valid
   * @param offsets gets where each field begins, if given
   */
  #walk(source: Buffer, start: number, end: number, offsets: number[] | null): number {
    const { fields } = this;
    if (this.open === null) return this.#walkFixed(source, start, end, offsets) === end ? 0 : -1;
    const first = fields.findIndex(isText);
    const behind = fields.findLastIndex(isText) + 1;
    const texts = fields.slice(first, behind);
    const numbers = fields.slice(behind);
    let at = start;
    for (const [i, field] of fields.slice(0, first).entries()) {
      if (offsets !== null) offsets[i] = at - start;
      at += field.elementBytes * field.unitElements;
    }
    const size = this.#sizeOfTexts(source, at, end, texts, numbers);
    if (size < 0) return -1;
    if (offsets === null) return size;
    let offset = at;
    for (const [i, field] of texts.entries()) {
      offsets[first + i] = offset - start;
      for (let k = elementsOf(field, size); k > 0; k--) offset = stringEnd(source, offset, end);
    }
    for (const [i, field] of numbers.entries()) {
      offsets[behind + i] = offset - start;
      offset += field.elementBytes * elementsOf(field, size);
    }
    return size;
  }

  /** The size of the open dimension when strings begin at `at`, and numbers follow them to the end. */
  #sizeOfTexts(source: Buffer, at: number, end: number, texts: readonly Field[], numbers: readonly Field[]): number {
    const sum = (fields: readonly Field[], of: (field: Field) => number): number =>
      fields.reduce((total, field) => total + of(field), 0);
    const isOpen = ({ power, unitElements }: Field): boolean => power > 0 && unitElements > 0;
    const fixed = sum(texts, ({ power, unitElements }) => (power > 0 ? 0 : unitElements));
    const fixedRest = sum(numbers, ({ power, unitElements, elementBytes }) =>
      power > 0 ? 0 : unitElements * elementBytes,
    );
    const openTexts = texts.filter(isOpen);
    const openNumbers = numbers.filter(isOpen);
    let read = 0;
    for (let size = 1; size <= this.#mostOpen; size++) {
      const wanted = fixed + sum(openTexts, (field) => elementsOf(field, size));
      for (; read < wanted; read++) {
        at = stringEnd(source, at, end);
        if (at < 0) return -1;
      }
      if (openTexts.length === 0) return this.#openSize(end - at - fixedRest);
      // With each larger size the strings end later, and the numbers behind them take no less: only one size can fit.
      const rest = fixedRest + sum(openNumbers, (field) => field.elementBytes * elementsOf(field, size));
      if (at + rest >= end) return at + rest === end ? size : -1;
    }
    return -1;
  }

  /** Where the fields end when there is no open dimension; -1 when a string is not valid. */
  #walkFixed(source: Buffer, start: number, end: number, offsets: number[] | null): number {
    let at = start;
    for (const [i, field] of this.fields.entries()) {
      if (offsets !== null) offsets[i] = at - start;
      if (!isText(field)) at += field.elementBytes * field.unitElements;
      else
        for (let k = 0; k < field.unitElements; k++) {
          at = stringEnd(source, at, end);
          if (at < 0) return -1;
        }
    }
    return at;
  }
}

/** What tells payloads of a plan from others, and counts their rows; also where the model itself is in a thread. */
export function acceptance(
  plan: ModelPlan,
  maxBatchSize: number,
  layout: PayloadLayout = layoutOf(plan, maxBatchSize),
): Pick<Model, 'accepts' | 'rowsIn'> {
  return {
    ...(layout.bytes === null
      ? { accepts: (source: Buffer, start: number, end: number) => layout.accepts(source, start, end) }
      : {}),
    ...(layout.isOpenRows || layout.rowsFor(0) !== 1 ? { rowsIn: (payload: Buffer) => layout.rowsIn(payload) } : {}),
  };
}

/** The most rows in a run. */
export const mostRowsOf = ({ fixedBatch }: ModelPlan, maxBatchSize: number): number =>
  Math.min(maxBatchSize, fixedBatch ?? Number.POSITIVE_INFINITY);

export const layoutOf = (plan: ModelPlan, maxBatchSize: number): PayloadLayout =>
  new PayloadLayout(plan, { maxRows: mostRowsOf(plan, maxBatchSize) });

const isText = ({ input }: Field): boolean => input.dtype === 'string';

const elementsOf = ({ unitElements, power }: Field, size: number): number =>
  power === 0 ? unitElements : unitElements * size ** power;

function fieldOf(input: InputPlan): Field {
  const numbers = input.requestDims.filter((dim) => typeof dim === 'number');
  return {
    input,
    elementBytes: input.dtype === 'string' ? 0 : dtypes[input.dtype].bytes,
    unitElements: elementsIn(numbers),
    power: input.requestDims.length - numbers.length,
  };
}

/** An example of a size, in messages. */
const exampleSize = 64;

function openOf(fields: readonly Field[]): string | null {
  const names = new Set(fields.flatMap(({ input }) => namesIn(input)));
  const [name, ...others] = names;
  if (name === undefined) return null;
  if (others.length > 0) {
    const where = fields.flatMap(({ input }) => {
      const own = namesIn(input);
      return own.length === 0 ? [] : `${[...new Set(own)].join(', ')} of ${input.name}`;
    });
    const { input } = fields.find((one) => one.power > 0) as Field;
    const shape = input.requestDims.map((dim) => (typeof dim === 'number' || dim === name ? dim : exampleSize));
    const example = JSON.stringify({ [input.name]: { shape: shape.includes(name) ? shape : [name] } });
    throw new Error(
      `the length of a payload can say the size of one dynamic dimension, and there are ${names.size} (${where.join('; ')}): fix the others in config, for example "inputs": ${example}`,
    );
  }
  const hidden = fields.filter(({ power }) => power > 0).every(({ unitElements }) => unitElements === 0);
  if (hidden)
    throw new Error(
      `the length of a payload cannot say the size of ${name}, since another dimension is 0: fix it in config (inputs.${fields[0]?.input.name}.shape)`,
    );
  return name;
}

const namesIn = ({ requestDims }: InputPlan): readonly string[] => requestDims.filter((dim) => typeof dim === 'string');

/** How many rows a request has, as far as it is fixed, and whether the open dimension says it. */
function rowsOf(fields: readonly Field[], open: string | null): { readonly rows: number; readonly isOpen: boolean } {
  const sizes = new Map<number | string, string>();
  for (const { input } of fields)
    if (typeof input.batchAxis === 'number')
      sizes.set(input.requestDims[input.batchAxis] as number | string, input.name);
  if (sizes.size > 1)
    throw new Error(
      `the inputs of a request disagree on its rows: ${[...sizes].map(([rows, name]) => `${rows} of ${name}`).join(', ')}; give all of them the same shape along the batch axis (inputs.NAME.shape)`,
    );
  const [rows = 1] = sizes.keys();
  return typeof rows === 'number' ? { rows, isOpen: false } : { rows: 1, isOpen: rows === open };
}

/** The number of strings is found by walking through them: what stands before them must have a known size. */
function checkOrder(fields: readonly Field[], open: string): void {
  const first = fields.findIndex(isText);
  const last = fields.findLastIndex(isText);
  const before = fields.slice(0, first).find(({ power }) => power > 0);
  const between = fields.slice(first, last).find((field) => !isText(field));
  const culprit = before ?? between;
  if (culprit === undefined) return;
  throw new Error(
    `a payload cannot say the size of ${open}, since ${culprit.input.name} stands ${before === undefined ? 'between' : 'before'} inputs of strings: fix it in config (inputs.${culprit.input.name}.shape)`,
  );
}
