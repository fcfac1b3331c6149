// The calls of a connection that are in flight, by number. Not a Map: a Map that has many entries come and go makes a
// new table ever so often, and each old one refers to the next. Once one of them is old enough for the heap of old
// objects, all that were ever in flight are kept until the next full collection, and copied there.
//
// Open addressing with linear probing; clients count up, so numbers seldom meet. What a client gains by numbers that do
// is bounded by how many calls it may have in flight.

import type { CallNumber } from '../../protocol/calls/call.js';
import type { PendingCall } from '../oip/service.js';

const fewest = 16;

export class PendingCalls {
  #size = 0;
  #numbers: CallNumber[] = new Array(fewest).fill(0);
  /** Null: the place is free. */
  #calls: (PendingCall | null)[] = new Array(fewest).fill(null);

  has(number: CallNumber): boolean {
    return this.#calls[this.#find(number)] !== null;
  }

  /** Adds a call whose number is not there. */
  add(number: CallNumber, call: PendingCall): void {
    if (2 * (this.#size + 1) > this.#calls.length) this.#grow();
    const at = this.#find(number);
    this.#numbers[at] = number;
    this.#calls[at] = call;
    this.#size++;
  }

  /** Removes a call; null when it is not there. */
  take(number: CallNumber): PendingCall | null {
    const at = this.#find(number);
    const call = this.#calls[at] as PendingCall | null;
    if (call !== null) this.#free(at);
    return call;
  }

  /** Where the number is, or has to be put. */
  #find(number: CallNumber): number {
    const last = this.#calls.length - 1;
    let at = home(number, last);
    while (this.#calls[at] !== null && this.#numbers[at] !== number) at = (at + 1) & last;
    return at;
  }

  /** Those behind it that had to give way move up, so that a free place ends a search. */
  #free(at: number): void {
    const last = this.#calls.length - 1;
    let free = at;
    for (let next = (at + 1) & last; this.#calls[next] !== null; next = (next + 1) & last) {
      const number = this.#numbers[next] as CallNumber;
      const isBetween = ((next - home(number, last)) & last) < ((next - free) & last);
      if (isBetween) continue;
      this.#numbers[free] = number;
      this.#calls[free] = this.#calls[next] as PendingCall;
      free = next;
    }
    this.#numbers[free] = 0;
    this.#calls[free] = null;
    this.#size--;
  }

  #grow(): void {
    const [numbers, calls] = [this.#numbers, this.#calls];
    this.#numbers = new Array(2 * numbers.length).fill(0);
    this.#calls = new Array(2 * calls.length).fill(null);
    for (const [i, call] of calls.entries()) {
      if (call === null) continue;
      const at = this.#find(numbers[i] as CallNumber);
      this.#numbers[at] = numbers[i] as CallNumber;
      this.#calls[at] = call;
    }
  }
}

/** Where a number is looked for first. */
const home = (number: CallNumber, last: number): number =>
  typeof number === 'number' ? number & last : Number(number & BigInt(last));
