// Replies leave a worker together, at the end of the callback that made them, and only when their counts are safe: so a
// reply that a client has is in the totals, even if the worker is killed at the same moment.

import { soon } from '../soon.js';

/** Something that has replies to send. */
export interface Sender {
  send(): void;
}

export class ReplyFlush {
  readonly #beforeLeaving: () => void;
  #senders: Sender[] = [];

  /** @param beforeLeaving makes the counts safe */
  constructor(beforeLeaving: () => void) {
    this.#beforeLeaving = beforeLeaving;
  }

  /** Makes `sender` send before the event loop turns to anything else. Call it only once until `sender` sends. */
  post(sender: Sender): void {
    // `[one]` allocates room for one element; a push to an empty array allocates room for seventeen.
    if (this.#senders.length > 0) this.#senders.push(sender);
    else {
      this.#senders = [sender];
      soon(this.#leave);
    }
  }

  readonly #leave = (): void => {
    const senders = this.#senders;
    this.#senders = [];
    this.#beforeLeaving();
    for (const sender of senders) sender.send();
  };
}
