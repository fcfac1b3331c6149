// One request in a protocol that answers in any order. It may have several payloads: rows that a client sends together.
// Each becomes a row of a batch, and they may be run in several; it is answered when all are.
//
//   enter ─▶ request groups, one for each batch that takes rows of it ─▶ all settled ─▶ owner.answered() or .failed()

import type { Batch, ReplyDims } from '../inference/batch.js';
import type { Expiry } from './deadlines.js';
import { type ModelEndpoint, refusals } from './model-endpoint.js';
import { type GroupOwner, type ReplySpan, RequestGroup, type RequestRefusal } from './request-group.js';

/** Payload `i` is `source[bounds[i], bounds[i + 1])`. */
export interface Payloads {
  readonly source: Buffer;
  readonly bounds: readonly number[];
}

/** Why a request has no reply, by the name of its counter. */
export type CallEnd = RequestRefusal | 'failed';

/** Gets what becomes of a request: one of the two is called, once. */
export interface CallOwner {
  /**
   * Encodes the reply from `call.replies()`.
   * @returns whether the protocol can say it; if not, the request counts as failed
   */
  answered(call: ServedCall): boolean;
  /**
   * @param detail what the model said; empty otherwise
   * @param retryAfterMs when it is likely to be served; 0: nobody knows
   */
  failed(end: CallEnd, detail: string, retryAfterMs: number): void;
}

/** The client whose request it is. */
export interface CallKeeper {
  /** It is over. */
  ended(call: ServedCall): void;
  /** Now, by the monotonic clock: the same for all whose replies leave together. */
  readonly now: number;
  /** Its owner has encoded something. */
  post(): void;
}

/** Of a request that has none yet: not to be changed. */
const noGroups: RequestGroup[] = [];

export class ServedCall implements GroupOwner {
  /** Of its rows in batches, and of the replies that they will have. */
  bytes = 0;
  /** When it expires, if it does. */
  expiry: Expiry | null = null;
  /** The others that its keeper has. */
  before: ServedCall | null = null;
  after: ServedCall | null = null;
  readonly #keeper: CallKeeper;
  readonly #endpoint: ModelEndpoint;
  readonly #arrivedAt: number;
  readonly #owner: CallOwner;
  #groups = noGroups;
  #unsettled = 0;
  #isOver = false;

  /** Called by `CallAccounting.submit`. */
  constructor(keeper: CallKeeper, endpoint: ModelEndpoint, arrivedAt: number, owner: CallOwner) {
    this.#keeper = keeper;
    this.#endpoint = endpoint;
    this.#arrivedAt = arrivedAt;
    this.#owner = owner;
  }

  /** Whether its end is counted. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Called once, by `CallAccounting.submit`. */
  enter({ source, bounds }: Payloads): void {
    const { batcher } = this.#endpoint;
    const rows = bounds.length - 1;
    let group: RequestGroup | null = null;
    for (let row = 0; row < rows; row++) {
      const start = bounds[row] as number;
      const end = bounds[row + 1] as number;
      const isAdmitted = batcher.admits(source, start, end);
      const batch = isAdmitted ? batcher.openBatch(this.#keeper) : null;
      if (batch === null) {
        group?.retain();
        if (isAdmitted) this.#end(refusals[batcher.refusal.reason], '', batcher.refusal.retryAfterMs);
        else this.#end('refusedBadInput', '', 0);
        return;
      }
      if (group?.target !== batch) {
        group?.retain();
        group = this.#begin(batch);
      }
      batch.add(source, start, end);
      group.rows++;
      group.bytes += end - start + batcher.replyBytes;
      this.bytes += end - start + batcher.replyBytes;
    }
    group?.retain();
  }

  /** The replies to its payloads, in their order. */
  replies(): readonly ReplySpan[] {
    const only = this.#onlyRow();
    if (only !== null) return [only.reply(0) as ReplySpan];
    const replies: ReplySpan[] = [];
    for (const group of this.#groups) for (let i = 0; i < group.rows; i++) replies.push(group.reply(i) as ReplySpan);
    return replies;
  }

  /** The dimensions of the outputs in each reply; null when the plan and the request tell them. */
  dims(): readonly (ReplyDims | null)[] | null {
    const only = this.#onlyRow();
    if (only !== null) {
      const dims = only.replyDims(0);
      return dims === null ? null : [dims];
    }
    if (!this.#groups.some((group) => group.hasReplyDims)) return null;
    return this.#groups.flatMap((group) => Array.from({ length: group.rows }, (_, i) => group.replyDims(i)));
  }

  /** The group of a request of one row, as most are; null when it has several. */
  #onlyRow(): RequestGroup | null {
    const groups = this.#groups;
    const first = groups[0];
    return first !== undefined && groups.length === 1 && first.rows === 1 ? first : null;
  }

  /** The client no longer wants it, or is gone. */
  cancel(): void {
    if (this.#isOver) return;
    this.#leave();
    this.#endpoint.recorder.count('abandoned');
  }

  /** Its time is over. */
  expire(): void {
    this.#end('expired', '', 0);
  }

  groupSettled(): void {
    if (this.#isOver) return;
    this.#unsettled--;
    for (const { target } of this.#groups)
      if (typeof target === 'string') {
        this.#end(target, '', 0);
        return;
      }
    if (this.#unsettled > 0) return;
    for (const group of this.#groups) {
      const error = group.firstError();
      if (error !== null) {
        this.#end('failed', error.message, 0);
        return;
      }
    }
    this.#answer();
  }

  #answer(): void {
    const { recorder } = this.#endpoint;
    this.#leave();
    const isAnswered = this.#owner.answered(this);
    recorder.count(isAnswered ? 'answered' : 'failed');
    if (isAnswered) recorder.time('latency', this.#keeper.now - this.#arrivedAt, 1);
    this.#keeper.post();
  }

  groupSplit(group: RequestGroup, rest: RequestGroup): void {
    this.#unsettled++;
    this.#groups.splice(this.#groups.indexOf(group) + 1, 0, rest);
  }

  #begin(batch: Batch): RequestGroup {
    const group = new RequestGroup(batch, this.#arrivedAt, this);
    // The first of its groups stands for the request, wherever requests are counted.
    if (this.#groups.length > 0) this.#groups.push(group);
    else {
      group.requests = 1;
      this.#groups = [group];
    }
    this.#unsettled++;
    batch.enter(group);
    return group;
  }

  #end(end: CallEnd, detail: string, retryAfterMs: number): void {
    if (this.#isOver) return;
    this.#leave();
    this.#endpoint.recorder.count(end);
    this.#owner.failed(end, detail, retryAfterMs);
    this.#keeper.post();
  }

  /** It is over, whatever its groups still wait for. */
  #leave(): void {
    this.#isOver = true;
    this.expiry?.remove(this);
    const { batcher } = this.#endpoint;
    for (const group of this.#groups)
      if (!group.isSettled && typeof group.target !== 'string') batcher.cancel(group.target, group);
    this.#keeper.ended(this);
  }
}
