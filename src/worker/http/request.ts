// A request as Node's parser fills it. Its body goes straight to who asks for it: as a stream it would be kept, and told
// of by events, which takes longer than most bodies are worth.

import { IncomingMessage } from 'node:http';

export interface BodyReader {
  /** @returns whether more may come now */
  take(chunk: Buffer): boolean;
  /** The body is complete. */
  ended(): void;
}

export class HttpRequest extends IncomingMessage {
  /** Set before the first byte of the body comes. */
  reader: BodyReader | null = null;

  /** Called by the parser: a piece of the body, of memory of its own, or null at its end. */
  override push(chunk: Buffer | null): boolean {
    if (chunk !== null) return this.reader === null || this.reader.take(chunk);
    super.push(null);
    this.reader?.ended();
    return true;
  }
}
