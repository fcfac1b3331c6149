// Asks the primary for a place under the machine's limits before a connection is served. All connections of one
// event-loop turn ask together; answers come in the order of the questions.

import type { Verdict } from '../control.js';

type Answer = (verdict: Verdict) => void;

export interface AdmissionChannel {
  /** A question for each address. */
  ask(addresses: readonly string[]): void;
  release(addresses: readonly string[]): void;
}

export class Admission {
  readonly #channel: AdmissionChannel;
  #waiting: Answer[] = [];
  #unasked: string[] = [];
  #unreleased: string[] = [];

  constructor(channel: AdmissionChannel) {
    this.#channel = channel;
  }

  /** @param address of the client, as `clientKey` has it */
  request(address: string, answer: Answer): void {
    this.#waiting.push(answer);
    this.#sendSoon();
    this.#unasked.push(address);
  }

  /** Connections that wait for an answer. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Gives a granted place back. */
  release(address: string): void {
    this.#sendSoon();
    this.#unreleased.push(address);
  }

  /** Takes the primary's answers for the connections that asked first. */
  receive(verdicts: readonly Verdict[]): void {
    const answered = this.#waiting.splice(0, verdicts.length);
    answered.forEach((answer, i) => {
      answer(verdicts[i] as Verdict);
    });
  }

  #sendSoon(): void {
    if (this.#unasked.length === 0 && this.#unreleased.length === 0) setImmediate(this.#send);
  }

  /** Releases first, so that a place given back in this turn can be granted in it. */
  readonly #send = (): void => {
    if (this.#unreleased.length > 0) this.#channel.release(this.#unreleased);
    if (this.#unasked.length > 0) this.#channel.ask(this.#unasked);
    this.#unreleased = [];
    this.#unasked = [];
  };
}
