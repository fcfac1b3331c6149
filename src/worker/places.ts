// The places of this worker's connections under the limits of the machine. The primary gives each with the connection
// itself, in node:cluster's own message; it goes back when the connection has ended.

import type { EventEmitter } from 'node:events';
import type { Place } from '../ipc/messages.js';

export class Places {
  readonly #giveBack: (addresses: readonly string[]) => void;
  #arriving: Place | undefined;
  #over: string[] = [];

  constructor(giveBack: (addresses: readonly string[]) => void) {
    this.#giveBack = giveBack;
    // Before node:cluster itself, which makes a 'connection' of it at once.
    (process as EventEmitter).prependListener('internalMessage', ({ place }: { readonly place?: Place }) => {
      this.#arriving = place;
    });
  }

  /** Of the connection that is just handed over; to be asked when the listener has it. Throws when there is none. */
  get arriving(): Place {
    if (this.#arriving === undefined) throw new Error('node:cluster hands over connections in a way that is not known');
    return this.#arriving;
  }

  release(address: string): void {
    if (this.#over.push(address) > 1) return;
    setImmediate(() => {
      this.#giveBack(this.#over);
      this.#over = [];
    });
  }
}
