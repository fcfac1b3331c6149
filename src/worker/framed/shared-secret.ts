// What a client can send to be let in: the payload of its first frame, a field of its first call, or a header.

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

  /** @param authorization the header Authorization, each of its bytes a character, as Node reads headers */
  isBearer(authorization = ''): boolean {
    const shown = /^Bearer +(.+)$/i.exec(authorization.trimEnd())?.[1];
    return shown !== undefined && this.matches(Buffer.from(shown, 'latin1'));
  }
}

function digest(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}
