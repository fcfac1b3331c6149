// A client that sends at a fixed rate, whether it is answered or not, and distinguishes served replies from empty ones.
// Latency counts from the moment that a request was due. Run as a child process, like load.mjs.

import { createConnection } from 'node:net';

const { port, connections, rate, payloadBytes, seconds } = JSON.parse(process.argv[2]);
const tickMs = 1;
const frame = Buffer.alloc(4 + payloadBytes);
frame.writeUInt32BE(payloadBytes);

let served = 0;
let refused = 0;
const latenciesMs = [];

function connect() {
  const socket = createConnection({ host: '127.0.0.1', port, noDelay: true });
  const due = [];
  let rest = Buffer.alloc(0);
  socket.on('data', (chunk) => {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let at = 0;
    while (bytes.length - at >= 4 && bytes.length - at >= 4 + bytes.readUInt32BE(at)) {
      const length = bytes.readUInt32BE(at);
      at += 4 + length;
      const waited = performance.now() - due.shift();
      if (length === 0) refused++;
      else {
        served++;
        latenciesMs.push(waited);
      }
    }
    rest = bytes.subarray(at);
  });
  socket.on('error', (error) => {
    console.error(`the connection broke: ${error.message}`);
    process.exit(1);
  });
  return {
    send(at) {
      due.push(at);
      socket.write(frame);
    },
  };
}

const clients = Array.from({ length: connections }, connect);
const begin = performance.now();
let sent = 0;
const timer = setInterval(() => {
  const now = performance.now();
  for (; sent < ((now - begin) / 1000) * rate; sent++) {
    clients[sent % connections].send(begin + (sent / rate) * 1000);
  }
  if (now - begin < seconds * 1000) return;
  clearInterval(timer);
  latenciesMs.sort((a, b) => a - b);
  const p99Ms = latenciesMs[Math.floor(latenciesMs.length * 0.99)] ?? null;
  const result = { sentPerSecond: sent / seconds, servedPerSecond: served / seconds, served, refused, p99Ms };
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
}, tickMs);
