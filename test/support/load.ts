// Clients that keep the server busy and count for themselves: which requests they sent whole, and which replies they
// received.

import { createConnection, type Socket } from 'node:net';
import { encodeFrame } from '#src/protocol/frames.js';
import { until } from './until.js';

const depth = 8;

/** All replies have one size, `replyBytes`, length field included. */
export interface LoadOptions {
  readonly connections?: number;
  readonly replyBytes?: number;
  readonly payloadBytes?: number;
}

class LoadConnection {
  sent = 0;
  replied = 0;
  isClosed = false;
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #replyBytes: number;
  readonly #frame: Buffer;
  #leftOver = 0;
  #isEnding = false;

  constructor(port: number, replyBytes: number, payloadBytes: number) {
    this.#replyBytes = replyBytes;
    this.#frame = encodeFrame(Buffer.alloc(payloadBytes), 4);
    this.#socket = createConnection({ host: '127.0.0.1', port, noDelay: true, allowHalfOpen: true });
    this.#socket.on('connect', () => this.#send(depth));
    this.#socket.on('error', () => {});
    this.#socket.on('data', (chunk) => this.#received(chunk));
    this.#socket.on('end', () => this.#socket.end());
    this.closed = new Promise((resolve) =>
      this.#socket.on('close', () => {
        this.isClosed = true;
        resolve();
      }),
    );
  }

  get inFlight(): number {
    return this.sent - this.replied;
  }

  /** Sends no more; the connection closes when all is answered. */
  finish(): void {
    this.#isEnding = true;
    if (this.inFlight === 0) this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #send(count: number): void {
    this.sent += count;
    this.#socket.write(Buffer.concat(Array.from({ length: count }, () => this.#frame)));
  }

  #received({ length }: Buffer): void {
    this.#leftOver += length;
    const whole = Math.floor(this.#leftOver / this.#replyBytes);
    this.#leftOver -= whole * this.#replyBytes;
    this.replied += whole;
    if (!this.#isEnding) this.#send(whole);
    else if (this.inFlight === 0) this.#socket.end();
  }
}

/** Closed loop over some connections; one that the server closes is replaced. */
export class Load {
  readonly #ports: () => readonly number[];
  readonly #replyBytes: number;
  readonly #payloadBytes: number;
  readonly #all: LoadConnection[] = [];
  #isOver = false;

  /** @param ports of the servers that can be reached at the moment; connections use them in turn */
  constructor(
    ports: () => readonly number[],
    { connections = 6, replyBytes = 24, payloadBytes = 16 }: LoadOptions = {},
  ) {
    this.#ports = ports;
    this.#replyBytes = replyBytes;
    this.#payloadBytes = payloadBytes;
    for (let i = 0; i < connections; i++) void this.#keep(i);
  }

  /** Whole replies that clients have received. */
  get replies(): number {
    return this.#all.reduce((sum, { replied }) => sum + replied, 0);
  }

  /** Requests that were sent on connections that closed before they were answered. */
  get lost(): number {
    return this.#all.reduce((sum, { isClosed, inFlight }) => sum + (isClosed ? inFlight : 0), 0);
  }

  /** Resolves when this many more replies have come. */
  async more(replies: number): Promise<void> {
    const wanted = this.replies + replies;
    await until(`${replies} more replies`, () => this.replies >= wanted, { intervalMs: 5 });
  }

  /** Lets every request be answered, closes, and resolves when that is done. */
  async stop(): Promise<void> {
    this.#isOver = true;
    for (const connection of this.#all) connection.finish();
    await Promise.all(this.#all.map(({ closed }) => closed));
  }

  /** Cuts all connections. */
  destroy(): void {
    this.#isOver = true;
    for (const connection of this.#all) connection.destroy();
  }

  async #keep(i: number): Promise<void> {
    for (let attempt = 0; !this.#isOver; attempt++) {
      const ports = this.#ports();
      const port = ports[(i + attempt) % ports.length];
      if (port === undefined) {
        await new Promise((resolve) => setTimeout(resolve, 10));
        continue;
      }
      const connection = new LoadConnection(port, this.#replyBytes, this.#payloadBytes);
      this.#all.push(connection);
      await connection.closed;
      if (connection.sent === 0) this.#all.splice(this.#all.indexOf(connection), 1);
    }
  }
}
