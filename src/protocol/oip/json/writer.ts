// Writes JSON as bytes. Of a float32 it writes the fewest digits that are read as that float32 again, as JavaScript does
// for its own numbers: 0.1 rather than 0.10000000149011612, in less time and half the bytes.

const powers = Array.from({ length: 23 }, (_, i) => Number(`1e${i}`));
const maxPower = powers.length - 1;
/** Of a mantissa: no float32 needs more than 9, and the estimate of its size may be one power of 10 too small. */
const maxDigits = 10;
/** More than any number takes. */
const numberBytes = 32;
const [zero, point, minus, plus, exponentSign] = [0x30, 0x2e, 0x2d, 0x2b, 0x65] as const;

const word = new Int32Array(1);
const single = new Float32Array(word.buffer);
/** By the exponent of a float32: the power of 10 below, half the distance to the next one, and what makes it 9 or 10 digits. */
const scales = Array.from({ length: 255 }, (_, i) => Math.floor(Math.log10(2 ** (i - 127))));
const halfGaps = Array.from({ length: 255 }, (_, i) => 2 ** (Math.max(i, 1) - 151));
const factors = scales.map((scale) => Number(`1e${8 - scale}`));

export class JsonWriter {
  #bytes = Buffer.allocUnsafe(1024);
  #at = 0;

  /** What was written; nothing may be written after that. */
  finish(): Buffer {
    return this.#bytes.subarray(0, this.#at);
  }

  /** JSON that is ready. */
  raw(json: string): void {
    // A character takes three bytes of UTF-8 at the most.
    this.#reserve(3 * json.length);
    this.#at += this.#bytes.write(json, this.#at);
  }

  text(text: string): void {
    this.raw(JSON.stringify(text));
  }

  byte(byte: number): void {
    this.#reserve(1);
    this.#bytes[this.#at++] = byte;
  }

  /** @param value finite */
  float64(value: number): void {
    this.raw(Object.is(value, -0) ? '-0.0' : String(value));
  }

  /** @param value finite, and exact in 32 bits */
  float32(value: number): void {
    if (value === 0) {
      this.raw(Object.is(value, -0) ? '-0.0' : '0');
      return;
    }
    this.#reserve(numberBytes);
    if (value < 0) this.#bytes[this.#at++] = minus;
    this.#shortest(Math.abs(value));
  }

  /** Takes digits away from nine or ten of them, as long as what is left lies nearer to `size` than to any other float32. */
  #shortest(size: number): void {
    single[0] = size;
    const exponent = (word[0] as number) >>> 23;
    const scale = (scales[exponent] as number) - 8;
    const all = size * (factors[exponent] as number);
    // A little more, for a tie belongs to one of the two, and none of this is exact: what is left is read back below.
    const near = (halfGaps[exponent] as number) * (factors[exponent] as number) * (1 + 1e-7);
    let dropped = 0;
    for (let power = 10; dropped < 9; power *= 10, dropped++)
      if (Math.abs(Math.round(all / power) * power - all) > near) break;
    for (; dropped >= 0; dropped--) {
      const mantissa = Math.round(all / (powers[dropped] as number));
      if (mantissa === 0 || !isReadAs(mantissa, scale + dropped, size)) continue;
      this.#decimal(mantissa, scale + dropped);
      return;
    }
    // Where the gaps beside it are uneven, or it has few bits: as the float64 that it is as well.
    this.#shortestByTrial(size);
  }

  #shortestByTrial(size: number): void {
    for (let digits = 1; digits < 17; digits++) {
      const value = Number(size.toPrecision(digits));
      if (Math.fround(value) !== size) continue;
      this.raw(String(value));
      return;
    }
  }

  /** mantissa × 10^scale, in the form that JavaScript has for numbers. */
  #decimal(mantissa: number, scale: number): void {
    while (mantissa % 10 === 0) {
      mantissa /= 10;
      scale++;
    }
    let digits = 1;
    while (digits < maxDigits && mantissa >= (powers[digits] as number)) digits++;
    const bytes = this.#bytes;
    /** Digits before the point. */
    const whole = digits + scale;
    let at = this.#at;
    if (whole > 21 || whole <= -6) {
      const end = digits === 1 ? at + 1 : at + 1 + digits;
      writeDigits(bytes, digits === 1 ? at : at + 1, mantissa, digits);
      if (digits > 1) {
        bytes[at] = bytes[at + 1] as number;
        bytes[at + 1] = point;
      }
      bytes[end] = exponentSign;
      bytes[end + 1] = whole > 0 ? plus : minus;
      const exponent = Math.abs(whole - 1);
      const exponentDigits = exponent < 10 ? 1 : 2;
      writeDigits(bytes, end + 2, exponent, exponentDigits);
      this.#at = end + 2 + exponentDigits;
      return;
    }
    if (whole <= 0) {
      bytes[at++] = zero;
      bytes[at++] = point;
      for (let i = whole; i < 0; i++) bytes[at++] = zero;
      writeDigits(bytes, at, mantissa, digits);
      this.#at = at + digits;
    } else if (scale >= 0) {
      writeDigits(bytes, at, mantissa, digits);
      at += digits;
      for (let i = 0; i < scale; i++) bytes[at++] = zero;
      this.#at = at;
    } else {
      writeDigits(bytes, at + 1, mantissa, digits);
      for (let i = 0; i < whole; i++) bytes[at + i] = bytes[at + i + 1] as number;
      bytes[at + whole] = point;
      this.#at = at + digits + 1;
    }
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#at + bytes, 2 * this.#bytes.length));
    this.#bytes.copy(grown, 0, 0, this.#at);
    this.#bytes = grown;
  }
}

function writeDigits(bytes: Buffer, at: number, value: number, digits: number): void {
  for (let i = at + digits - 1; i >= at; i--) {
    const rest = (value / 10) | 0;
    bytes[i] = zero + value - 10 * rest;
    value = rest;
  }
}

/** value × 10^scale, rounded once for each 22 of the scale. */
function scaled(value: number, scale: number): number {
  for (; scale > maxPower; scale -= maxPower) value *= powers[maxPower] as number;
  for (; scale < -maxPower; scale += maxPower) value /= powers[maxPower] as number;
  return scale < 0 ? value / (powers[-scale] as number) : value * (powers[scale] as number);
}

/** Whether this decimal is read as the float32 `size`. */
function isReadAs(mantissa: number, scale: number, size: number): boolean {
  const value = scaled(mantissa, scale);
  // An exact number times or through an exact power is rounded as the decimal itself would be.
  if (scale >= -maxPower && scale <= maxPower) return Math.fround(value) === size;
  return Math.fround(value * (1 - 1e-13)) === size && Math.fround(value * (1 + 1e-13)) === size;
}
