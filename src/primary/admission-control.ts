// What becomes of connections that the primary has accepted, before a worker has any trouble with them. Those whose
// client has gone already, or may not connect, are closed at once, and in a storm beyond the limits those beyond as
// well: so a storm costs the workers, which serve the others, next to nothing. All others go to a worker with their
// permit, or for their client to be told that there is none.

import { AddressFilter, clientKey, plainAddress } from '../client-address.js';
import type { Config } from '../config/load.js';
import type { Permit, Refusal, Refusals } from '../ipc/messages.js';
import type { RawHandle } from '../raw-handle.js';
import type { ConnectionHolder, ConnectionLedger } from './connection-ledger.js';

/** Clients beyond the limits that are told so each second; beyond that telling would be what the storm is made for. */
export const maxToldPerSecond = 100;

const maxClientsKnown = 1024;

/** How long refusals are gathered before a worker is asked to count them. */
const gatherMs = 50;

export class AdmissionControl {
  readonly #ledger: ConnectionLedger;
  readonly #report: (refusals: Refusals) => boolean;
  #filter: AddressFilter;
  /** What the filter said of addresses, by address: most clients connect again. */
  readonly #clients = new Map<string, string | null>();
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
    this.#clients.clear();
  }

  /** What to tell a worker of a connection, which is `holder`'s from here on; null when it is to be closed. */
  admit(handle: RawHandle, holder: ConnectionHolder): Permit | null {
    const peer: { address?: string } = {};
    if (handle.getpeername(peer) !== 0 || peer.address === undefined) return null;
    const address = this.#clientAt(peer.address);
    if (address === null) return this.#refuse('refusedByAddress');
    const now = performance.now();
    const decision = this.#ledger.admit(holder, address, now);
    return decision === 'granted' || this.#mayTell(now) ? { address, decision } : this.#refuse(decision);
  }

  /** Has one counted that is closed for this reason. */
  count(reason: Refusal): void {
    this.#refused.set(reason, (this.#refused.get(reason) ?? 0) + 1);
    this.#timer ??= setTimeout(this.#send, gatherMs);
  }

  /** As limits for each client go by; null when it may not connect. */
  #clientAt(address: string): string | null {
    let client = this.#clients.get(address);
    if (client !== undefined) return client;
    const plain = plainAddress(address);
    client = this.#filter.admits(plain) ? clientKey(plain) : null;
    if (this.#clients.size >= maxClientsKnown) this.#clients.clear();
    this.#clients.set(address, client);
    return client;
  }

  #mayTell(now: number): boolean {
    if (now - this.#toldSince >= 1000) {
      this.#told = 0;
      this.#toldSince = now;
    }
    return ++this.#told <= maxToldPerSecond;
  }

  #refuse(reason: Refusal): null {
    this.count(reason);
    return null;
  }

  readonly #send = (): void => {
    this.#timer = undefined;
    if (this.#report([...this.#refused])) this.#refused.clear();
    else this.#timer = setTimeout(this.#send, gatherMs).unref();
  };
}
