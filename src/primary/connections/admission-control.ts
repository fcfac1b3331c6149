// Decides on connections that the primary has accepted, before they cost a worker anything. A connection is closed at
// once if its client is already gone or may not connect, and, in a storm of connections beyond the limits, if more than
// `maxToldPerSecond` are: so a storm costs the workers, which serve the others, next to nothing. All other connections
// go to a worker, either with a permit or so that it tells the client that there is none.

import type { Config } from '../../config/load.js';
import type { Permit, Refusal, Refusals } from '../../ipc/messages.js';
import { AddressFilter, clientKey, plainAddress } from '../../net/client-address.js';
import type { RawHandle } from '../../net/raw-handle.js';
import type { ConnectionHolder, ConnectionLedger } from './connection-ledger.js';

/** How many clients beyond the limits are told so each second: telling more would be the load that a storm aims at. */
export const maxToldPerSecond = 100;

const maxClientsKnown = 1024;

/** How long refusals are gathered before a worker is asked to count them. */
const gatherMs = 50;

export class AdmissionControl {
  readonly #ledger: ConnectionLedger;
  readonly #report: (refusals: Refusals) => boolean;
  #filter: AddressFilter;
  /** The filter's results by address: most clients connect again. */
  readonly #clients = new Map<string, string | null>();
  #told = 0;
  #toldSince = 0;
  readonly #refused = new Map<Refusal, { count: number; client: string }>();
  #timer: NodeJS.Timeout | undefined;

  /** @param report has a worker count refusals; returns whether there was one */
  constructor(ledger: ConnectionLedger, server: Config['server'], report: (refusals: Refusals) => boolean) {
    this.#ledger = ledger;
    this.#report = report;
    this.#filter = new AddressFilter(server.allow, server.deny);
  }

  /** Who may connect from now on, and how many; existing connections stay. */
  set limits(server: Config['server']) {
    this.#ledger.limits = server;
    this.#filter = new AddressFilter(server.allow, server.deny);
    this.#clients.clear();
  }

  /** The permit of a connection, which belongs to `holder` if it is granted; null when it must be closed. */
  decide(handle: RawHandle, holder: ConnectionHolder): Permit | null {
    const peer: { address?: string } = {};
    if (handle.getpeername(peer) !== 0 || peer.address === undefined) return null;
    const address = this.#clientAt(peer.address);
    if (address === null) {
      this.count('refusedByAddress', plainAddress(peer.address));
      return null;
    }
    return { address, decision: this.#ledger.admit(holder, address, performance.now()) };
  }

  /** Whether a client may be told that it is refused; if not, the refusal is counted, and the connection is closed. */
  mayTell(reason: Refusal, client: string): boolean {
    const now = performance.now();
    if (now - this.#toldSince >= 1000) {
      this.#told = 0;
      this.#toldSince = now;
    }
    const mayTell = ++this.#told <= maxToldPerSecond;
    if (!mayTell) this.count(reason, client);
    return mayTell;
  }

  /** Has a worker count a connection that is closed for this reason. */
  count(reason: Refusal, client = ''): void {
    const refused = this.#refused.get(reason);
    if (refused === undefined) this.#refused.set(reason, { count: 1, client });
    else {
      refused.count++;
      refused.client = client;
    }
    this.#timer ??= setTimeout(this.#send, gatherMs);
  }

  /** The key for limits per client; null when the client may not connect. */
  #clientAt(address: string): string | null {
    let client = this.#clients.get(address);
    if (client !== undefined) return client;
    const plain = plainAddress(address);
    client = this.#filter.admits(plain) ? clientKey(plain) : null;
    if (this.#clients.size >= maxClientsKnown) this.#clients.clear();
    this.#clients.set(address, client);
    return client;
  }

  readonly #send = (): void => {
    this.#timer = undefined;
    const refusals = [...this.#refused].map(([reason, { count, client }]) => [reason, count, client] as const);
    if (this.#report(refusals)) this.#refused.clear();
    else this.#timer = setTimeout(this.#send, gatherMs).unref();
  };
}
