// The requests that one client has in flight, in the order they came, and what became of each. It counts: every request
// is received once and ends as exactly one of answered, failed, refused, expired, abandoned. It bounds: requests in
// flight, and memory, with all other clients.

import type { Batch } from '../inference/batch.js';
import type { Holder } from './memory-budget.js';
import type { ModelEndpoint } from './model-endpoint.js';
import type { Sender } from './reply-flush.js';
import { RequestGroup, type RequestRefusal } from './request-group.js';

/** A protocol's side of a client. */
export interface RequestClient extends Holder {
  /**
   * Encodes the replies of settled groups, in this order, and keeps them until `sendReplies`. Sets `failed` of a group
   * to how many of its requests have none.
   * @param now by the monotonic clock
   */
  encodeReplies(groups: readonly RequestGroup[], now: number): void;
  /** What was encoded is counted, and the counts are safe: it may leave. Called after the client has closed, too. */
  sendReplies(): void;
  /** Replies were encoded, so there may be room for more requests. */
  onAnswered(): void;
}

export class RequestAccounting implements Sender {
  readonly #endpoint: ModelEndpoint;
  readonly #client: RequestClient;
  #pending: RequestGroup[] = [];
  #inFlight = 0;
  /** Bytes of those of them that wait for a model, and that their replies will have. */
  #waitingBytes = 0;
  /** What the budget was told last. */
  #held = 0;
  #isClosed = false;
  #isFlushing = false;

  /** To be had from `ModelEndpoint.connect`. */
  constructor(endpoint: ModelEndpoint, client: RequestClient) {
    this.#endpoint = endpoint;
    this.#client = client;
    endpoint.budget.join();
  }

  /** Requests that wait for their replies. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Requests that it may have beside those. */
  get places(): number {
    return this.#endpoint.limits.maxInFlight - this.#inFlight;
  }

  /** Bytes that it may hold beside what it holds. */
  get room(): number {
    return this.#endpoint.budget.room(this.#client, this.#held);
  }

  /** Whether every request has its reply encoded. */
  get isEmpty(): boolean {
    return this.#pending.length === 0;
  }

  /** The group that its next requests join, with the endpoint to fill it. */
  begin(target: Batch | RequestRefusal, arrivedAt: number): RequestGroup {
    const group = new RequestGroup(target, arrivedAt, this.#onSettled);
    // `[one]` takes room for one; what is pushed to an empty array, for seventeen.
    if (this.#pending.length > 0) this.#pending.push(group);
    else this.#pending = [group];
    if (typeof target !== 'string') target.enter(group);
    return group;
  }

  /** So many requests have joined groups, with so many bytes that wait for a model and their replies. */
  received(requests: number, bytes: number): void {
    if (requests === 0) return;
    this.#inFlight += requests;
    this.#waitingBytes += bytes;
    this.#endpoint.recorder.count('received', requests);
  }

  /**
   * Has the replies encoded that are next in order and ready; they leave before the event loop turns to anything else.
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

  /** To be called by the reply flush. */
  send(): void {
    this.#isFlushing = false;
    this.#client.sendReplies();
  }

  /**
   * Tells the budget what the client holds; false when it may read no more, until it is told.
   * @param bytes beside its requests: what came and is no request yet, and replies that it has not taken
   */
  hold(bytes: number): boolean {
    const before = this.#held;
    this.#held = bytes + this.#waitingBytes;
    return this.#endpoint.budget.hold(this.#client, this.#held, before);
  }

  /** The client is gone. Nobody waits for its replies any more; rows that are still queued give their places back. */
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
  readonly #onSettled = (): void => {
    if (this.#isClosed) return;
    this.answer();
    this.#client.onAnswered();
  };

  #count({ target, requests, failed, bytes, arrivedAt }: RequestGroup, now: number): void {
    const { recorder } = this.#endpoint;
    this.#inFlight -= requests;
    this.#waitingBytes -= bytes;
    if (typeof target === 'string') recorder.count(target, requests);
    else if (failed > 0) recorder.count('failed', failed);
    if (typeof target === 'string' || failed === requests) return;
    recorder.count('answered', requests - failed);
    recorder.time('latency', now - arrivedAt, requests - failed);
  }
}
