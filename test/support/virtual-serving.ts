// A model, its batcher and its endpoint, with clients that send when a test says and a clock that stands still in
// between: what becomes of each request, and when, is exact.

import type { Clock } from '@sinonjs/fake-timers';
import { BatchCost } from '#src/inference/batch-cost.js';
import { fixedBatchSize } from '#src/inference/batch-size.js';
import { Batcher, type BatcherLimits } from '#src/inference/batcher.js';
import type { Model } from '#src/inference/model.js';
import { Recorder } from '#src/metrics/recorder.js';
import { MemoryBudget } from '#src/serving/memory-budget.js';
import { ModelEndpoint } from '#src/serving/model-endpoint.js';
import { ReplyFlush } from '#src/serving/reply-flush.js';
import type { RequestAccounting, RequestClient } from '#src/serving/request-accounting.js';
import type { RequestGroup } from '#src/serving/request-group.js';
import { viewOf } from './reply-spans.js';

export interface VirtualOptions extends Partial<BatcherLimits> {
  readonly rows: number;
  readonly perRunMs: number;
  readonly perRowMs: number;
  readonly concurrency: number;
  /** Whether the cost of a run is known from the start. */
  readonly isKnown?: boolean;
}

/** What became of a request; times of the virtual clock. */
export interface Fate {
  readonly client: VirtualClient;
  readonly number: number;
  readonly arrivedAt: number;
  startedAt: number | null;
  endedAt: number | null;
  outcome: 'answered' | 'failed' | 'expired' | 'refusedQueueFull' | 'refusedOverloaded' | 'refusedBadInput' | null;
  runs: number;
  retryAfterMs: number;
}

export class VirtualServer {
  readonly clients: VirtualClient[] = [];
  readonly fates: Fate[] = [];
  /** Fates of the requests of each run, in its order. */
  readonly runs: (readonly Fate[])[] = [];
  readonly batcher: Batcher;
  readonly endpoint: ModelEndpoint;
  readonly clock: Clock;
  readonly #recorder = new Recorder(['m']);

  constructor(clock: Clock, options: VirtualOptions) {
    this.clock = clock;
    const { rows, perRunMs, perRowMs, concurrency, isKnown = true } = options;
    const msOf = (count: number) => perRunMs + perRowMs * count;
    const model: Model = {
      inputBytes: 4,
      outputBytes: 4,
      fixedRows: null,
      runsAloneBecause: null,
      concurrency,
      mayReplyWithInput: false,
      plan: null,
      description: 'virtual',
      sample: null,
      run: (batch) => {
        const ids = Array.from({ length: batch.rows }, (_, i) => batch.payload(i).readUInt32LE());
        const fates = ids.map((id) => this.fates[id] as Fate);
        this.runs.push(fates);
        for (const fate of fates) {
          fate.startedAt = clock.now;
          fate.runs++;
        }
        const bytes = Buffer.from(Uint32Array.from(ids).buffer);
        return new Promise((resolve) => {
          setTimeout(() => resolve({ kind: 'uniform', bytes, rowBytes: 4, stride: 4 }), msOf(batch.rows));
        });
      },
      close: async () => {},
    };
    const sizes = isKnown ? [1, ...(rows > 1 ? [rows] : [])] : [];
    const cost = new BatchCost(sizes.map((count) => ({ rows: count, ms: msOf(count) })));
    const limits = { maxQueue: 100_000, maxQueueDelayMs: 0, deadlineMs: 0, retryRows: false, ...options };
    this.batcher = new Batcher(model, limits, () => {}, fixedBatchSize(rows, cost));
    this.endpoint = new ModelEndpoint({
      batcher: this.batcher,
      recorder: this.#recorder.model('m'),
      limits: { maxPayloadBytes: 4, maxInFlight: 1_000_000 },
      budget: new MemoryBudget(1 << 30),
      flush: new ReplyFlush(() => {}),
    });
  }

  client(): VirtualClient {
    const client = new VirtualClient(this);
    this.clients.push(client);
    return client;
  }

  get counts() {
    return this.#recorder.snapshot().models.m;
  }
}

export class VirtualClient implements RequestClient {
  /** Called when a request has ended. */
  onEnd: (fate: Fate) => void = () => {};
  readonly fates: Fate[] = [];
  readonly requests: RequestAccounting;
  readonly #server: VirtualServer;
  /** Ids of requests that are not submitted yet, and when they came. */
  readonly #unread: { readonly source: Buffer; start: number; readonly arrivedAt: number }[] = [];
  #ended = 0;
  #isYielding = false;
  #isClosed = false;

  constructor(server: VirtualServer) {
    this.#server = server;
    this.requests = server.endpoint.connect(this);
  }

  /** Sends so many requests at once. */
  send(count: number): void {
    if (this.#isClosed) return;
    const { fates, clock } = this.#server;
    const arrivedAt = clock.now;
    const source = Buffer.alloc(4 * count);
    for (let i = 0; i < count; i++) {
      source.writeUInt32LE(fates.length, 4 * i);
      const times = { arrivedAt, startedAt: null, endedAt: null, retryAfterMs: 0 };
      const fate: Fate = { client: this, number: this.fates.length, ...times, outcome: null, runs: 0 };
      fates.push(fate);
      this.fates.push(fate);
    }
    this.#unread.push({ source, start: -4, arrivedAt });
    if (!this.#isYielding) this.#submit();
  }

  /** As a connection does: a part of what came in each turn of the event loop. */
  readonly #submit = (): void => {
    this.#isYielding = false;
    let [read] = this.#unread;
    while (read !== undefined && !this.#isClosed) {
      const { source, arrivedAt } = read;
      const payloads = {
        source,
        start: read.start,
        end: 0,
        next(): 'frame' | 'incomplete' {
          this.start += 4;
          this.end = this.start + 4;
          return this.start < source.length ? 'frame' : 'incomplete';
        },
      };
      const stop = this.#server.endpoint.submit(this.requests, payloads, arrivedAt);
      read.start = payloads.start;
      this.requests.answer();
      if (stop === 'turn') {
        this.#isYielding = true;
        setImmediate(this.#submit);
        return;
      }
      this.#unread.shift();
      [read] = this.#unread;
    }
  };

  close(): void {
    this.#isClosed = true;
    this.requests.close();
  }

  encodeReplies(groups: readonly RequestGroup[]): void {
    for (const group of groups)
      for (let i = 0; i < group.requests; i++) {
        const fate = this.fates[this.#ended++] as Fate;
        const reply = group.reply(i);
        fate.retryAfterMs = group.retryAfterMs;
        if (typeof group.target === 'string') fate.outcome = group.target as Fate['outcome'];
        else if (reply === null) fate.outcome = 'failed';
        else {
          const echoed = Buffer.from(viewOf(reply)).readUInt32LE();
          if (this.#server.fates[echoed] !== fate) throw new Error('this is the reply to another request');
          fate.outcome = 'answered';
        }
        fate.endedAt = this.#server.clock.now;
        this.onEnd(fate);
      }
  }

  sendReplies(): void {}
  onAnswered(): void {}
  resumeReading(): void {}
  endTurn(): void {}
}
