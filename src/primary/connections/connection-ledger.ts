// Counts the connections of the machine by holder. Each connection is admitted here before a worker has it, so that the
// limits apply to all workers together, however connections are spread.

import type { Decision } from '../../ipc/messages.js';

export interface ConnectionHolder {
  connections: number;
  /** How many of them each client address has. */
  readonly peers: Map<string, number>;
}

/** 0 means no limit, except for `maxConnections`. */
export interface LedgerLimits {
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  /** This many may arrive at once, and then this many each second. */
  readonly maxNewConnectionsPerSecond: number;
}

export class ConnectionLedger {
  #limits: LedgerLimits;
  #taken = 0;
  readonly #peers = new Map<string, number>();
  /** How many may arrive now. */
  #allowance: number;
  #allowedAt: number;

  constructor(limits: LedgerLimits, now: number) {
    this.#limits = limits;
    this.#allowance = limits.maxNewConnectionsPerSecond;
    this.#allowedAt = now;
  }

  /** Decides on a new connection from this address; one that is granted belongs to `holder` from here on. */
  admit(holder: ConnectionHolder, address: string, now: number): Decision {
    const decision = this.#judge(address, now);
    if (decision !== 'granted') return decision;
    this.#taken++;
    this.#allowance--;
    add(this.#peers, address, 1);
    hold(holder, address, 1);
    return decision;
  }

  release(holder: ConnectionHolder, addresses: readonly string[]): void {
    for (const address of addresses) this.#release(holder, address, 1);
  }

  /** Moves one connection of `from` to `to`. */
  move(from: ConnectionHolder, to: ConnectionHolder, address: string): void {
    hold(from, address, -1);
    hold(to, address, 1);
  }

  /** The limits from now on; existing connections beyond them stay. */
  set limits(limits: LedgerLimits) {
    this.#limits = limits;
    this.#allowance = limits.maxNewConnectionsPerSecond;
  }

  /** For a worker that is gone. */
  releaseAll(holder: ConnectionHolder): void {
    for (const [address, count] of [...holder.peers]) this.#release(holder, address, count);
  }

  #judge(address: string, now: number): Decision {
    const { maxConnections, maxConnectionsPerAddress, maxNewConnectionsPerSecond } = this.#limits;
    if (this.#taken >= maxConnections) return 'refusedByLimit';
    if (maxConnectionsPerAddress > 0 && (this.#peers.get(address) ?? 0) >= maxConnectionsPerAddress)
      return 'refusedByAddressLimit';
    if (maxNewConnectionsPerSecond === 0) return 'granted';
    const earned = ((now - this.#allowedAt) / 1000) * maxNewConnectionsPerSecond;
    this.#allowance = Math.min(maxNewConnectionsPerSecond, this.#allowance + earned);
    this.#allowedAt = now;
    return this.#allowance < 1 ? 'refusedByRate' : 'granted';
  }

  #release(holder: ConnectionHolder, address: string, count: number): void {
    this.#taken -= count;
    add(this.#peers, address, -count);
    hold(holder, address, -count);
  }
}

function hold(holder: ConnectionHolder, address: string, count: number): void {
  holder.connections += count;
  add(holder.peers, address, count);
}

function add(counts: Map<string, number>, key: string, by: number): void {
  const count = (counts.get(key) ?? 0) + by;
  if (count === 0) counts.delete(key);
  else counts.set(key, count);
}
