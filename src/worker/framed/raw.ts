// Raw frames: each frame is a payload of the listener's model; each reply is a frame, in the order of the requests, and
// an empty one where there is none.

import type { BufferPool } from '../../protocol/buffer-pool.js';
import { emptyFrame, type LengthFieldSize } from '../../protocol/frames.js';
import type { ModelEndpoint } from '../../serving/model-endpoint.js';
import type { RequestAccounting, RequestClient } from '../../serving/request-accounting.js';
import type { RequestGroup } from '../../serving/request-group.js';
import type { ClientRejections } from '../rejection-log.js';
import type { Dialect, DialectHost, OpenDialect, ReaderState } from './dialect.js';
import { noteUnanswered } from './raw-rejections.js';
import { repliesSize, writeReplies } from './reply-encoder.js';
import { RequestReader } from './request-reader.js';
import type { SharedSecret } from './shared-secret.js';

export interface RawContext {
  readonly lengthFieldSize: LengthFieldSize;
  readonly secret: SharedSecret | null;
  readonly pool: BufferPool;
}

/**
 * Raw frames for this model.
 * @param rejections is told why requests have no reply, for operators
 */
export const rawFrames =
  (endpoint: ModelEndpoint, context: RawContext, rejections: ClientRejections | null = null): OpenDialect =>
  (host, state) =>
    new RawDialect(endpoint, context, rejections, host, state);

class RawDialect implements Dialect, RequestClient {
  readonly requests: RequestAccounting;
  readonly reader: RequestReader;
  readonly #host: DialectHost;
  readonly #endpoint: ModelEndpoint;
  readonly #rejections: ClientRejections | null;
  readonly #lengthFieldSize: LengthFieldSize;

  constructor(
    endpoint: ModelEndpoint,
    context: RawContext,
    rejections: ClientRejections | null,
    host: DialectHost,
    state: ReaderState | null,
  ) {
    this.#host = host;
    this.#endpoint = endpoint;
    this.#rejections = rejections;
    this.#lengthFieldSize = context.lengthFieldSize;
    this.requests = endpoint.connect(this);
    this.reader = new RequestReader({ endpoint, requests: this.requests, ...context, state });
  }

  wrongSecret(): Buffer {
    return emptyFrame(this.#lengthFieldSize);
  }

  /** An empty frame would be the reply to a request. */
  sayGoingAway(): void {}

  /** Encodes all replies into one buffer. */
  encodeReplies(groups: readonly RequestGroup[], now: number): void {
    const { writer } = this.#host;
    const lengthFieldSize = this.#lengthFieldSize;
    let size = 0;
    for (const group of groups) size += repliesSize(group, lengthFieldSize);
    const out = writer.take(size);
    let at = 0;
    for (const group of groups) {
      group.failed = writeReplies(group, out, at, lengthFieldSize);
      at += repliesSize(group, lengthFieldSize);
    }
    this.#host.replied(size, now);
    writer.post(out);
  }

  sendReplies(): void {
    this.#host.sendReplies();
  }

  onAnswered(): void {
    this.#host.onAnswered();
  }

  onUnanswered(group: RequestGroup, now: number): void {
    if (this.#rejections === null) return;
    noteUnanswered(this.#rejections, this.#endpoint, group, now, this.reader.announcedBytes);
  }

  resumeReading(): void {
    this.#host.resumeReading();
  }

  endTurn(): void {
    this.#host.endTurn();
  }
}
