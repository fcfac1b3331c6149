// How much of HTTP/2 the server keeps, as h2spec sees it: `npm run h2spec`. It fails when a test fails that is not known
// to. h2spec: go install github.com/summerwind/h2spec/cmd/h2spec@latest

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/**
 * Section, and number there. All are node:http2's, but the first: what begins neither protocol is answered by that of
 * HTTP/1.1.
 */
const known = new Set(['3.5 2', '5.1 8', '5.1 9', '5.1 11', '5.1 12', '5.1.1 2', '6.7 2', '6.9.1 2']);

const program = process.env.H2SPEC ?? 'h2spec';
if (spawnSync(program, ['--version']).error) {
  console.error(`skipped: ${program} is not on PATH (go install github.com/summerwind/h2spec/cmd/h2spec@latest)`);
  process.exit(0);
}
const server = spawn(
  process.execPath,
  [fileURLToPath(new URL('../bundle/cli.js', import.meta.url)), 'start', '--port', '0', '--http-port', '0'],
  { env: { ...process.env, PROTOCOL: 'open', MODEL: 'dummy' }, stdio: ['ignore', 'pipe', 'inherit'] },
);
let port;
for await (const line of createInterface({ input: server.stdout })) {
  const [, found] = /"tcp":\["[^"]*?:(\d+) /.exec(line) ?? [];
  if (found === undefined) continue;
  port = found;
  break;
}
const { stdout } = spawnSync(program, ['-h', '127.0.0.1', '-p', port, '--timeout', '3'], { encoding: 'utf8' });
server.kill('SIGTERM');
await once(server, 'exit');

const report = stdout.slice(Math.max(0, stdout.indexOf('Failures:')));
console.log(report);
let section = '';
const unknown = [];
for (const line of report.split('\n')) {
  section = /^\s+(\d[\d.]*)\. /.exec(line)?.[1] ?? section;
  const [, number] = /^\s+× (\d+): /.exec(line) ?? [];
  if (number !== undefined && !known.has(`${section} ${number}`)) unknown.push(line.trim());
}
if (unknown.length > 0 || !/\d+ passed/.test(report)) {
  console.error(`not known before:\n${unknown.join('\n')}`);
  process.exitCode = 1;
}
