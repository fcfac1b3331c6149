// The requests of one connection, from InferCall to answer: which model is meant, its tensors as payloads, and the
// replies as tensors again. Counts, limits and batches are those of serving/.

import { clientErrors, type RequestError, reasonOf } from '../../errors.js';
import type { WorkerCounter } from '../../metrics/recorder.js';
import type { InferAnswer, InferCall } from '../../protocol/oip/infer.js';
import { CallAccounting, type CallServing } from '../../serving/call-accounting.js';
import type { CallEnd, CallOwner, ServedCall } from '../../serving/served-call.js';
import type { ClientRejections } from '../rejection-log.js';
import type { CallModel, CallModels } from './call-models.js';
import {
  type CallClient,
  CallError,
  type CallFailure,
  type CallListener,
  type CallReceiver,
  type ClientCalls,
  type PendingCall,
} from './service.js';
import type { AnswerForm, ModelSignature } from './signature.js';

/** The call that is over before it was submitted. */
const noCall: PendingCall = { cancel: () => {} };

export class ConnectionCalls implements ClientCalls {
  readonly #models: CallModels;
  readonly #listener: CallListener;
  readonly #accounting: CallAccounting;
  readonly #rejections: ClientRejections | null;

  /** @param rejections is told why requests were refused, for operators */
  constructor(
    models: CallModels,
    serving: CallServing,
    client: CallClient,
    listener: CallListener,
    rejections: ClientRejections | null = null,
  ) {
    this.#models = models;
    this.#listener = listener;
    this.#rejections = rejections;
    this.#accounting = new CallAccounting(serving, client);
  }

  get inFlight(): number {
    return this.#accounting.inFlight;
  }

  get places(): number {
    return this.#accounting.places;
  }

  get room(): number {
    return this.#accounting.room;
  }

  flush(): void {
    this.#accounting.post();
  }

  infer(call: InferCall, arrivedAt: number, receiver: CallReceiver): PendingCall {
    let model: CallModel | null = null;
    try {
      model = this.#models.find(this.#listener, call.model, call.version);
      const { signature } = model;
      const payloads = signature.payloadsOf(call);
      const answering = new Answering(model.name, model.version, call, signature, receiver, this.#rejections);
      return this.#accounting.submit(model.endpoint, payloads, arrivedAt, call.timeoutUs / 1000, answering);
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      this.#refuse(model, error, call.model);
      receiver.failed(error);
      return noCall;
    }
  }

  refused(name: string, failure: CallFailure): void {
    let model: CallModel | null = null;
    try {
      model = this.#models.find(this.#listener, name, '');
    } catch {}
    this.#refuse(model, failure, name);
  }

  hold(bytes: number): boolean {
    return this.#accounting.hold(bytes);
  }

  close(): void {
    this.#accounting.close();
  }

  #refuse(model: CallModel | null, { reason, message }: CallFailure, name: string): void {
    const { counter } = clientErrors[reason];
    this.#rejections?.note(reason, message, model?.name ?? name);
    if (model !== null && (counter === 'refusedBadInput' || counter === 'refusedPayloadTooLarge'))
      this.#accounting.refuse(model.endpoint, counter);
    else {
      this.#models.recorder.count(unroutable[reason] ?? 'malformed');
      this.#accounting.post();
    }
  }
}

/** What requests that reach no model are counted as. */
const unroutable: Partial<Readonly<Record<RequestError, WorkerCounter>>> = {
  MODEL_NOT_FOUND: 'unknownModel',
  WRONG_SECRET: 'wrongSecret',
};

/** A request that waits for its model. */
class Answering implements CallOwner {
  readonly #model: string;
  readonly #version: string;
  readonly #id: string;
  readonly #form: AnswerForm;
  readonly #signature: ModelSignature;
  readonly #receiver: CallReceiver;
  readonly #rejections: ClientRejections | null;

  constructor(
    model: string,
    version: string,
    call: InferCall,
    signature: ModelSignature,
    receiver: CallReceiver,
    rejections: ClientRejections | null,
  ) {
    this.#model = model;
    this.#version = version;
    this.#id = call.id;
    this.#form = signature.answerFormOf(call);
    this.#signature = signature;
    this.#receiver = receiver;
    this.#rejections = rejections;
  }

  answered(served: ServedCall): boolean {
    let answer: InferAnswer;
    try {
      const outputs = this.#signature.answerOf(this.#form, served.replies(), served.dims());
      answer = { model: this.#model, version: this.#version, id: this.#id, outputs };
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      this.#fail(error);
      return false;
    }
    const isSaid = this.#receiver.answered(answer);
    if (!isSaid) this.#rejections?.note('INFERENCE_FAILED', 'its answer is too large for the protocol', this.#model);
    return isSaid;
  }

  failed(end: CallEnd, detail: string, retryAfterMs: number): void {
    const reason = reasonOf[end];
    const { meaning } = clientErrors[reason];
    const message = detail === '' ? meaning : `${meaning}: ${detail}`;
    this.#fail({ reason, message: `model ${JSON.stringify(this.#model)}: ${message}`, retryAfterMs });
  }

  #fail(failure: CallFailure): void {
    this.#rejections?.note(failure.reason, failure.message, this.#model);
    this.#receiver.failed(failure);
  }
}
