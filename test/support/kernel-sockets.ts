// What the kernel reports of TCP connections in /proc/net/tcp: Linux only.

import { readFileSync } from 'node:fs';

/** Values of `tr` in /proc/net/tcp: which timer runs for a connection. */
const timers = { none: 0, keepAlive: 2 };
/** Ticks of /proc's clock in a second. */
const ticksPerSecond = 100;

/**
 * Seconds until the kernel probes the peer of the connection from `port` to `peerPort`; null: never. Throws while bytes
 * are on their way to it: then another timer runs. @param port null: any
 */
export function keepAliveSeconds(port: number | null, peerPort: number): number | null {
  const hex = (number: number | null): string => number?.toString(16).toUpperCase().padStart(4, '0') ?? '\\w+';
  const line = ['tcp', 'tcp6']
    .flatMap((table) => readFileSync(`/proc/net/${table}`, 'latin1').split('\n'))
    .find((text) => new RegExp(`^ *\\d+: \\w+:${hex(port)} \\w+:${hex(peerPort)} 01 `).test(text));
  if (line === undefined) throw new Error(`there is no connection from port ${port} to ${peerPort}`);
  // sl local_address rem_address st (01: established) tx_queue:rx_queue tr:tm->when retrnsmt …
  const [timer = '', ticks = ''] = (line.trim().split(/ +/)[5] ?? '').split(':');
  const which = Number.parseInt(timer, 16);
  if (which === timers.keepAlive) return Number.parseInt(ticks, 16) / ticksPerSecond;
  if (which === timers.none) return null;
  throw new Error(`bytes are on their way from port ${port} to ${peerPort}`);
}
