// Finds clients that went away while bytes were on their way to them. Keepalive does not find these: the kernel asks a
// silent client whether it is there only when everything sent to it has arrived. Until then the kernel retransmits, for
// a quarter of an hour (net.ipv4.tcp_retries2), and all that time the client has a place. TCP_USER_TIMEOUT would end
// that, but Node cannot set it. So this looks where Linux shows how often it has retransmitted: /proc/net/tcp. On other
// systems the kernel's own timeout applies.

import { fstatSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { descriptorOf } from '../../net/raw-handle.js';
import type { ServedConnection } from '../protocols.js';
import type { Origin } from './migration.js';

/**
 * How often the kernel must have sent the same bytes in vain, or asked a client without room for them. The pause before
 * each attempt is twice the last one, from 0.2 s: this many take at least 12.6 seconds, and keepalive waits for 10.
 */
const minInVain = 6;

/** After a longer silence, the kernel has given up by itself. */
const maxQuietMs = 1_000_000;

const coarsestIntervalMs = 10_000;
/** The share of time that checks may take: the table has all connections of the machine. */
const maxShareOfTime = 0.01;

export class UnansweredWatch {
  readonly #keepAliveMs: number;
  readonly #intervalMs: number;
  #nextAt = 0;

  /** @param keepAliveMs a client that was active within this time is still there; 0: no client is checked */
  constructor(keepAliveMs: number) {
    this.#keepAliveMs = keepAliveMs;
    this.#intervalMs = Math.min(coarsestIntervalMs, keepAliveMs);
    if (keepAliveMs === 0) this.#nextAt = Number.POSITIVE_INFINITY;
  }

  /**
   * Cuts the connections of clients that are gone, as the kernel would. Called regularly with the time of the monotonic
   * clock.
   */
  async check(now: number, connections: ReadonlyMap<ServedConnection, Origin>): Promise<void> {
    if (now < this.#nextAt) return;
    const quiet = [...connections].filter(([connection]) => this.#isQuiet(connection, now));
    this.#nextAt = quiet.length === 0 ? now + this.#intervalMs : Number.POSITIVE_INFINITY;
    if (quiet.length === 0) return;
    const sockets = await unansweredSockets().catch(() => null);
    if (sockets === null) return;
    const tookMs = performance.now() - now;
    this.#nextAt = now + Math.max(this.#intervalMs, tookMs / maxShareOfTime);
    if (sockets.size === 0) return;
    for (const [connection, { socket }] of quiet) {
      const descriptor = descriptorOf(socket);
      if (descriptor === null || !this.#isQuiet(connection, performance.now())) continue;
      if (sockets.has(fstatSync(descriptor).ino))
        socket.destroy(Object.assign(new Error('the client is gone'), { code: 'ETIMEDOUT' }));
    }
  }

  #isQuiet({ activeAt }: ServedConnection, now: number): boolean {
    const quietMs = now - activeAt;
    return quietMs >= this.#keepAliveMs && quietMs < this.#keepAliveMs + maxQuietMs;
  }
}

/**
 * Inodes of the sockets to whose peers the kernel has sent in vain `minInVain` times. Rejects where there is no such
 * table.
 */
async function unansweredSockets(): Promise<ReadonlySet<number>> {
  const tables = ['tcp', 'tcp6'].map((table) => readFile(`/proc/self/net/${table}`, 'latin1').catch(() => ''));
  const text = (await Promise.all(tables)).join('');
  if (text === '') throw new Error('there is no /proc/net/tcp');
  return parseUnanswered(text);
}

/**
 * Reads the lines of /proc/net/tcp (Documentation/networking/proc_net_tcp.rst in Linux): `sl local remote st
 * tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …`, where `tr` is 1 for a socket that retransmits and 4 for
 * one that asks for room, and `timeout` counts how often it has asked. Numbers are hex up to `retrnsmt`.
 */
export function parseUnanswered(text: string): ReadonlySet<number> {
  const found = new Set<number>();
  for (const [, again = '', asked = '', inode = ''] of text.matchAll(
    / 0[14]:[0-9A-F]+ ([0-9A-F]{8}) +\d+ +(\d+) (\d+) /g,
  )) {
    if (Number.parseInt(again, 16) >= minInVain || Number(asked) >= minInVain) found.add(Number(inode));
  }
  return found;
}
