// The model contract, in two layers: what a user's own module exports, and what the batcher calls.

import type { Replies, RowSource } from './batch.js';
import type { ModelPlan } from './plan.js';

/** One reply per payload, in the order of the payloads. An Error in place of a reply fails that request alone. */
export type UserReplies = readonly (Uint8Array | Error)[];

/** Your own model: what the default export of a module given as `models[].path` returns. */
export interface UserModel {
  /**
   * Answers a batch: as many replies as payloads, in the same order. A throw fails the whole batch: each of its
   * requests is answered with an empty frame and counted as an inference error.
   * @param payloads bytes of each request as the client sent them, without the length field; views that are valid
   *   until the call has settled: copy what you need later.
   */
  infer(payloads: readonly Buffer[]): UserReplies | Promise<UserReplies>;
  /**
   * A payload such as clients send. With `execution: auto` the model is measured with it before the port opens, and
   * runs in a thread when it would block the event loop; without it, `auto` means inline.
   */
  readonly sample?: Uint8Array;
  /** Called once when the model is no longer needed: it was replaced, or the worker ends. */
  close?(): void | Promise<void>;
}

export interface UserModelOptions {
  /** The model's name in config. */
  readonly name: string;
  /** `models[].settings` of config; the server does not read them. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/** The default export of a model module: called once in each worker, before its port opens. */
export type LoadUserModel = (options: UserModelOptions) => UserModel | Promise<UserModel>;

/**
 * How much a row's answer may differ between a run of its own and a shared one: not by a bit (`exact`), or by this
 * fraction of a number's magnitude. Integers and booleans must always be equal.
 */
export type BatchTolerance = number | 'exact';

/** What every backend provides to the batcher. */
export interface Model {
  /** Bytes of one input row, or null when a payload may have any length. */
  readonly inputBytes: number | null;
  /** Bytes of one reply, or null when replies differ or their size is not known. */
  readonly outputBytes: number | null;
  /**
   * Rows that the model computes at once, when that number is fixed. A call then gets more rows only if computing them
   * one lot after another takes next to no time. Null: any number.
   */
  readonly fixedRows: number | null;
  /** Why a call must have a single row; null when it may have more. */
  readonly runsAloneBecause: string | null;
  /** Runs that may be in progress at once. */
  readonly concurrency: number;
  /** Whether replies may lie in the memory of the rows: that memory is then kept until the replies have left. */
  readonly mayReplyWithInput: boolean;
  /** Its tensors and how requests share a run; null for a model whose payloads only it understands. */
  readonly plan: ModelPlan | null;
  /** For logs: backend, dtypes and shapes. */
  readonly description: string;
  /** A payload such as clients send, to measure the model with. */
  readonly sample: Buffer | null;
  /** Whether `source[start, end)` is a payload of the model; left out where any is, and where `inputBytes` tells. */
  accepts?(source: Buffer, start: number, end: number): boolean;
  /** How many rows a payload that it accepts has; left out where each has one. */
  rowsIn?(payload: Buffer): number;
  /**
   * Answers a batch; a throw or a rejection fails every row of it.
   * @param onLot called after each lot of rows, when it computes several: this shows progress, so that a long run does
   *   not count as hanging
   */
  run(rows: RowSource, onLot?: () => void): Replies | Promise<Replies>;
  close(): Promise<void>;
}

/** What was found and proved when a model was loaded: a later load of the same files need not find it again. */
export interface KnownModel {
  readonly plan: ModelPlan;
  readonly sample: Uint8Array | null;
}

/** What is known of a model by this one, if anything. */
export const knownBy = ({ plan, sample }: Pick<Model, 'plan' | 'sample'>): KnownModel | null =>
  plan === null ? null : { plan, sample };

/** A run that several requests shared has failed; each of them may still succeed in a run of its own. */
export class SharedRunError extends Error {
  override readonly name = 'SharedRunError';

  constructor(cause: Error) {
    super(cause.message, { cause });
  }
}

/** A run has lost its thread, and a retry would lose the next one; a new thread replaces the lost one. */
export class ThreadLostError extends Error {}

/** The thread that ran a batch has ended. */
export class ThreadCrashedError extends ThreadLostError {
  constructor(reason: string, options?: ErrorOptions) {
    super(`the thread of the model crashed: ${reason}`, options);
    this.name = 'ThreadCrashedError';
  }
}

/** The thread that runs a batch is still busy with it, but the server has given up waiting for it. */
export class ThreadHungError extends ThreadLostError {
  override readonly name = 'ThreadHungError';
}
