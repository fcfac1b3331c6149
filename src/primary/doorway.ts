// Connections that no worker need see. The primary accepts all that come; those whose client has gone already, or may
// not connect, are closed at once, and in a storm beyond the limits those beyond as well. So a storm costs the workers,
// which serve the others, next to nothing. All other connections go to a worker, which asks for a place and tells a
// client that there is none.

import { AddressFilter, clientKey, plainAddress } from '../client-address.js';
import type { Config } from '../config/load.js';
import type { Refusal, Refusals } from '../control.js';
import type { RawHandle } from '../raw-handle.js';
import type { ConnectionLedger } from './connection-ledger.js';

/** Clients beyond the limits that are told so each second; beyond that telling would be what the storm is made for. */
export const maxToldPerSecond = 100;

/** How long refusals are gathered before a worker is asked to count them. */
const gatherMs = 50;

export class Doorway {
  readonly #ledger: ConnectionLedger;
  readonly #report: (refusals: Refusals) => boolean;
  #filter: AddressFilter;
  #told = 0;
  #toldSince = 0;
  readonly #refused = new Map<Refusal, number>();
  #timer: NodeJS.Timeout | undefined;

  /** @param report has refusals counted; returns whether there was anybody to do so */
  constructor(ledger: ConnectionLedger, server: Config['server'], report: (refusals: Refusals) => boolean) {
    this.#ledger = ledger;
    this.#report = report;
    this.#filter = new AddressFilter(server.allow, server.deny);
  }

  /** Who may connect from now on, and how many; connections that are there stay. */
  set limits(server: Config['server']) {
    this.#ledger.limits = server;
    this.#filter = new AddressFilter(server.allow, server.deny);
  }

  /** Whether a connection that has just been accepted is to be closed. */
  turnsAway(handle: RawHandle): boolean {
    const peer: { address?: string } = {};
    if (handle.getpeername(peer) !== 0 || peer.address === undefined) return true;
    const address = plainAddress(peer.address);
    if (!this.#filter.admits(address)) return this.#refuse('refusedByAddress');
    const now = performance.now();
    const verdict = this.#ledger.foresee(clientKey(address), now);
    return verdict !== 'granted' && !this.#mayTell(now) && this.#refuse(verdict);
  }

  #mayTell(now: number): boolean {
    if (now - this.#toldSince >= 1000) {
      this.#told = 0;
      this.#toldSince = now;
    }
    return ++this.#told <= maxToldPerSecond;
  }

  #refuse(reason: Refusal): true {
    this.#refused.set(reason, (this.#refused.get(reason) ?? 0) + 1);
    this.#timer ??= setTimeout(this.#send, gatherMs);
    return true;
  }

  readonly #send = (): void => {
    this.#timer = undefined;
    if (this.#report([...this.#refused])) this.#refused.clear();
    else this.#timer = setTimeout(this.#send, gatherMs).unref();
  };
}
