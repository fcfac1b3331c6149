// Where requests to a model enter, whatever protocol they came by. A protocol turns bytes into payloads and outcomes
// into bytes; all that lies between is here and the same for each: what is counted, bounded, batched, and safe before a
// reply leaves.
//
//   protocol                                 serving                                          inference
//   bytes ─▶ PayloadCursor ─▶ submit() ─▶ RequestAccounting: RequestGroups, in order ─▶ Batcher ─▶ the model
//   bytes ◀─ encodeReplies(), sendReplies() ◀─ counted, then safe (ReplyFlush) ◀─ outcome ◀─┘
//
// Each client of a protocol calls `connect` once, `submit` with what it has read, and closes what `connect` gave when
// it is gone.

import type { Batcher } from '../inference/batcher.js';
import type { ModelRecorder, WorkerCounter } from '../metrics/recorder.js';
import type { MemoryBudget } from './memory-budget.js';
import type { ReplyFlush } from './reply-flush.js';
import { RequestAccounting, type RequestClient } from './request-accounting.js';
import type { RequestGroup, RequestRefusal } from './request-group.js';

/** For each client. */
export interface RequestLimits {
  /** To be kept by the protocol, which knows of a payload's length before it has come. */
  readonly maxPayloadBytes: number;
  /** Requests that a client may have in flight. */
  readonly maxInFlight: number;
}

/** What a client has sent, one payload after the other. */
export interface PayloadCursor<End extends string> {
  /** Moves to the next payload; anything but `frame`: there is none, for this reason. */
  next(): 'frame' | End;
  /** The payload is `source[start, end)`, until the next call. */
  readonly source: Buffer;
  readonly start: number;
  readonly end: number;
}

/** Why a client may submit no more, by the name of its counter; `turn`: not in this turn of the event loop. */
export type SubmitStop = Extract<WorkerCounter, 'pausedByInFlight' | 'pausedByMemory'> | 'turn';

/** What one client may bring to a turn of the event loop: others, with little, shall not wait for thousands. */
const maxRequestsATurn = 256;
/** Of requests and of their replies. */
const maxBytesATurn = 32 * 1024;

export interface ModelEndpointOptions {
  readonly batcher: Batcher;
  readonly recorder: ModelRecorder;
  readonly limits: RequestLimits;
  /** Of all endpoints of the process together. */
  readonly budget: MemoryBudget;
  readonly flush: ReplyFlush;
}

export class ModelEndpoint {
  readonly batcher: Batcher;
  readonly recorder: ModelRecorder;
  readonly limits: RequestLimits;
  readonly budget: MemoryBudget;
  readonly flush: ReplyFlush;

  constructor({ batcher, recorder, limits, budget, flush }: ModelEndpointOptions) {
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
   * Submits a request for each payload, as many as the limits allow; returns why it stopped. What the model cannot
   * take, or has no room for, is refused in its place.
   * @param payloads whose memory may be used for something else when this has returned
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
    // Replies are not there yet, and must find memory.
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
      const target = batcher.admits(length) ? (batcher.openBatch() ?? 'refusedQueueFull') : 'refusedBadInput';
      if (group === null || group.target !== target) {
        group?.retain();
        group = requests.begin(target, arrivedAt);
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

  /** A request that the protocol itself refuses. */
  refuse(requests: RequestAccounting, reason: RequestRefusal, arrivedAt: number): void {
    requests.begin(reason, arrivedAt).requests = 1;
    requests.received(1, 0);
  }
}
