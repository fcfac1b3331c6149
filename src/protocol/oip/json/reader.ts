// Reads JSON (RFC 8259, strictly) from bytes, value by value, without making objects of it: tensors in JSON are long
// lists of numbers, which go straight to where they are wanted, and whole numbers stay exact beyond 2^53.

import { isUtf8 } from 'node:buffer';
import { InvalidMessage, quoted } from '../../invalid-message.js';

/** Of values that are skipped. */
const maxDepth = 32;
/** Significant digits that a number holds whatever they are. */
const exactDigits = 15;
const maxExponent = 10_000;
/** What is shown of a value that is wrong. */
const shownBytes = 24;

const [quote, backslash, comma, colon, minus, plus, point] = [0x22, 0x5c, 0x2c, 0x3a, 0x2d, 0x2b, 0x2e] as const;
const [openList, closeList, openObject, closeObject, zero, nine] = [0x5b, 0x5d, 0x7b, 0x7d, 0x30, 0x39] as const;

/** The powers of 10 that a number holds exactly. */
const powers = Array.from({ length: 23 }, (_, i) => Number(`1e${i}`));
const maxPower = powers.length - 1;

export class JsonReader {
  at: number;
  readonly end: number;
  readonly source: Buffer;
  /** After `number`: where it begins. */
  #from = 0;
  /** Its first digits, exactly scaled; NaN where the scale is no exact power of 10. */
  #leading = 0;
  /** Whether `#leading` is all of it: no other digits than zeros were left out. */
  #isExact = true;
  /** Whether it is written without fraction and exponent. */
  isWhole = false;

  constructor(source: Buffer, start: number, end: number) {
    this.source = source;
    this.at = start;
    this.end = end;
  }

  /** Moves to the next value or sign and tells its first byte; 0 at the end. */
  peek(): number {
    const { source, end } = this;
    let { at } = this;
    for (; at < end; at++) {
      const byte = source[at] as number;
      if (byte > 0x20 || (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09)) {
        this.at = at;
        return byte;
      }
    }
    this.at = end;
    return 0;
  }

  get isList(): boolean {
    return this.peek() === openList;
  }

  get isText(): boolean {
    return this.peek() === quote;
  }

  get isObject(): boolean {
    return this.peek() === openObject;
  }

  get isNumber(): boolean {
    let byte = this.peek();
    if (byte === minus) byte = this.source[this.at + 1] as number;
    return byte >= zero && byte <= nine;
  }

