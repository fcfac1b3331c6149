// A client that keeps `depth` requests outstanding on each of `connections`, and counts replies of one known size by
// their bytes alone: parsing them would cost more than the server's own work.
// Run as a child process: takes its settings as JSON in argv, prints one line of JSON.

import { createConnection } from 'node:net';

const { port, connections, depth, payloadBytes, replyBytes, seconds } = JSON.parse(process.argv[2]);
const warmUpMs = 300;
const frame = Buffer.alloc(4 + payloadBytes);
frame.writeUInt32BE(payloadBytes);
const burst = Buffer.concat(Array.from({ length: depth }, () => frame));
const replyFrame = 4 + replyBytes;

let replies = 0;
let isMeasuring = false;
const latenciesMs = [];

function connect() {
  const socket = createConnection({ host: '127.0.0.1', port, noDelay: true });
  let leftOver = 0;
  let sentAt = 0;
  const send = (count) => {
    sentAt = performance.now();
    socket.write(count === depth ? burst : burst.subarray(0, count * frame.length));
  };
  socket.on('connect', () => send(depth));
  socket.on('data', ({ length }) => {
    leftOver += length;
    const whole = Math.floor(leftOver / replyFrame);
    if (whole === 0) return;
    leftOver -= whole * replyFrame;
    if (isMeasuring) {
      replies += whole;
      if (depth === 1) latenciesMs.push(performance.now() - sentAt);
    }
    send(whole);
  });
  socket.on('error', (error) => {
    console.error(`the connection broke: ${error.message}`);
    process.exit(1);
  });
}

for (let i = 0; i < connections; i++) connect();
setTimeout(() => {
  isMeasuring = true;
  const begin = performance.now();
  setTimeout(() => {
    if (replies === 0) throw new Error('no reply came: do replies have the size that was expected?');
    const elapsed = (performance.now() - begin) / 1000;
    latenciesMs.sort((a, b) => a - b);
    const at = (q) => latenciesMs[Math.floor(q * latenciesMs.length)] ?? null;
    process.stdout.write(`${JSON.stringify({ rps: replies / elapsed, p50Ms: at(0.5), p99Ms: at(0.99) })}\n`, () =>
      process.exit(0),
    );
  }, seconds * 1000);
}, warmUpMs);
