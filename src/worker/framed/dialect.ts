// What the protocols on frames do in ways of their own: raw frames (raw.ts) and calls (../calls/). The connection does
// the rest: its phases, back-pressure, time limits and migration.

import type { ConnectionState } from '../../ipc/connection-state.js';
import type { SubmitStop } from '../../serving/model-endpoint.js';
import type { ReplyWriter } from './reply-writer.js';

/**
 * Why reading has stopped. `incomplete`: no whole frame is left; after the others that are no SubmitStop, reading cannot
 * continue.
 */
export type ReadEnd = 'incomplete' | 'too-large' | 'wrong-secret' | 'malformed' | SubmitStop;

/** What another worker needs to continue where a reader has stopped. */
export type ReaderState = Pick<ConnectionState, 'unread' | 'arrivedAt' | 'frameBegunAt' | 'isTrusted'>;

/** Turns the bytes of one connection into requests. */
export interface FrameReader {
  /** Whether the client has sent the shared secret, or need not. */
  readonly isTrusted: boolean;
  /** When the incomplete frame began; 0 when there is none. */
  readonly frameBegunAt: number;
  /** Bytes that have not become requests yet. */
  readonly bufferedBytes: number;
  /** Bytes of an incomplete frame that are still to come, as far as that is known. */
  readonly missingBytes: number;
  readonly state: ReaderState;
  /** Takes the bytes that came next; `chunk` must not change before `retain`. */
  push(chunk: Buffer, now: number): void;
  /** Copies what it still needs of the last chunk, whose memory may then be reused. */
  retain(): void;
  /** Submits whole frames as long as they are taken. */
  read(): ReadEnd;
  /** Refuses the last frame; the connection ends when all is answered. */
  refuse(end: 'too-large' | 'malformed'): void;
  /** No more bytes will come, and no more requests will be read. */
  close(): void;
}

/** The requests of one connection. */
export interface FrameRequests {
  /** Requests that wait for their replies. */
  readonly inFlight: number;
  /** Further requests that the client may have in flight. */
  readonly places: number;
  /** Whether every request has its reply encoded. */
  readonly isEmpty: boolean;
  /** Has the next replies encoded, as far as they are ready. */
  answer(): void;
  /** Reports what the client holds besides its requests; false when it may read no more until `resumeReading`. */
  hold(bytes: number): boolean;
  /** The client is gone. */
  close(): void;
}

/** How one connection speaks. */
export interface Dialect {
  readonly reader: FrameReader;
  readonly requests: FrameRequests;
  /** The last bytes for a client that has not sent the shared secret. */
  wrongSecret(): Buffer;
  /** Tells the client that the server is about to go, where the protocol can say so. */
  sayGoingAway(): void;
}

/** The connection, as its dialect sees it. */
export interface DialectHost {
  readonly writer: ReplyWriter;
  /** Replies were posted to the writer. */
  replied(bytes: number, now: number): void;
  /** Has the writer write what was posted: it is counted, and the counts are safe. */
  sendReplies(): void;
  /** Replies were encoded, so there may be room for more requests. */
  onAnswered(): void;
  resumeReading(): void;
  endTurn(): void;
}

/** Makes the dialect of a connection; `state` when it began in another worker. */
export type OpenDialect = (host: DialectHost, state: ReaderState | null) => Dialect;