  /** Reads an object. @param member must read the value. @param what it is, for messages */
  object(what: string, member: (name: string) => void): void {
    if (!this.isObject) throw this.unexpected(what, 'an object');
    this.at++;
    if (this.#takes(closeObject)) return;
    do {
      if (!this.isText) throw this.unexpected(`a name in ${what}`, 'a text');
      const name = this.text();
      if (!this.#takes(colon)) throw this.unexpected(`what follows a name in ${what}`, '":"');
      member(name);
    } while (this.#takes(comma));
    if (!this.#takes(closeObject)) throw this.unexpected(`what follows a member of ${what}`, '"," or "}"');
  }

  /** Reads a list. @param element must read the value. @param what it is, for messages */
  list(what: string, element: (index: number) => void): number {
    if (!this.isList) throw this.unexpected(what, 'a list');
    this.at++;
    if (this.#takes(closeList)) return 0;
    let count = 0;
    do element(count++);
    while (this.#takes(comma));
    if (!this.#takes(closeList)) throw this.unexpected(`what follows an element of ${what}`, '"," or "]"');
    return count;
  }

  #takes(byte: number): boolean {
    if (this.peek() !== byte) return false;
    this.at++;
    return true;
  }

  /** true, false or null, if it is what comes next. */
  word(): boolean | null | undefined {
    const byte = this.peek();
    if (byte === 0x74 && this.#takesWord('true')) return true;
    if (byte === 0x66 && this.#takesWord('false')) return false;
    return this.takesNull() ? null : undefined;
  }

  /** Moves over null, if it is what comes next: clients write it for what they leave out. */
  takesNull(): boolean {
    return this.peek() === 0x6e && this.#takesWord('null');
  }

  #takesWord(word: string): boolean {
    const { at } = this;
    for (let i = 0; i < word.length; i++) if (this.source[at + i] !== word.charCodeAt(i)) return false;
    if (at + word.length > this.end) return false;
    this.at = at + word.length;
    return true;
  }

  /** Reads a text; one is what comes next. */
  text(): string {
    const { source, end } = this;
    const from = this.at;
    let at = from + 1;
    let isPlain = true;
    let hasEscapes = false;
    for (; ; at++) {
      const byte = at < end ? (source[at] as number) : 0;
      if (byte === quote) break;
      if (byte < 0x20) throw this.#failAt(at, at < end ? 'a text has a control character' : 'it ends within a text');
      if (byte === backslash) {
        hasEscapes = true;
        at++;
      } else if (byte >= 0x80) isPlain = false;
    }
    this.at = at + 1;
    if (isPlain && !hasEscapes) return source.toString('latin1', from + 1, at);
    if (!isUtf8(source.subarray(from, at))) throw this.#failAt(from, 'a text is not UTF-8');
    if (!hasEscapes) return source.toString('utf8', from + 1, at);
    return this.#unescaped(from, source.toString('utf8', from, at + 1));
  }

  #unescaped(from: number, text: string): string {
    let result: string;
    try {
      result = JSON.parse(text) as string;
    } catch {
      throw this.#failAt(from, 'a text has an escape that JSON does not have');
    }
    if (/\p{Surrogate}/u.test(result)) throw this.#failAt(from, 'a text has half of a pair of surrogates');
    return result;
  }

  /** Reads a number; its first byte is what comes next. Then `isWhole`, `value`, `float32` and `integer` are about it. */
  number(): void {
    const { source } = this;
    const from = this.at;
    let at = from;
    let byte = source[at] as number;
    const isNegative = byte === minus;
    if (isNegative) byte = source[++at] as number;
    let mantissa = 0;
    let digits = 0;
    let scale = 0;
    let isCut = false;
    const first = at;
    while (byte >= zero && byte <= nine) {
      if (digits < exactDigits) {
        mantissa = mantissa * 10 + byte - zero;
        if (mantissa > 0) digits++;
      } else {
        scale++;
        if (byte !== zero) isCut = true;
      }
      byte = source[++at] as number;
    }
    if (at === first || (source[first] === zero && at > first + 1))
      throw this.#failAt(from, 'there is no number like this');
    let isWhole = true;
    if (byte === point) {
      isWhole = false;
      const begin = at + 1;
      byte = source[++at] as number;
      while (byte >= zero && byte <= nine) {
        if (digits < exactDigits) {
          mantissa = mantissa * 10 + byte - zero;
          if (mantissa > 0) digits++;
          scale--;
        } else if (byte !== zero) isCut = true;
        byte = source[++at] as number;
      }
      if (at === begin) throw this.#failAt(from, 'there is no number like this');
    }
    if (byte === 0x65 || byte === 0x45) {
      isWhole = false;
      byte = source[++at] as number;
      const isDown = byte === minus;
      if (isDown || byte === plus) byte = source[++at] as number;
      const begin = at;
      let exponent = 0;
      while (byte >= zero && byte <= nine) {
        exponent = Math.min(maxExponent, exponent * 10 + byte - zero);
        byte = source[++at] as number;
      }
      if (at === begin) throw this.#failAt(from, 'there is no number like this');
      scale += isDown ? -exponent : exponent;
    }
    // What lies behind the end is not JSON; no byte of it was taken for more than a digit.
    if (at > this.end) throw this.#failAt(from, 'it ends within a number');
    this.at = at;
    this.#from = from;
    this.isWhole = isWhole;
    this.#isExact = !isCut;
    if (isNegative) mantissa = -mantissa;
    if (scale === 0 || mantissa === 0) this.#leading = mantissa;
    else if (scale < 0) this.#leading = scale >= -maxPower ? mantissa / (powers[-scale] as number) : Number.NaN;
    else this.#leading = scale <= maxPower ? mantissa * (powers[scale] as number) : Number.NaN;
  }

  /** Moves over a comma, if it is there and a number follows it: most lists are lists of numbers. */
  nextNumber(): boolean {
    const { source } = this;
    let { at } = this;
    if (source[at] !== comma) return false;
    let byte = source[++at] as number;
    if (byte === 0x20) byte = source[++at] as number;
    const first = byte === minus ? (source[at + 1] as number) : byte;
    if (first < zero || first > nine || at >= this.end) return false;
    this.at = at;
    return true;
  }

  /** The numbers from here to the end of a list, if all that is left of it are numbers; otherwise nothing is read. */
  numbersLeft(): readonly number[] | null {
    const close = this.source.indexOf(closeList, this.at);
    if (close < 0 || close >= this.end) return null;
    let values: readonly unknown[];
    try {
      values = JSON.parse(`[${this.source.toString('latin1', this.at, close)}]`) as readonly unknown[];
    } catch {
      return null;
    }
    if (!values.every((value) => Number.isFinite(value))) return null;
    this.at = close;
    return values as readonly number[];
  }

  /** The number as JSON.parse has it. */
  get value(): number {
    const leading = this.#leading;
    return this.#isExact && !Number.isNaN(leading) ? leading : Number(this.#numberText());
  }

  /** `value` as a number of 32 bits. */
  get float32(): number {
    const leading = this.#leading;
    if (this.#isExact) return Math.fround(Number.isNaN(leading) ? Number(this.#numberText()) : leading);
    // The digits that were left out are less than 1e-14 of it: where they change nothing, they need not be read.
    const low = Math.fround(leading * (1 - 1e-13));
    return low === Math.fround(leading * (1 + 1e-13)) ? low : Math.fround(Number(this.#numberText()));
  }

  /** A whole number: a bigint where a number would not be exact. @returns null when it is written as no whole number */
  get integer(): number | bigint | null {
    if (!this.isWhole) return null;
    if (this.#isExact && Number.isSafeInteger(this.#leading)) return this.#leading;
    // BigInt takes time that grows with the square of the digits.
    if (this.at - this.#from > 40) return null;
    const exact = BigInt(this.#numberText());
    return exact >= Number.MIN_SAFE_INTEGER && exact <= Number.MAX_SAFE_INTEGER ? Number(exact) : exact;
  }

  /** The number, for messages: never long. */
  numberShown(): string {
    return this.source.toString('latin1', this.#from, Math.min(this.at, this.#from + shownBytes));
  }

  #numberText(): string {
    return this.source.toString('latin1', this.#from, this.at);
  }

  /** Moves behind the next value, whatever it is. */
  skip(what: string, depth = 0): void {
    if (depth > maxDepth) throw this.#failAt(this.at, `${what} is nested deeper than ${maxDepth} levels`);
    if (this.isText) this.text();
    else if (this.isNumber) this.number();
    else if (this.isList) this.list(what, () => this.skip(what, depth + 1));
    else if (this.isObject) this.object(what, () => this.skip(what, depth + 1));
    else if (this.word() === undefined) throw this.unexpected(what, 'a value');
  }

  /** To be called at the end: nothing may follow. */
  finish(): void {
    if (this.peek() !== 0 || this.at < this.end) throw this.unexpected('what follows the JSON', 'nothing');
  }

  /** What comes next, for messages: never long. */
  shown(): string {
    const byte = this.peek();
    if (this.at >= this.end) return 'the end';
    if (byte === openList) return 'a list';
    if (byte === openObject) return 'an object';
    const text = this.source.toString('utf8', this.at, Math.min(this.end, this.at + shownBytes));
    if (byte === quote) return `the text ${quoted(text.slice(1).replace(/".*/s, ''))}`;
    return quoted(/^[^\s,\]}]*/.exec(text)?.[0] || text.slice(0, 1));
  }

  unexpected(what: string, expected: string): InvalidMessage {
    const { at } = this;
    return this.#failAt(at, `${what} should be ${expected}, and is ${this.shown()}`);
  }

  #failAt(at: number, what: string): InvalidMessage {
    return new InvalidMessage(`${what} (byte ${at} of the JSON)`);
  }
}
