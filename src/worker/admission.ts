// Asks the primary for a place under server.maxConnections before a connection is served. All connections of one
// event-loop turn ask together; answers come in the order of the questions.

import type { ToWorker } from '../control.js';

type Answer = (isGranted: boolean) => void;

export interface AdmissionChannel {
  ask(count: number): void;
  release(count: number): void;
}

export class Admission {
  readonly #channel: AdmissionChannel;
  #waiting: Answer[] = [];
  #unasked = 0;
  #unreleased = 0;

  constructor(channel: AdmissionChannel) {
    this.#channel = channel;
  }

  request(answer: Answer): void {
    this.#waiting.push(answer);
    this.#sendSoon();
    this.#unasked++;
  }

  /** Connections that wait for an answer. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Gives a granted place back. */
  release(): void {
    this.#sendSoon();
    this.#unreleased++;
  }

  /** Takes the primary's answer for the `granted + refused` connections that asked first. */
  receive({ granted, refused }: Extract<ToWorker, { kind: 'admitted' }>): void {
    const answered = this.#waiting.splice(0, granted + refused);
    answered.forEach((answer, i) => {
      answer(i < granted);
    });
  }

  #sendSoon(): void {
    if (this.#unasked === 0 && this.#unreleased === 0) setImmediate(this.#send);
  }

  /** Releases first, so that a place given back in this turn can be granted in it. */
  readonly #send = (): void => {
    if (this.#unreleased > 0) this.#channel.release(this.#unreleased);
    if (this.#unasked > 0) this.#channel.ask(this.#unasked);
    this.#unreleased = this.#unasked = 0;
  };
}
