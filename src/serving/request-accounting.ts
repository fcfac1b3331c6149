// The requests that one client has in flight, in the order they came, and what became of each. Counts them: every
// request is received once and ends as exactly one of answered, failed, refused, expired, abandoned. Limits the
// requests in flight, and the memory that all clients hold together.

import type { Batch } from '../inference/batch.js';
import type { Holder } from './memory-budget.js';
import type { ModelEndpoint } from './model-endpoint.js';
import type { Sender } from './reply-flush.js';
import { type GroupOwner, RequestGroup, type RequestRefusal } from './request-group.js';

/** A protocol's side of a client. */
export interface RequestClient extends Holder {
  /**
   * Encodes the replies of settled groups, in this order, and keeps them until `sendReplies`. Sets `failed` of each
   * group to how many of its requests have no reply.
   * @param now by the monotonic clock
   */
  encodeReplies(groups: readonly RequestGroup[], now: number): void;
  /** Sends the encoded replies: they are counted, and the counts are safe. Also called after the client has closed. */
  sendReplies(): void;
  /** Replies were encoded, so there may be room for more requests. */
  onAnswered(): void;
  /** Some or all of its requests have no reply: refused, expired or failed, and counted. */
  onUnanswered?(group: RequestGroup, now: number): void;
}

export class RequestAccounting implements Sender, GroupOwner {
  readonly #endpoint: ModelEndpoint;
  readonly #client: RequestClient;
  #pending: RequestGroup[] = [];
  #inFlight = 0;
  /** Bytes of the requests that wait for a model, and of the replies that they will have. */
  #waitingBytes = 0;
  /** The bytes that were last reported to the budget. */
  #held = 0;
  #isClosed = false;
  #isFlushing = false;

  /** Called by `ModelEndpoint.connect`. */
  constructor(endpoint: ModelEndpoint, client: RequestClient) {
    this.#endpoint = endpoint;
    this.#client = client;
    endpoint.budget.join();
  }

  /** Requests that wait for their replies. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Further requests that the client may have in flight. */
  get places(): number {
    return this.#endpoint.limits.maxInFlight - this.#inFlight;
  }

  /** Further bytes that the client may hold. */
  get room(): number {
    return this.#endpoint.budget.room(this.#client, this.#held);
  }

  /** Whether every request has its reply encoded. */
  get isEmpty(): boolean {
    return this.#pending.length === 0;
  }

  /** Begins the group that the next requests join; the endpoint fills it. */
  begin(target: Batch | RequestRefusal, arrivedAt: number): RequestGroup {
    const group = new RequestGroup(target, arrivedAt, this);
    // `[one]` allocates room for one element; a push to an empty array allocates room for seventeen.
    if (this.#pending.length > 0) this.#pending.push(group);
    else this.#pending = [group];
    if (typeof target !== 'string') target.enter(group);
    return group;
  }

  /**
   * Takes note of `requests` that have joined groups, and of the `bytes` that they and their replies take while they
   * wait for a model.
   */
  received(requests: number, bytes: number): void {
    if (requests === 0) return;
    this.#inFlight += requests;
    this.#waitingBytes += bytes;
    this.#endpoint.recorder.count('received', requests);
  }

  /**
   * Has the next replies in order encoded, as far as they are ready; they leave before the event loop turns to anything
   * else.
   */
  answer(): void {
    let settled = 0;
    for (const group of this.#pending) {
      if (!group.isSettled) break;
      settled++;
    }
    if (settled === 0) return;
    const groups = this.#takeFirst(settled);
    const now = performance.now();
    this.#client.encodeReplies(groups, now);
    for (const group of groups) this.#count(group, now);
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    this.#endpoint.flush.post(this);
  }

  /** Called by the reply flush. */
  send(): void {
    this.#isFlushing = false;
    this.#client.sendReplies();
  }

  /**
   * Reports to the budget what the client holds; false when it may read no more until `resumeReading`.
   * @param bytes held besides its requests: what has come but is not a request yet, and replies that it has not taken
   */
  hold(bytes: number): boolean {
    const before = this.#held;
    this.#held = bytes + this.#waitingBytes;
    return this.#endpoint.budget.hold(this.#client, this.#held, before);
  }

  /** The client is gone: its replies are no longer needed, and its rows that are still queued free their places. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { batcher, recorder, budget } = this.#endpoint;
    budget.leave(this.#client, this.#held);
    if (this.#inFlight > 0) recorder.count('abandoned', this.#inFlight);
    for (const group of this.#pending) if (typeof group.target !== 'string') batcher.cancel(group.target, group);
    this.#inFlight = 0;
    this.#pending = [];
  }

  #takeFirst(count: number): readonly RequestGroup[] {
    if (count < this.#pending.length) return this.#pending.splice(0, count);
    const all = this.#pending;
    this.#pending = [];
    return all;
  }

  /** The model has answered, or a deadline has passed, for one of the groups. */
  groupSettled(): void {
    if (this.#isClosed) return;
    this.answer();
    this.#client.onAnswered();
  }

  groupSplit(group: RequestGroup, rest: RequestGroup): void {
    this.#pending.splice(this.#pending.indexOf(group) + 1, 0, rest);
  }

  #count(group: RequestGroup, now: number): void {
    const { target, requests, failed, bytes, arrivedAt } = group;
    const { recorder } = this.#endpoint;
    this.#inFlight -= requests;
    this.#waitingBytes -= bytes;
    if (typeof target === 'string') {
      recorder.count(target, requests);
      this.#client.onUnanswered?.(group, now);
      return;
    }
    if (failed > 0) {
      recorder.count('failed', failed);
      this.#client.onUnanswered?.(group, now);
      if (failed === requests) return;
    }
    recorder.count('answered', requests - failed);
    recorder.time('latency', now - arrivedAt, requests - failed);
  }
}
