// What the last request had at one place of its bytes: most requests differ from the last in their data alone.

/** More is not kept: names and shapes are shorter. */
const maxBytes = 512;

export class Remembered<T> {
  readonly #bytes = Buffer.allocUnsafeSlow(maxBytes);
  #length = -1;
  #value: T | undefined;

  /** What these bytes meant, if they are those of the last time. */
  recall(source: Buffer, start: number, end: number): T | undefined {
    const length = end - start;
    if (length !== this.#length) return undefined;
    const bytes = this.#bytes;
    // From the end: that is where shapes and numbered names differ.
    for (let i = length - 1; i >= 0; i--) if (bytes[i] !== source[start + i]) return undefined;
    return this.#value;
  }

  keep(source: Buffer, start: number, end: number, value: T): void {
    if (end - start > maxBytes) return;
    source.copy(this.#bytes, 0, start, end);
    this.#length = end - start;
    this.#value = value;
  }
}
