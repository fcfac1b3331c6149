// The least tree of processes like ours: a primary, two workers that answer every frame with four bytes, and a child
// with an HTTP server. It shows what Node itself needs to start, and what it needs of memory.
// Run as a child process: node bare-tree.mjs PORT

import { fork } from 'node:child_process';
import cluster from 'node:cluster';
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';

const [what] = process.argv.slice(2);
const answer = Buffer.from([0, 0, 0, 4, 88, 88, 88, 88]);

if (what === 'http') {
  process.on('disconnect', () => process.exit(0));
  createHttpServer((_, response) => response.end('{}')).listen(0, '127.0.0.1');
} else if (cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork();
  fork(fileURLToPath(import.meta.url), ['http']);
  process.once('SIGTERM', () => process.exit(0));
} else {
  createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => {});
    socket.on('data', () => socket.write(answer));
  }).listen(Number(what), '127.0.0.1');
}
