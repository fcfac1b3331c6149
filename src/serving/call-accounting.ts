// The requests that one client has in flight in a protocol that answers in any order: each has a number or a stream of
// its own, and may be for another model. Counts them like request-accounting.ts: every request is received once and
// ends as exactly one of answered, failed, refused, expired, abandoned.

import type { Deadlines } from './deadlines.js';
import type { Holder, MemoryBudget } from './memory-budget.js';
import type { ModelEndpoint } from './model-endpoint.js';
import type { ReplyFlush, Sender } from './reply-flush.js';
import type { RequestRefusal } from './request-group.js';
import { type CallKeeper, type CallOwner, type Payloads, ServedCall } from './served-call.js';

/** A protocol's side of a client. */
export interface CallClient extends Holder {
  /**
   * Sends what owners of calls have encoded since the last time: it is counted, and the counts are safe. There may be
   * room for more requests. Also called after the client has closed.
   */
  sendReplies(): void;
}

export interface CallServing {
  readonly budget: MemoryBudget;
  readonly flush: ReplyFlush;
  readonly deadlines: Deadlines;
  /** Requests that a client may have in flight. */
  readonly maxInFlight: number;
}

export class CallAccounting implements Sender, CallKeeper {
  readonly #serving: CallServing;
  readonly #client: CallClient;
  /** The calls in flight are a list: a set of them would cost more than all else that is done here. */
  #newest: ServedCall | null = null;
  #inFlight = 0;
  /** Bytes of the requests that wait for a model, and of the replies that they will have. */
  #waitingBytes = 0;
  /** The bytes that were last reported to the budget. */
  #held = 0;
  #isClosed = false;
  #isFlushing = false;
  /** When the first of the replies was encoded that leave next; 0: there is none. */
  #answeredAt = 0;

  constructor(serving: CallServing, client: CallClient) {
    this.#serving = serving;
    this.#client = client;
    serving.budget.join();
  }

  /** Requests that wait for their replies. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Further requests that the client may have in flight. */
  get places(): number {
    return this.#serving.maxInFlight - this.#inFlight;
  }

  /** Further bytes that the client may hold. */
  get room(): number {
    return this.#serving.budget.room(this.#client, this.#held);
  }

  /**
   * Submits a request. One that the model cannot take, or has no room for, is refused as a whole: its owner may be
   * called before this returns.
   * @param payloads their memory may be reused when this has returned
   * @param arrivedAt when the last of their bytes came, by the monotonic clock
   * @param timeoutMs in which an answer is of use, from then on; 0: whenever it comes
   */
  submit(
    endpoint: ModelEndpoint,
    payloads: Payloads,
    arrivedAt: number,
    timeoutMs: number,
    owner: CallOwner,
  ): ServedCall {
    const call = new ServedCall(this, endpoint, arrivedAt, owner);
    endpoint.recorder.count('received');
    this.#link(call);
    call.enter(payloads);
    this.#waitingBytes += call.bytes;
    if (timeoutMs > 0 && !call.isOver)
      call.expiry = this.#serving.deadlines.add(call, arrivedAt + timeoutMs, timeoutMs);
    return call;
  }

  /** Counts a request that the protocol itself refuses, and answers. */
  refuse(endpoint: ModelEndpoint, reason: RequestRefusal): void {
    endpoint.recorder.count('received');
    endpoint.recorder.count(reason);
    this.post();
  }

  /** Has the client send what was encoded, before the event loop turns to anything else, when the counts are safe. */
  post(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    this.#serving.flush.post(this);
  }

  /** Called by the reply flush. */
  send(): void {
    this.#isFlushing = false;
    this.#answeredAt = 0;
    this.#client.sendReplies();
  }

  /**
   * Reports to the budget what the client holds; false when it may read no more until `resumeReading`.
   * @param bytes held besides its requests: what has come but is not a request yet, and replies that it has not taken
   */
  hold(bytes: number): boolean {
    if (this.#isClosed) return false;
    const before = this.#held;
    this.#held = bytes + this.#waitingBytes;
    return this.#serving.budget.hold(this.#client, this.#held, before);
  }

  /** The client is gone: its replies are no longer needed, and its rows that are still queued free their places. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#serving.budget.leave(this.#client, this.#held);
    while (this.#newest !== null) this.#newest.cancel();
  }

  /** Called by the call when it is over. */
  ended(call: ServedCall): void {
    this.#unlink(call);
    this.#waitingBytes -= call.bytes;
  }

  get now(): number {
    if (this.#answeredAt === 0) this.#answeredAt = performance.now();
    return this.#answeredAt;
  }

  #link(call: ServedCall): void {
    call.before = this.#newest;
    if (this.#newest !== null) this.#newest.after = call;
    this.#newest = call;
    this.#inFlight++;
  }

  #unlink(call: ServedCall): void {
    const { before, after } = call;
    if (before !== null) before.after = after;
    if (after === null) this.#newest = before;
    else after.before = before;
    call.before = call.after = null;
    this.#inFlight--;
  }
}
