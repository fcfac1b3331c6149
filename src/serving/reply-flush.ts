// Replies leave a worker together, at the end of what made them, and only when what was counted for them is safe: so a
// reply that a client has is in the totals, even if the worker is killed in the same moment.

import { soon } from '../soon.js';

/** One that has replies to send. */
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

  /** `sender` sends before the event loop turns to anything else. To be called once until it does. */
  post(sender: Sender): void {
    // `[one]` takes room for one; what is pushed to an empty array, for seventeen.
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
