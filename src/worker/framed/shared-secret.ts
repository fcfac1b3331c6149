// What a client without TLS can show to be let in: the payload of its first frame.

import { createHash, timingSafeEqual } from 'node:crypto';

export class SharedSecret {
  readonly #digest: Buffer;

  constructor(secret: string) {
    this.#digest = digest(Buffer.from(secret));
  }

  /** In a time that tells nothing of the secret: digests of the same length are compared, all of them. */
  matches(shown: Uint8Array): boolean {
    return timingSafeEqual(digest(shown), this.#digest);
  }
}

function digest(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}
