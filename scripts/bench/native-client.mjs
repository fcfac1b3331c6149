// The client that is not the limit: client.c, compiled when it is needed.

import { execFile, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const source = fileURLToPath(new URL('./client.c', import.meta.url));

/** Resolves with the client; where it cannot be compiled, prints that and resolves with null. */
export function compileClient(folder) {
  const file = join(folder, 'client');
  const compiler = process.env.CC ?? 'cc';
  const { status, error, stderr } = spawnSync(compiler, ['-O2', '-o', file, source], { encoding: 'utf8' });
  if (status !== 0) {
    const reason = error === undefined ? stderr.trim() : `${compiler} cannot be run (${error.code})`;
    console.error(
      `rows that need a client in C are skipped: ${reason}; install a C compiler (Debian: apt-get install gcc)`,
    );
    return null;
  }
  const run = async (...args) => JSON.parse((await promisify(execFile)(file, args.map(String))).stdout);
  return {
    /** Closed loop: `connections` × `depth` requests in flight, for `seconds`. */
    load: ({ port, connections, depth, payloadBytes, replyBytes, seconds }) =>
      run('load', port, connections, depth, payloadBytes, replyBytes, seconds),
    /** The same, but looks at the size of each reply alone. */
    loadSizes: ({ port, connections, depth, payloadBytes, replyBytes, seconds }) =>
      run('load-sizes', port, connections, depth, payloadBytes, replyBytes, seconds),
    /**
     * Closed loop, calls on frames. `call` is a file with a Call whose number is a varint of five bytes, at its
     * beginning; the last `answerFloats` numbers of a reply may differ by a rounding.
     */
    loadCalls: ({ port, connections, depth, call, replyBytes, answerFloats, seconds }) =>
      run('load-calls', port, connections, depth, call, replyBytes, answerFloats, seconds),
    /** `atOnce` connections at a time, each served once and reset. */
    connect: ({ port, atOnce, payloadBytes, replyBytes, seconds }) =>
      run('connect', port, atOnce, payloadBytes, replyBytes, seconds),
  };
}
