// A small OipService in one process, for tests of protocols: its models answer their inputs, when a test lets them.

import { clientErrors } from '#src/errors.js';
import type { InferAnswer, InferCall } from '#src/protocol/oip/infer.js';
import { tensorSpec } from '#src/protocol/oip/infer.js';
import { MemoryBudget } from '#src/serving/memory-budget.js';
import {
  type CallClient,
  CallError,
  type CallFailure,
  type CallListener,
  type CallReceiver,
  type ClientCalls,
  type OipService,
  type PendingCall,
} from '#src/worker/oip/service.js';

/** `echo` answers in its turn; `held` when the test calls `release`; `full` is always full. */
export const echoModels = ['echo', 'held', 'full'] as const;
export const echoListener: CallListener = { models: echoModels, defaultModel: 'echo' };

interface Waiting {
  readonly call: InferCall;
  readonly receiver: CallReceiver;
  readonly owner: EchoCalls;
}

export class EchoService implements OipService {
  isReady = true;
  readonly budget: MemoryBudget;
  readonly maxInFlight: number;
  /** Calls of `held` that wait. */
  readonly waiting = new Set<Waiting>();
  readonly refusals: CallFailure[] = [];
  /** Of all calls: their timeouts. */
  readonly timeouts: number[] = [];
  canceled = 0;
  answered = 0;

  constructor({ maxBufferedBytes = 128 << 20, maxInFlight = 1024 } = {}) {
    this.budget = new MemoryBudget(maxBufferedBytes);
    this.maxInFlight = maxInFlight;
  }

  connect(client: CallClient): ClientCalls {
    return new EchoCalls(this, client);
  }

  /** Answers what waits, the last one first. */
  release(): void {
    for (const one of [...this.waiting].reverse()) {
      this.waiting.delete(one);
      one.owner.answer(one.call, one.receiver);
    }
  }

  serverMetadata() {
    return { name: 'ml-tcp-server', version: '1.2.3', extensions: ['statistics'] };
  }

  modelMetadata(listener: CallListener, model: string, version: string) {
    this.find(listener, model, version);
    const tensor = { datatype: 'FP32', shape: [-1, 4] };
    return {
      name: model,
      versions: ['1'],
      platform: 'onnxruntime_onnx',
      inputs: [{ name: 'x', ...tensor }],
      outputs: [{ name: 'x', ...tensor }],
    };
  }

  modelConfig(listener: CallListener, model: string, version: string) {
    this.find(listener, model, version);
    return { config: { name: model, max_batch_size: 8, dynamic_batching: {} } };
  }

  isModelReady({ models }: CallListener, model: string): boolean {
    return models.includes(model);
  }

  async modelStatistics(listener: CallListener, model: string, version: string) {
    this.find(listener, model, version);
    const success = { count: this.answered, ns: 5 };
    return {
      model_stats: [{ name: model, version: '1', inference_count: this.answered, inference_stats: { success } }],
    };
  }

  repositoryIndex({ models }: CallListener) {
    return { models: models.map((name) => ({ name, version: '1', state: 'READY' })) };
  }

  find({ models, defaultModel }: CallListener, name: string, version: string): string {
    const model = name === '' ? (defaultModel as string) : name;
    if (!models.includes(model) || !['', '1'].includes(version))
      throw new CallError('MODEL_NOT_FOUND', `Request for unknown model: '${name}' is not found`);
    return model;
  }
}

class EchoCalls implements ClientCalls {
  inFlight = 0;
  readonly #service: EchoService;
  readonly #client: CallClient;
  #held = 0;
  #isFlushing = false;

  constructor(service: EchoService, client: CallClient) {
    this.#service = service;
    this.#client = client;
    service.budget.join();
  }

  get places(): number {
    return this.#service.maxInFlight - this.inFlight;
  }

  get room(): number {
    return this.#service.budget.room(this.#client, this.#held);
  }

  infer(call: InferCall, _arrivedAt: number, receiver: CallReceiver): PendingCall {
    this.#service.timeouts.push(call.timeoutUs);
    try {
      const model = this.#service.find(echoListener, call.model, call.version);
      if (model === 'full') throw new CallError('QUEUE_FULL', clientErrors.QUEUE_FULL.meaning, 250);
      return this.#take(copyOf(call), receiver, model === 'held');
    } catch (error) {
      receiver.failed(error as CallError);
      this.flush();
      return { cancel: () => {} };
    }
  }

  refused(_model: string, failure: CallFailure): void {
    this.#service.refusals.push(failure);
    this.flush();
  }

  flush(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    queueMicrotask(() => {
      this.#isFlushing = false;
      this.#client.sendReplies();
    });
  }

  hold(bytes: number): boolean {
    const before = this.#held;
    this.#held = bytes;
    return this.#service.budget.hold(this.#client, bytes, before);
  }

  close(): void {
    this.#service.budget.leave(this.#client, this.#held);
    for (const one of this.#service.waiting) if (one.owner === this) this.#service.waiting.delete(one);
  }

  answer(call: InferCall, receiver: CallReceiver): void {
    this.inFlight--;
    this.#service.answered++;
    receiver.answered(answerOf(call));
    this.flush();
  }

  #take(call: InferCall, receiver: CallReceiver, isHeld: boolean): PendingCall {
    this.inFlight++;
    const one = { call, receiver, owner: this };
    const { waiting } = this.#service;
    if (isHeld) waiting.add(one);
    else {
      let isCanceled = false;
      setImmediate(() => {
        if (!isCanceled) this.answer(call, receiver);
      });
      return {
        cancel: () => {
          isCanceled = true;
          this.inFlight--;
          this.#service.canceled++;
        },
      };
    }
    return {
      cancel: () => {
        if (!waiting.delete(one)) return;
        this.inFlight--;
        this.#service.canceled++;
      },
    };
  }
}

/** The memory of a call is only valid until `infer` returns. */
function copyOf(call: InferCall): InferCall {
  const inputs = call.inputs.map(({ spec, source, start, end }) => ({
    spec,
    source: Buffer.from(source.subarray(start, end)),
    start: 0,
    end: end - start,
  }));
  return { ...call, inputs };
}

function answerOf({ model, id, inputs }: InferCall): InferAnswer {
  const outputs = inputs.map((input) => ({
    ...input,
    spec: tensorSpec(input.spec.name, input.spec.datatype, input.spec.shape),
  }));
  return { model: model || 'echo', version: '1', id, outputs };
}
