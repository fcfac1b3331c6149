// Where the server is on its way from its start to its exit.
//
//   starting ──▶ serving ──▶ draining ──▶ exit 0
//      └────────────┴─▶ failed ──▶ exit with the code of its reason
//
// From starting it may drain as well. Neither end leads anywhere else: what fails while the server drains does not make
// it drop what it answers, and one that drains never says that it is ready.

export type ServerPhase = 'starting' | 'serving' | 'draining' | 'failed';

const following: Readonly<Record<ServerPhase, readonly ServerPhase[]>> = {
  starting: ['serving', 'draining', 'failed'],
  serving: ['draining', 'failed'],
  draining: [],
  failed: [],
};

export class ServerState {
  #phase: ServerPhase = 'starting';
  #hasServed = false;

  get phase(): ServerPhase {
    return this.#phase;
  }

  /** Whether it has been ready, ever: from then on a child that cannot start is not the end of the server. */
  get hasServed(): boolean {
    return this.#hasServed;
  }

  get isEnding(): boolean {
    return following[this.#phase].length === 0;
  }

  /** Returns false, and changes nothing, when the server cannot come there any more. */
  enter(phase: ServerPhase): boolean {
    if (!following[this.#phase].includes(phase)) return false;
    this.#phase = phase;
    this.#hasServed ||= phase === 'serving';
    return true;
  }
}
