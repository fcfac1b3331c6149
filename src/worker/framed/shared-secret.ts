// What a client without TLS can send to be let in: the payload of its first frame.

import { createHash, timingSafeEqual } from 'node:crypto';

export class SharedSecret {
  readonly #digest: Buffer;

  constructor(secret: string) {
    this.#digest = digest(Buffer.from(secret));
  }

  /** Takes a time that reveals nothing about the secret: compares digests of the same length, in full. */
  matches(shown: Uint8Array): boolean {
    return timingSafeEqual(digest(shown), this.#digest);
  }
}

function digest(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}
