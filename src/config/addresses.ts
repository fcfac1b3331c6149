// Which addresses `start` binds, and which two of them collide.

import { isIP, SocketAddress } from 'node:net';

/** Names of the settings that an address comes from, for messages. */
export interface AddressSettings {
  readonly host: string;
  readonly port: string;
}

export interface BoundAddress {
  readonly settings: AddressSettings;
  readonly host: string;
  readonly port: number;
}

/** The part of the config that tells where the addresses of listeners come from. */
interface Listeners {
  readonly hasListenerList: boolean;
  readonly listeners: readonly { readonly host: string }[];
  readonly server: { readonly host: string };
}

export const httpSettings: AddressSettings = { host: 'http.host (HTTP_HOST)', port: 'http.port (HTTP_PORT)' };

/** The names of the settings that set the address of the listener with this index. */
export function listenerSettings({ hasListenerList, listeners, server }: Listeners, index: number): AddressSettings {
  if (!hasListenerList) return { host: 'server.host (HOST)', port: 'server.port (PORT)' };
  const own = `listeners[${index}].host`;
  const host = listeners[index]?.host === server.host ? `${own}, or server.host (HOST) where it has none` : own;
  return { host, port: `listeners[${index}].port` };
}

/** A sentence for each two of `addresses` that take the same port on the same address. */
export function collisions(addresses: readonly BoundAddress[]): readonly string[] {
  return addresses.flatMap((later, i) =>
    addresses
      .slice(0, i)
      .filter((earlier) => earlier.port !== 0 && earlier.port === later.port && overlap(earlier.host, later.host))
      .map(
        (earlier) =>
          `${later.settings.port}: ${at(later)} is taken by ${earlier.settings.port}, which is ${at(earlier)}: give each a port of its own`,
      ),
  );
}

const at = ({ host, port }: BoundAddress): string => `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;

/**
 * Whether a listener on one address blocks a listener on the other. `::` takes IPv4 as well; a host name is known only
 * to equal itself, and `localhost` to be loopback, of either family.
 */
export function overlap(one: string, other: string): boolean {
  const [a, b] = [normal(one), normal(other)];
  if (a === b || a === '::' || b === '::') return true;
  if (a === '0.0.0.0') return isIP(b) !== 6;
  if (b === '0.0.0.0') return isIP(a) !== 6;
  const loopback = ['127.0.0.1', '::1'];
  return (a === 'localhost' && loopback.includes(b)) || (b === 'localhost' && loopback.includes(a));
}

/** The normal form of an address, which can be written in many ways. */
function normal(host: string): string {
  const [address = '', zone] = host.toLowerCase().split('%');
  if (isIP(address) !== 6) return address.replace(/\.$/, '');
  const short = new SocketAddress({ address, family: 'ipv6' }).address;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(short)?.[1];
  return mapped ?? (zone === undefined ? short : `${short}%${zone}`);
}
