// Facts about the form of settings that more than one place needs.

import { isIP } from 'node:net';

/** The most workers of one node. */
export const maxWorkers = 1024;

/** Longest shared secret in bytes; a first frame that announces more is not read. */
export const maxSecretBytes = 256;

/** An address (`10.0.0.7`, `fd00::1`) or a range of them in CIDR notation (RFC 4632): `10.0.0.0/8`, `fd00::/8`. */
export function isAddressRange(text: string): boolean {
  const [address = '', bits, ...more] = text.split('/');
  const kind = isIP(address);
  if (kind === 0 || more.length > 0) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (kind === 4 ? 32 : 128));
}
