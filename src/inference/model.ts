// The model contract, in two layers: what a user's own module exports, and what the batcher calls.

import type { Batch, Replies } from './batch.js';

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
  /** Called once when the worker ends. */
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

/** What every backend gives the batcher. */
export interface Model {
  /** Bytes of one input row, or null when a payload may have any length. */
  readonly inputBytes: number | null;
  /** For the `ready` log line: backend, dtypes and shapes. */
  readonly description: string;
  /** Answers a batch; a throw or a rejection fails every row of it. */
  run(batch: Batch): Replies | Promise<Replies>;
  close(): Promise<void>;
}
