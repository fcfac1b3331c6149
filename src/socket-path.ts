// Paths of unix sockets, which the kernel keeps in a place of its own size.

/** Longest path of a unix socket in bytes: what `sun_path` of unix(7) holds, less the zero that ends it. */
export const maxSocketPathBytes = process.platform === 'linux' ? 107 : 103;

/** Whether a unix socket can have this path. A longer one is not refused by Node: it is cut, and names another file. */
export function isSocketPath(path: string): boolean {
  return Buffer.byteLength(path) <= maxSocketPathBytes && !path.includes('\0');
}
