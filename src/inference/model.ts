// The model contract, in two layers: what a user's own module exports, and what the batcher calls.

import type { Replies, RowSource } from './batch.js';

/** One reply per payload, in the order of the payloads. An Error in place of a reply fails that request alone. */
export type UserReplies = readonly (Uint8Array | Error)[];

/** A model of your own: what the default export of a module given as `models[].path` returns. */
export interface UserModel {
  /**
   * Answers a batch: as many replies as payloads, in the same order. To throw fails the whole batch: each of its
   * requests is answered with an empty frame and counted as an inference error.
   * @param payloads bytes of each request as the client sent them, without the length field; views that are valid
   *   until the call has settled: copy what you keep.
   */
  infer(payloads: readonly Buffer[]): UserReplies | Promise<UserReplies>;
  /**
   * A payload such as clients send. With `execution: auto` the model is measured with it before the port opens, and
   * runs in a thread when it would hold the event loop; without it, `auto` means inline.
   */
  readonly sample?: Uint8Array;
  /** Called once when the model is not needed any more: it was replaced, or the worker ends. */
  close?(): void | Promise<void>;
}

export interface UserModelOptions {
  /** The model's name in config. */
  readonly name: string;
  /** `models[].settings` of config, unread by the server. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/** The default export of a model module: called once a worker, before its port opens. */
export type LoadUserModel = (options: UserModelOptions) => UserModel | Promise<UserModel>;

/**
 * By how much a row's answer may differ between a run of its own and one that it shares: `exact`, not by a bit; or the
 * share of a number's size. Whole numbers and truth values must always be equal.
 */
export type BatchTolerance = number | 'exact';

/** What every backend gives the batcher. */
export interface Model {
  /** Bytes of one input row, or null when a payload may have any length. */
  readonly inputBytes: number | null;
  /** Bytes of one reply, or null when they differ or are not known. */
  readonly outputBytes: number | null;
  /**
   * Rows that it computes at once, where that number is fixed: it is given more in one call only as long as it takes no
   * time to speak of to compute them one lot after the other. Null: as many as there are.
   */
  readonly fixedRows: number | null;
  /** Why it must be given one row in a call; null: it may have more. */
  readonly runsAloneBecause: string | null;
  /** Runs that it takes at once. */
  readonly concurrency: number;
  /** Whether what it answers may lie in the memory of what it was asked: that is then kept until replies have left. */
  readonly mayReplyWithInput: boolean;
  /** For logs: backend, dtypes and shapes. */
  readonly description: string;
  /** A payload to measure it with: such as clients send. */
  readonly sample: Buffer | null;
  /**
   * Answers a batch; a throw or a rejection fails every row of it.
   * @param onLot called after each lot of rows, where it computes one after the other: it gets on, and does not hang
   */
  run(rows: RowSource, onLot?: () => void): Replies | Promise<Replies>;
  close(): Promise<void>;
}

/** A run has lost its thread, so that to try again would lose the next one; a new thread takes its place. */
export class ThreadLostError extends Error {}

/** The thread that ran a batch has ended. */
export class ThreadCrashedError extends ThreadLostError {
  constructor(reason: string, options?: ErrorOptions) {
    super(`the thread of the model crashed: ${reason}`, options);
    this.name = 'ThreadCrashedError';
  }
}

/** The thread that ran a batch is still at it, and nobody waits for it any more. */
export class ThreadHungError extends ThreadLostError {
  override readonly name = 'ThreadHungError';
}
