// Passes each connection that the primary has accepted to the worker with the fewest, and keeps its own handle until
// the worker acknowledges it: if the worker dies or hangs before that, the connection goes to another worker.
//
//   listener ─▶ admission ─▶ sent to a worker ─▶ acknowledged: closed here
//                  │  └─▶ waits, while no worker can take it ─┘  (server.acceptTimeoutSeconds)
//                  └─▶ waits for a permit, for a moment ─▶ refused
//
// A worker may have only a few unacknowledged connections, so that the others go to workers that are faster, or alive.

import type { Decision, Permit } from '../../ipc/messages.js';
import { isReset, type RawHandle } from '../../net/raw-handle.js';
import type { AdmissionControl } from './admission-control.js';
import type { ConnectionHolder, ConnectionLedger } from './connection-ledger.js';

/** How many connections a worker may have been sent without acknowledging them. */
export const maxUnacknowledged = 16;

/**
 * How long a connection may wait for a permit. The primary hears of a connection's end only when its worker has noticed
 * it and said so: clients that connect again at once would find permits taken that nobody uses any more.
 */
export const permitGraceMs = 100;

/** How many connections may wait for a permit: in a storm beyond the limits, the others are refused at once. */
export const maxAwaitingPermit = 128;

interface Accepted {
  readonly handle: RawHandle;
  /** Names the listener that it came through. */
  readonly listener: string;
  readonly acceptedAt: number;
}

export interface Connection extends Accepted {
  readonly permit: Permit;
}

/** A worker, as the dispatcher sees it. */
export interface Receiver extends ConnectionHolder {
  /** The connections that it was sent and has not acknowledged, the oldest first. */
  readonly unacknowledged: Connection[];
  /** Whether its config has this listener. */
  hasListener(listener: string): boolean;
  give(connection: Connection): void;
}

export interface DispatcherOptions {
  readonly ledger: ConnectionLedger;
  readonly admission: AdmissionControl;
  /** How many connections may wait: each takes a descriptor of the primary. */
  readonly maxWaiting: number;
  /** How long a connection may wait. */
  timeoutMs(): number;
}

/** Holds the permits of connections that wait for a worker. */
export class Dispatcher implements ConnectionHolder {
  connections = 0;
  readonly peers = new Map<string, number>();
  readonly #options: DispatcherOptions;
  #receivers: readonly Receiver[] = [];
  /** By listener, the oldest first. */
  readonly #waiting = new Map<string, Connection[]>();
  #timer: NodeJS.Timeout | undefined;
  /** Connections without a permit, the oldest first. */
  readonly #awaitingPermit: Accepted[] = [];
  #permitTimer: NodeJS.Timeout | undefined;
  /** Where the search for a receiver begins, so that receivers with equally few connections take turns. */
  #next = 0;

  constructor(options: DispatcherOptions) {
    this.#options = options;
  }

  /** The receiver serves from now on. */
  join(receiver: Receiver): void {
    this.#receivers = [...this.#receivers, receiver];
    this.dispatch();
  }

  /** The receiver gets no more connections. */
  leave(receiver: Receiver): void {
    this.#receivers = this.#receivers.filter((one) => one !== receiver);
  }

  /** A client has connected. */
  accept(handle: RawHandle, listener: string): void {
    this.#admit({ handle, listener, acceptedAt: performance.now() }, true);
  }

