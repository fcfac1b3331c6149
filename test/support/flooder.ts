// A process that attacks a TCP port in one way until it is killed. It prints `flooding` when it is under way. It has
// the lowest priority: a flood comes from other machines, and does not take the processors of its target.
// usage: node flooder.js KIND PORT COUNT

import { connect, type Socket } from 'node:net';
import { constants, setPriority } from 'node:os';

const [kind = '', port = '0', count = '0'] = process.argv.slice(2);
const connections = Number(count);

setPriority(constants.priority.PRIORITY_LOW);

const frame = (bytes: number): Buffer => {
  const whole = Buffer.alloc(4 + bytes);
  whole.writeUInt32BE(bytes);
  return whole;
};
let opened = 0;
/** Connects from several addresses, since one has too few ports for a storm. */
const open = (): Socket => {
  const localAddress = `127.0.0.${2 + (opened++ % 32)}`;
  return connect({ host: '127.0.0.1', port: Number(port), localAddress, noDelay: true }).on('error', () => {});
};
/** Keeps this many connections open, and replaces each one that is closed. */
function hold(serve: (socket: Socket) => void): void {
  const next = (): void => {
    const socket = open();
    socket.once('connect', () => serve(socket));
    socket.once('close', () => setTimeout(next, 100));
  };
  for (let i = 0; i < connections; i++) setTimeout(next, i / 4);
}
/** Writes `bytes` as fast as they are accepted. */
function pour(socket: Socket, bytes: Buffer): void {
  const more = (): void => {
    while (!socket.destroyed && socket.write(bytes));
  };
  socket.on('drain', more);
  more();
}

const floods: Readonly<Record<string, () => void>> = {
  /** One byte of a frame each second. */
  'slow senders': () =>
    hold((socket) => {
      socket.resume().write(Buffer.from([0, 0, 0]));
      const drip = setInterval(() => socket.write(Buffer.from([255])), 1000);
      socket.once('close', () => clearInterval(drip));
    }),
  /** Half of a frame each, and then nothing. */
  'half frames': () => hold((socket) => void socket.resume().write(frame(1 << 20).subarray(0, 600_000))),
  /** They send requests and never read. */
  'slow readers': () => hold((socket) => pour(socket.pause(), Buffer.concat(Array<Buffer>(100).fill(frame(10))))),
  /** They have closed their side, or say nothing. */
  'half-open connections': () => hold((socket) => (opened % 2 === 0 ? socket.pause().end() : socket.pause())),
  /** They have sent one request. */
  'idle connections': () => hold((socket) => void socket.resume().write(frame(256))),
  'connect and reset': () => {
    const next = (): void => {
      const socket = open();
      socket.once('connect', () => socket.resetAndDestroy());
      socket.once('close', () => setImmediate(next));
    };
    for (let i = 0; i < connections; i++) next();
  },
  /** `count` in total, some thousand at once. */
  'more connections than are allowed': () => {
    const next = (): void => {
      if (opened < connections) open().resume().once('close', next);
    };
    for (let i = 0; i < 2000; i++) next();
  },
  'frames of the maximum size': () => hold((socket) => pour(socket.resume(), frame(1 << 20))),
  'pipelines of tiny frames': () =>
    hold((socket) => pour(socket.resume(), Buffer.concat(Array<Buffer>(100_000).fill(frame(1))))),
};

const flood = floods[kind];
if (flood === undefined) throw new Error(`there is no flood of ${kind}`);
flood();
setTimeout(() => console.log('flooding', opened), 500);
setInterval(() => {}, 1000);
