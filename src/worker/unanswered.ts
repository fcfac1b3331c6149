// Clients that are gone while bytes were on their way to them. Keepalive does not find these: the kernel asks for a
// silent client only when all that was sent to it has arrived. Until then it sends the bytes again and again, for a
// quarter of an hour (net.ipv4.tcp_retries2), and all that time the client has a place. TCP_USER_TIMEOUT would end
// that, but Node cannot set it. So such a client is looked for where Linux tells how often it has sent in vain:
// /proc/net/tcp. Elsewhere the kernel's own time holds.

import { fstatSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { descriptorOf } from '../raw-handle.js';
import type { Origin } from './migration.js';
import type { ServedConnection } from './protocols.js';

/**
 * Times that the kernel has sent the same bytes in vain, or asked a client without room for them. The pause before each
 * is twice the last one, from 0.2 s: this often takes 12.6 seconds at least, and keepalive waits for 10.
 */
const minInVain = 6;

/** Quiet for longer, the kernel has given up by itself. */
const maxQuietMs = 1_000_000;

const coarsestIntervalMs = 10_000;
/** A look may cost so much of the time: the table has all connections of the machine. */
const maxShareOfTime = 0.01;

export class UnansweredWatch {
  readonly #keepAliveMs: number;
  readonly #intervalMs: number;
  #nextAt = 0;

  /** @param keepAliveMs a client that has said something since is there; 0: nobody is looked for */
  constructor(keepAliveMs: number) {
    this.#keepAliveMs = keepAliveMs;
    this.#intervalMs = Math.min(coarsestIntervalMs, keepAliveMs);
    if (keepAliveMs === 0) this.#nextAt = Number.POSITIVE_INFINITY;
  }

  /** Cuts those that are gone, as the kernel would. To be called every so often with the monotonic clock. */
  async look(now: number, connections: ReadonlyMap<ServedConnection, Origin>): Promise<void> {
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
 * Inodes of the sockets whose peers have let the kernel send `minInVain` times. Rejects where there is no such table.
 */
async function unansweredSockets(): Promise<ReadonlySet<number>> {
  const tables = ['tcp', 'tcp6'].map((table) => readFile(`/proc/self/net/${table}`, 'latin1').catch(() => ''));
  const text = (await Promise.all(tables)).join('');
  if (text === '') throw new Error('there is no /proc/net/tcp');
  return parseUnanswered(text);
}

/**
 * Of the lines of /proc/net/tcp (Documentation/networking/proc_net_tcp.rst in Linux): `sl local remote st
 * tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …`, where `tr` is 1 for a socket that sends again and 4 for
 * one that asks for room, and `timeout` counts how often it has asked. Numbers in hex up to `retrnsmt`.
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
