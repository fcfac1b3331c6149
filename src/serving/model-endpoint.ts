// Where requests to a model enter, whatever protocol they came by. A protocol turns bytes into payloads and outcomes
// into bytes; everything between is here, and the same for each protocol: counts, limits, batching, and making counts
// safe before a reply leaves.
//
//   protocol                                 serving                                          inference
//   bytes ─▶ PayloadCursor ─▶ submit() ─▶ RequestAccounting: RequestGroups, in order ─▶ Batcher ─▶ the model
//   bytes ◀─ encodeReplies(), sendReplies() ◀─ counted, then safe (ReplyFlush) ◀─ outcome ◀─┘
//
// A protocol calls `connect` once for each client, `submit` with what it has read, and closes what `connect` returned
// when the client is gone.

import type { Batcher, QueueRefusal } from '../inference/batcher.js';
import type { ModelRecorder, WorkerCounter } from '../metrics/recorder.js';
import type { MemoryBudget } from './memory-budget.js';
import type { ReplyFlush } from './reply-flush.js';
import { RequestAccounting, type RequestClient } from './request-accounting.js';
import type { RequestGroup, RequestRefusal } from './request-group.js';

/** Limits of each client. */
export interface RequestLimits {
  /** Enforced by the protocol, which knows the length of a payload before the payload has come. */
  readonly maxPayloadBytes: number;
  /** Requests that a client may have in flight. */
  readonly maxInFlight: number;
}

/** The payloads that a client has sent, one after the other. */
export interface PayloadCursor<End extends string> {
  /** Moves to the next payload; any result other than `frame` is the reason why there is none. */
  next(): 'frame' | End;
  /** The payload is `source[start, end)`, until the next call. */
  readonly source: Buffer;
  readonly start: number;
  readonly end: number;
}

/** Why a client may submit no more, by the name of its counter; `turn`: not in this turn of the event loop. */
export type SubmitStop = Extract<WorkerCounter, 'pausedByInFlight' | 'pausedByMemory'> | 'turn';

/**
 * How many requests one client may submit in a turn of the event loop: clients with few must not wait for thousands.
 */
const maxRequestsATurn = 256;
/** The same in bytes of requests and of their replies. */
const maxBytesATurn = 32 * 1024;

/** What a request is counted as that the batcher refused. */
export const refusals = { full: 'refusedQueueFull', overloaded: 'refusedOverloaded' } as const satisfies Readonly<
  Record<QueueRefusal['reason'], RequestRefusal>
>;

export interface ModelEndpointOptions {
  /** Of the model, for people. */
  readonly name?: string;
  readonly batcher: Batcher;
  readonly recorder: ModelRecorder;
  readonly limits: RequestLimits;
  /** Shared by all endpoints of the process. */
  readonly budget: MemoryBudget;
  readonly flush: ReplyFlush;
}

export class ModelEndpoint {
  readonly name: string;
  readonly batcher: Batcher;
  readonly recorder: ModelRecorder;
  readonly limits: RequestLimits;
  readonly budget: MemoryBudget;
  readonly flush: ReplyFlush;

  constructor({ name = '', batcher, recorder, limits, budget, flush }: ModelEndpointOptions) {
    this.name = name;
    this.batcher = batcher;
    this.recorder = recorder;
    this.limits = limits;
    this.budget = budget;
    this.flush = flush;
  }

  connect(client: RequestClient): RequestAccounting {
    return new RequestAccounting(this, client);
  }

  /**
   * Submits a request for each payload, as many as the limits allow; returns why it stopped. A payload that the model
   * cannot take, or has no room for, is refused, in its place in the order.
   * @param payloads their memory may be reused when this has returned
   * @param arrivedAt when the last of their bytes came, by the monotonic clock
   */
  submit<End extends string>(
    requests: RequestAccounting,
    payloads: PayloadCursor<End>,
    arrivedAt: number,
  ): SubmitStop | End {
    const { batcher } = this;
    const { replyBytes } = batcher;
    const { places, room } = requests;
    // The replies do not exist yet, and will need memory.
    const affordable = room <= 0 ? 0 : Math.ceil(room / replyBytes);
    const most = Math.min(places, affordable, maxRequestsATurn);
    let group: RequestGroup | null = null;
    let taken = 0;
    let bytes = 0;
    let stop: SubmitStop | End;
    for (;;) {
      if (taken >= most || bytes >= maxBytesATurn) {
        stop = taken >= affordable ? 'pausedByMemory' : taken >= places ? 'pausedByInFlight' : 'turn';
        break;
      }
      const status = payloads.next();
      if (status !== 'frame') {
        stop = status;
        break;
      }
      const { source, start, end } = payloads;
      const length = end - start;
      const target = batcher.admits(source, start, end)
        ? (batcher.openBatch(requests) ?? refusals[batcher.refusal.reason])
        : 'refusedBadInput';
      if (group === null || group.target !== target) {
        group?.retain();
        group = requests.begin(target, arrivedAt);
        if (target === 'refusedBadInput') group.refusedBytes = length;
        else if (typeof target === 'string') group.retryAfterMs = batcher.refusal.retryAfterMs;
      }
      if (typeof target !== 'string') {
        target.add(source, start, end);
        group.rows++;
        group.bytes += length + replyBytes;
        bytes += length + replyBytes;
      }
      group.requests++;
      taken++;
    }
    group?.retain();
    requests.received(taken, bytes);
    return stop;
  }

  /** Enters a request that the protocol itself refuses. */
  refuse(requests: RequestAccounting, reason: RequestRefusal, arrivedAt: number): void {
    requests.begin(reason, arrivedAt).requests = 1;
    requests.received(1, 0);
  }
}
