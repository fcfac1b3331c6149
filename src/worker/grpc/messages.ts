// Messages as gRPC frames them: a byte that says whether the message is compressed, its length in 4 bytes, the message.

/** In front of each message. */
export const prefixBytes = 5;
/** Below this, memory that waits for more is not worth a second allocation. */
const smallest = 512;
const nothing: Buffer = Buffer.alloc(0);

/** A frame for a message of so many bytes, which has to be written behind the prefix. */
export function messageFrame(bytes: number, isCompressed = false): Buffer {
  const frame = Buffer.allocUnsafe(prefixBytes + bytes);
  frame[0] = isCompressed ? 1 : 0;
  frame.writeUInt32BE(bytes, 1);
  return frame;
}

export function frameOf(message: Uint8Array, isCompressed = false): Buffer {
  const frame = messageFrame(message.length, isCompressed);
  frame.set(message, prefixBytes);
  return frame;
}

/**
 * Finds messages in the chunks of a call. A message that lies in one chunk is not copied. Memory grows with what has
 * come, not with what a length announces.
 *
 *   reader.push(chunk);
 *   while (reader.next() === 'message') use(reader.source, reader.start, reader.end);
 *   reader.retain();
 */
export class MessageReader {
  /** After `next` has found a message: where it is. */
  source = nothing;
  start = 0;
  end = 0;
  isCompressed = false;
  /** What was not read yet is `source[#at, #filled)`. */
  #at = 0;
  #filled = 0;
  #isOwn = true;
  readonly #maxBytes: number;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes that were pushed and are in no message yet. */
  get heldBytes(): number {
    return this.#filled - this.#at;
  }

  /** How many bytes the message that `next` has refused would have. */
  get announcedBytes(): number {
    return this.source.readUInt32BE(this.#at + 1);
  }

  /** Call it only after `retain`. */
  push(chunk: Buffer): void {
    const held = this.heldBytes;
    if (held === 0) {
      this.source = chunk;
      this.#at = 0;
      this.#filled = chunk.length;
      this.#isOwn = false;
      return;
    }
    if (this.#filled + chunk.length > this.source.length) {
      const most = prefixBytes + this.#maxBytes;
      const grown = Buffer.allocUnsafe(Math.max(smallest, Math.min(2 * held, most), held + chunk.length));
      this.source.copy(grown, 0, this.#at, this.#filled);
      this.source = grown;
      this.#at = 0;
      this.#filled = held;
    }
    chunk.copy(this.source, this.#filled);
    this.#filled += chunk.length;
  }

  /** Moves to the next message; `incomplete` when it has not come whole. */
  next(): 'message' | 'incomplete' | 'too-large' | 'malformed' {
    const at = this.#at;
    const bytes = this.#filled - at;
    if (bytes < prefixBytes) return 'incomplete';
    const flag = this.source[at] as number;
    if (flag > 1) return 'malformed';
    const length = this.source.readUInt32BE(at + 1);
    if (length > this.#maxBytes) return 'too-large';
    if (bytes < prefixBytes + length) return 'incomplete';
    this.isCompressed = flag === 1;
    this.start = at + prefixBytes;
    this.end = this.#at = this.start + length;
    return 'message';
  }

  /** Copies what is left: chunks are parts of larger memory, which would be kept whole. */
  retain(): void {
    const held = this.heldBytes;
    if (this.#isOwn && held > 0) return;
    this.#isOwn = true;
    const own = held === 0 ? nothing : Buffer.allocUnsafe(Math.max(smallest, held));
    if (held > 0) this.source.copy(own, 0, this.#at, this.#filled);
    this.source = own;
    this.#at = 0;
    this.#filled = held;
  }
}
