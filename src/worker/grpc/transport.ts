// What gRPC asks of the connection below it: calls with a path and metadata, whole messages in and out, and a status at
// the end. Services know nothing else: what speaks HTTP/2 can be replaced (http2-session.ts).

import type { CallFailure } from '../oip/service.js';

/** How a call ends. */
export interface CallStatus {
  /** A google.rpc.Code. */
  readonly code: number;
  /** For people; empty when there is nothing to say. */
  readonly message: string;
  /** Why it failed, in our own words (errors.ts); null: none of those. */
  readonly reason: string | null;
  /** When another try is likely to succeed, in milliseconds; 0: nobody knows, or never. */
  readonly retryAfterMs: number;
}

/** A call of a client. After `end`, and after its handler has heard `cancelled`, its methods do nothing. */
export interface GrpcCall {
  /** `/package.Service/Method` */
  readonly path: string;
  /** Metadata of the client, by its name in lower case. */
  header(name: string): string | undefined;
  /** When its headers came, by the monotonic clock. */
  readonly openedAt: number;
  /** Sends a message, as `messageFrame` has begun it; it must not be changed any more. */
  send(frame: Buffer): void;
  /** Ends the call, with a last message if one is given. What the client still sends is not read. */
  end(status: CallStatus, frame?: Buffer): void;
  /** No further message comes until `resume`; one that has begun is kept. */
  pause(): void;
  resume(): void;
}

/** What becomes of a call. */
export interface CallHandler {
  /** Whether its first message may be long in coming. */
  readonly mayIdle: boolean;
  /** A message of the client: `source[start, end)`, which is valid until this returns. */
  message(source: Buffer, start: number, end: number): void;
  /** The client sends no more messages. */
  finished(): void;
  /** What the client sends is no message that may be taken. The handler must end the call. */
  refused(failure: CallFailure): void;
  /** The client no longer wants it, or is gone. */
  cancelled(): void;
}

/** What a session tells of its connection. */
export interface SessionHandler {
  /** A call begins. Null: it was ended at once. */
  opened(call: GrpcCall): CallHandler | null;
  /** `heldBytes` of the session has changed. */
  heldChanged(): void;
  /** The connection is closed. */
  closed(error: Error | null): void;
}

/** The calls of one connection. */
export interface GrpcSession {
  /** Calls and other requests that are not over. */
  readonly openCalls: number;
  /** Of them those that are no gRPC. */
  readonly openRequests: number;
  /** Bytes of messages that are not whole, and of replies that the client has not taken. */
  readonly heldBytes: number;
  /** When a client last sent something of a call, or took something of an answer. */
  readonly activeAt: number;
  /** How long answers wait already without the client taking any of them, in milliseconds. Called regularly. */
  stuckFor(now: number): number;
  /** Begins to read. */
  start(): void;
  /**
   * Refuses calls whose message was begun before `before` and is not whole.
   * @param isSure whether also while it does not read: the rest has had its chance to come
   */
  refuseSlow(before: number, isSure: boolean): void;
  /** Whether nothing came for twice this time, although the client was asked for a sign of life. Called regularly. */
  isDeaf(now: number, silenceMs: number): boolean;
  /** Whether it reads what the client sends. */
  setReading(isReading: boolean): void;
  /** Takes no new calls, and closes when those that are open have ended. No call fails: clients repeat them elsewhere. */
  close(): void;
  /** Closes now, whatever is open. */
  destroy(): void;
}