  /** Connections have ended: their permits are free. */
  released(): void {
    const awaiting = this.#awaitingPermit.splice(0);
    while (awaiting.length > 0 && this.#awaitingPermit.length === 0) this.#admit(awaiting.shift() as Accepted, true);
    this.#awaitingPermit.push(...awaiting);
  }

  /** The receiver has taken the oldest `count` connections that it was sent. */
  acknowledged(receiver: Receiver, count: number): void {
    for (const { handle } of receiver.unacknowledged.splice(0, count)) handle.close();
    if (this.#waiting.size > 0) this.dispatch();
  }

  /**
   * The receiver is gone: connections that it has not acknowledged go to others. Must be called before its permits are
   * released.
   */
  gone(receiver: Receiver): void {
    const { ledger } = this.#options;
    this.leave(receiver);
    for (const connection of receiver.unacknowledged.splice(0).toReversed()) {
      const { address, decision } = connection.permit;
      if (decision !== 'granted') connection.handle.close();
      else {
        ledger.move(receiver, this, address);
        this.#wait(connection, true);
      }
    }
    this.dispatch();
  }

  /** Passes on waiting connections, as far as receivers can take them. */
  dispatch(): void {
    for (const [listener, waiting] of this.#waiting) {
      let receiver = this.#receiverFor(listener);
      while (receiver !== null) {
        const connection = waiting.shift();
        if (connection === undefined) break;
        if (isReset(connection.handle)) this.#close(connection);
        else {
          this.#options.ledger.move(this, receiver, connection.permit.address);
          this.#give(receiver, connection);
          receiver = this.#receiverFor(listener);
        }
      }
      if (waiting.length === 0) this.#waiting.delete(listener);
    }
  }

  /** The listener is closed, and its waiting connections with it. */
  forget(listener: string): void {
    for (const connection of this.#waiting.get(listener) ?? []) this.#close(connection);
    this.#waiting.delete(listener);
    for (const accepted of this.#awaitingPermit.splice(0)) {
      if (accepted.listener === listener) accepted.handle.close();
      else this.#awaitingPermit.push(accepted);
    }
  }

  #admit(accepted: Accepted, mayWait: boolean): void {
    const { admission, maxWaiting } = this.#options;
    const { handle, listener } = accepted;
    const receiver = this.#waiting.has(listener) ? null : this.#receiverFor(listener);
    const permit = admission.decide(handle, receiver ?? this);
    if (permit === null) {
      handle.close();
      return;
    }
    const { decision } = permit;
    const connection = { ...accepted, permit };
    if (decision === 'granted') {
      if (receiver !== null) this.#give(receiver, connection);
      else if (this.connections > maxWaiting) this.#refuse(connection, 'refusedByDescriptors');
      else this.#wait(connection);
    } else if (mayWait && decision !== 'refusedByRate' && this.#awaitingPermit.length < maxAwaitingPermit) {
      this.#awaitingPermit.push(accepted);
      this.#permitTimer ??= setTimeout(this.#endPermitWaits, permitGraceMs);
    } else if (admission.mayTell(decision, permit.address)) this.#refuseInWords(connection, decision);
    else handle.close();
  }

  readonly #endPermitWaits = (): void => {
    this.#permitTimer = undefined;
    const now = performance.now();
    for (const accepted of this.#awaitingPermit.splice(0))
      this.#admit(accepted, now - accepted.acceptedAt < permitGraceMs);
  };

  #receiverFor(listener: string, maxSent = maxUnacknowledged): Receiver | null {
    const count = this.#receivers.length;
    let best: Receiver | null = null;
    let bestIndex = 0;
    for (let i = 0; i < count; i++) {
      const index = (this.#next + i) % count;
      const receiver = this.#receivers[index] as Receiver;
      if (receiver.unacknowledged.length >= maxSent || !receiver.hasListener(listener)) continue;
      if (best !== null && receiver.connections >= best.connections) continue;
      best = receiver;
      bestIndex = index;
    }
    if (best !== null) this.#next = bestIndex + 1;
    return best;
  }

  #give(receiver: Receiver, connection: Connection): void {
    receiver.unacknowledged.push(connection);
    receiver.give(connection);
  }

  #wait(connection: Connection, isFirst = false): void {
    const waiting = this.#waiting.get(connection.listener) ?? [];
    this.#waiting.set(connection.listener, waiting);
    if (isFirst) waiting.unshift(connection);
    else waiting.push(connection);
    this.#timer ??= setTimeout(this.#endWaits, this.#options.timeoutMs());
  }

  readonly #endWaits = (): void => {
    this.#timer = undefined;
    const limitMs = this.#options.timeoutMs();
    const now = performance.now();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const [listener, waiting] of this.#waiting) {
      while (waiting[0] !== undefined && now - waiting[0].acceptedAt >= limitMs)
        this.#refuse(waiting.shift() as Connection, 'refusedByWait');
      if (waiting[0] === undefined) this.#waiting.delete(listener);
      else nextMs = Math.min(nextMs, waiting[0].acceptedAt + limitMs - now);
    }
    if (this.#waiting.size > 0) this.#timer = setTimeout(this.#endWaits, nextMs);
  };

  /** There are few such connections (`maxToldPerSecond`), so they need not wait for acknowledgements. */
  #refuseInWords(connection: Connection, reason: Exclude<Decision, 'granted'>): void {
    const receiver = this.#receiverFor(connection.listener, Number.POSITIVE_INFINITY);
    if (receiver === null) this.#refuse(connection, reason);
    else this.#give(receiver, connection);
  }

  #refuse(connection: Connection, reason: Parameters<AdmissionControl['count']>[0]): void {
    this.#options.admission.count(reason, connection.permit.address);
    this.#close(connection);
  }

  #close({ handle, permit }: Connection): void {
    handle.close();
    if (permit.decision === 'granted') this.#options.ledger.release(this, [permit.address]);
  }
}
