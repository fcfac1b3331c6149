// The body of a request as it comes. Large pieces are kept as they are. A piece of a byte takes some 200 of memory, and a
// client may send a body in a million of them, so small ones are copied together: the whole never takes more than about
// twice its bytes.

/** A smaller piece is copied. */
const smallBytes = 1024;
const mostAtOnce = 64 * 1024;

const nothing: Buffer = Buffer.alloc(0);

export class Body {
  #pieces: Buffer[] = [];
  #bytes = 0;
  /** Small pieces after those of the list: `#tail[0, #filled)`. */
  #tail: Buffer = nothing;
  #filled = 0;

  /** @param piece of memory of its own */
  push(piece: Buffer): void {
    // Most bodies come in one piece. `[one]` allocates room for one element; a push to an empty array for seventeen.
    if (this.#bytes === 0) this.#pieces = [piece];
    else if (piece.length < smallBytes) this.#copy(piece);
    else {
      this.#seal();
      this.#pieces.push(piece);
    }
    this.#bytes += piece.length;
  }

  /** How many pieces of memory it is in. */
  get pieces(): number {
    return this.#pieces.length + (this.#filled > 0 ? 1 : 0);
  }

  /** All of it; nothing is kept. */
  take(): Buffer {
    this.#seal();
    const pieces = this.#pieces;
    this.clear();
    return pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces);
  }

  clear(): void {
    this.#pieces = [];
    this.#tail = nothing;
    this.#bytes = this.#filled = 0;
  }

  #copy(piece: Buffer): void {
    if (this.#filled + piece.length > this.#tail.length) {
      this.#seal();
      this.#tail = Buffer.allocUnsafeSlow(Math.min(mostAtOnce, Math.max(smallBytes, this.#bytes)));
    }
    this.#filled += piece.copy(this.#tail, this.#filled);
  }

  #seal(): void {
    if (this.#filled > 0) this.#pieces.push(this.#tail.subarray(0, this.#filled));
    this.#tail = nothing;
    this.#filled = 0;
  }
}
