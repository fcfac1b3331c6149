// Turns the bytes of one connection into requests: submits whole frames to the endpoint, as many as it takes. The rest
// waits here, and so does an incomplete frame. Where there is a shared secret, the first frame must be it.

import { maxSecretBytes } from '../../config/formats.js';
import type { BufferPool } from '../../protocol/buffer-pool.js';
import { FrameDecoder, type LengthFieldSize } from '../../protocol/frames.js';
import type { ModelEndpoint } from '../../serving/model-endpoint.js';
import type { RequestAccounting } from '../../serving/request-accounting.js';
import type { FrameReader, ReadEnd, ReaderState } from './dialect.js';
import type { SharedSecret } from './shared-secret.js';

export interface RequestReaderOptions {
  readonly endpoint: ModelEndpoint;
  readonly requests: RequestAccounting;
  readonly lengthFieldSize: LengthFieldSize;
  /** What the first frame must be; null: it is a request like the others. */
  readonly secret: SharedSecret | null;
  readonly pool: BufferPool;
  /** Null: the connection began in this worker. */
  readonly state: ReaderState | null;
}

export class RequestReader implements FrameReader {
  readonly #endpoint: ModelEndpoint;
  readonly #requests: RequestAccounting;
  readonly #secret: SharedSecret | null;
  readonly #decoder: FrameDecoder;
  #isTrusted: boolean;
  #arrivedAt: number;
  #frameBegunAt: number;

  constructor({ endpoint, requests, lengthFieldSize, secret, pool, state }: RequestReaderOptions) {
    const { maxPayloadBytes } = endpoint.limits;
    this.#endpoint = endpoint;
    this.#requests = requests;
    this.#secret = secret;
    this.#isTrusted = state?.isTrusted ?? secret === null;
    this.#arrivedAt = state?.arrivedAt ?? 0;
    this.#frameBegunAt = state?.frameBegunAt ?? 0;
    const maxBytes = this.#isTrusted ? maxPayloadBytes : Math.min(maxPayloadBytes, maxSecretBytes);
    this.#decoder = new FrameDecoder(lengthFieldSize, maxBytes, pool);
    if (state !== null && state.unread.length > 0) this.#decoder.push(state.unread);
  }

  get isTrusted(): boolean {
    return this.#isTrusted;
  }

  /** When the incomplete frame began; 0 when there is none. */
  get frameBegunAt(): number {
    return this.#frameBegunAt;
  }

  /** Bytes that have not become requests yet. */
  get bufferedBytes(): number {
    return this.#decoder.bufferedBytes;
  }

  /** Bytes of an incomplete frame that are still to come, as far as that is known. */
  get missingBytes(): number {
    return this.#decoder.missingBytes;
  }

  /** What the frame announced that was too large. */
  get announcedBytes(): number {
    return this.#decoder.announcedBytes;
  }

  get state(): ReaderState {
    return {
      unread: this.#decoder.unread(),
      arrivedAt: this.#arrivedAt,
      frameBegunAt: this.#frameBegunAt,
      isTrusted: this.#isTrusted,
    };
  }

  /** Takes the bytes that came next; `chunk` must not change before `retain`. */
  push(chunk: Buffer, now: number): void {
    this.#arrivedAt = now;
    this.#decoder.push(chunk);
  }

  /** Copies what it still needs of the last chunk, whose memory may then be reused. */
  retain(): void {
    this.#decoder.retain();
  }

  /** Submits whole frames as long as the endpoint takes them. */
  read(): ReadEnd {
    if (!this.#isTrusted) {
      const status = this.#readSecret();
      if (status !== null) return status;
    }
    const before = this.#requests.inFlight;
    const end = this.#endpoint.submit(this.#requests, this.#decoder, this.#arrivedAt);
    this.#watchFrame(this.#requests.inFlight > before);
    // A large request ends a turn; when nothing has come after it, there is nothing to wait with.
    return end === 'turn' && this.#decoder.bufferedBytes === 0 ? 'incomplete' : end;
  }

  /** Counts a frame that was too large as a refused request. */
  refuse(): void {
    this.#endpoint.refuse(this.#requests, 'refusedPayloadTooLarge', this.#arrivedAt);
  }

  /** No more bytes will come, and no more requests will be read. */
  close(): void {
    this.#decoder.close();
  }

  /** Null when the client has sent the secret. */
  #readSecret(): 'incomplete' | 'wrong-secret' | null {
    const status = this.#decoder.next();
    const { source, start, end } = this.#decoder;
    if (status === 'incomplete') {
      this.#watchFrame(false);
      return status;
    }
    if (status === 'too-large' || !this.#secret?.matches(source.subarray(start, end))) return 'wrong-secret';
    this.#isTrusted = true;
    this.#decoder.maxPayloadBytes = this.#endpoint.limits.maxPayloadBytes;
    return null;
  }

  #watchFrame(hasMoved: boolean): void {
    if (!this.#decoder.isMidFrame) this.#frameBegunAt = 0;
    else if (hasMoved || this.#frameBegunAt === 0) this.#frameBegunAt = performance.now();
  }
}
