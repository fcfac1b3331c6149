// The phase of the server, from its start to its exit.
//
//   starting ──▶ serving ──▶ draining ──▶ exit 0
//      └────────────┴─▶ failed ──▶ exit with the code of its reason
//
// A starting server may also drain. `draining` and `failed` are final: a failure during a drain does not make the
// server drop the requests that it is answering, and a draining server never reports that it is ready.

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

  /** Whether it has ever been ready: from then on, a child that cannot start does not end the server. */
  get hasServed(): boolean {
    return this.#hasServed;
  }

  get isEnding(): boolean {
    return following[this.#phase].length === 0;
  }

  /** Returns false, and changes nothing, when the server can no longer enter this phase. */
  enter(phase: ServerPhase): boolean {
    if (!following[this.#phase].includes(phase)) return false;
    this.#phase = phase;
    this.#hasServed ||= phase === 'serving';
    return true;
  }
}
