// Which addresses may connect, and which of them count as one client.

import { BlockList, isIP, isIPv6 } from 'node:net';

export class AddressFilter {
  readonly #allowed: BlockList | null;
  readonly #denied: BlockList;

  /**
   * @param allow ranges that may connect; empty: all
   * @param deny ranges that may not connect, even if `allow` has them
   */
  constructor(allow: readonly string[], deny: readonly string[]) {
    this.#allowed = allow.length === 0 ? null : listOf(allow);
    this.#denied = listOf(deny);
  }

  admits(address: string): boolean {
    const family = isIPv6(address) ? 'ipv6' : 'ipv4';
    return !this.#denied.check(address, family) && (this.#allowed?.check(address, family) ?? true);
  }
}

function listOf(ranges: readonly string[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) {
    const [address = '', bits] = range.split('/');
    const family = isIPv6(address) ? 'ipv6' : 'ipv4';
    if (bits === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(bits), family);
  }
  return list;
}

/**
 * An address in the form used for comparisons: IPv4 in its own notation, also when it came through an IPv6 socket (RFC
 * 4291, 2.5.5.2).
 */
export function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '');
}

/**
 * The key of limits per client: an IPv4 address, or the /64 of an IPv6 address, since one customer has the whole /64.
 */
export function clientKey(address: string): string {
  if (!isIPv6(address)) return address;
  const [head = '', tail] = address.replace(/%.*$/, '').split('::');
  const groups = head === '' ? [] : head.split(':');
  const behind = tail === undefined || tail === '' ? [] : tail.split(':');
  const all = [...groups, ...Array<string>(Math.max(0, 8 - groups.length - behind.length)).fill('0'), ...behind];
  const network = all.slice(0, 4).map((group) => Number.parseInt(group || '0', 16).toString(16));
  return `${network.join(':')}::/64`;
}

/**
 * The client behind trusted proxies: the last address in X-Forwarded-For that is not a trusted proxy. The client may
 * have made up the addresses before it.
 * @param peer the address at the other end of the connection
 */
export function addressBehind(peer: string, forwardedFor: string, isTrusted: (address: string) => boolean): string {
  let client = plainAddress(peer);
  for (const hop of forwardedFor.split(',').toReversed()) {
    if (!isTrusted(client)) return client;
    const before = addressIn(hop.trim());
    if (before === null) return client;
    client = before;
  }
  return client;
}

/** Some proxies write the port as well: `10.0.0.7:4711`, `[fd00::1]:4711`. */
function addressIn(hop: string): string | null {
  const bare = /^\[(.*)\](?::\d+)?$/.exec(hop)?.[1] ?? /^([\d.]+):\d+$/.exec(hop)?.[1] ?? hop;
  return isIP(bare) === 0 ? null : plainAddress(bare);
}
