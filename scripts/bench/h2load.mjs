// h2load, the client of nghttp2: HTTP/1.1 and gRPC without a runtime that is slower than the server.

import { execFile, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';

const warmUpMs = 300;

/** Resolves with the client; where h2load is missing, prints that and resolves with null. */
export function findH2load() {
  const { error } = spawnSync('h2load', ['--version']);
  if (error === undefined) return { load };
  console.error(
    `rows of HTTP and gRPC are skipped: h2load cannot be run (${error.code}); install it (Debian: apt-get install nghttp2-client)`,
  );
  return null;
}

/**
 * Closed loop: `connections` × `depth` requests in flight, for `seconds`; each is a POST of the file `body`, and its
 * answer must have `answerBytes`.
 */
async function load({ port, path, headers, body, answerBytes, isHttp1, connections, depth, seconds }) {
  const { stdout } = await promisify(execFile)(
    'h2load',
    [
      ...(isHttp1 ? ['--h1'] : []),
      ...[
        '-c',
        connections,
        '-m',
        depth,
        '-D',
        `${1000 * seconds}ms`,
        '--warm-up-time',
        `${warmUpMs}ms`,
        '-d',
        body,
      ].map(String),
      ...Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]),
      `http://127.0.0.1:${port}${path}`,
    ],
    { timeout: 1000 * seconds + 30_000 },
  );
  const { rps } = resultOf(stdout, answerBytes);
  // The answers of the warm-up are not counted, so this is as many as came at about the same rate.
  return { rps, replies: rps * (seconds + warmUpMs / 1000) };
}

/** Throws unless all were answered with as many bytes as an answer has. */
function resultOf(stdout, answerBytes) {
  const found = (pattern) => {
    const match = pattern.exec(stdout);
    if (match === null) throw new Error(`h2load said something else than expected:\n${stdout}`);
    return match.slice(1).map(Number);
  };
  const [rps] = found(/finished in [\d.]+\w+, ([\d.]+) req\/s/);
  const [replies, failed, errored] = found(/(\d+) succeeded, (\d+) failed, (\d+) errored/);
  const [bytes] = found(/ [\d.]+\w+ \((\d+)\) data/);
  // The bytes are those of the warm-up as well; a failure over gRPC is a 200 without them.
  if (failed + errored > 0 || replies === 0 || bytes < 0.99 * replies * answerBytes)
    throw new Error(`not each answer has ${answerBytes} bytes:\n${stdout}`);
  return { rps };
}
