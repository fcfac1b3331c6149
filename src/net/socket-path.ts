// Paths of unix sockets, which the kernel keeps in a field of fixed size.

/** Longest path of a unix socket in bytes: what `sun_path` of unix(7) holds, less the terminating zero. */
export const maxSocketPathBytes = process.platform === 'linux' ? 107 : 103;

/**
 * Whether a unix socket can have this path. Node does not refuse a longer path: it cuts it, so that it names another
 * file.
 */
export function isSocketPath(path: string): boolean {
  return Buffer.byteLength(path) <= maxSocketPathBytes && !path.includes('\0');
}
