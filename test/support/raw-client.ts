// A client that knows only sockets and bytes: it can send what a broken or hostile client may send.

import { createConnection, type Socket } from 'node:net';
import { encodeFrame, FrameDecoder, type LengthFieldSize } from '#src/protocol/frames.js';
import { until, within } from './until.js';

export class RawClient {
  readonly socket: Socket;
  readonly replies: Buffer[] = [];
  /** Resolves when the server has closed its side (FIN) or the connection has broken. */
  readonly ended: Promise<void>;
  readonly closed: Promise<void>;
  readonly #decoder: FrameDecoder;
  readonly #lengthFieldSize: LengthFieldSize;

  private constructor(socket: Socket, lengthFieldSize: LengthFieldSize) {
    this.socket = socket;
    this.#lengthFieldSize = lengthFieldSize;
    this.#decoder = new FrameDecoder(lengthFieldSize, 1 << 26);
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      this.#decoder.push(chunk);
      while (this.#decoder.next() === 'frame') {
        this.replies.push(Buffer.from(this.#decoder.source.subarray(this.#decoder.start, this.#decoder.end)));
      }
    });
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    this.ended = Promise.race([new Promise<void>((resolve) => socket.once('end', resolve)), this.closed]);
  }

  /** If `isReading` is false, the socket is paused: it never takes what the server sends. */
  static async connect(port: number, lengthFieldSize: LengthFieldSize = 4, isReading = true): Promise<RawClient> {
    const socket = createConnection({ host: '127.0.0.1', port, noDelay: true, allowHalfOpen: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    const client = new RawClient(socket, lengthFieldSize);
    if (!isReading) socket.pause();
    return client;
  }

  send(...payloads: readonly Uint8Array[]): void {
    this.socket.write(Buffer.concat(payloads.map((payload) => encodeFrame(payload, this.#lengthFieldSize))));
  }

  sendBytes(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  async replied(count: number): Promise<readonly Buffer[]> {
    await until(`${count} replies (${this.replies.length} came)`, () => this.replies.length >= count);
    return this.replies;
  }

  /** Waits for the server to close its side. */
  async serverEnded(timeoutMs = 10_000): Promise<void> {
    await within(timeoutMs, 'the server to close the connection', this.ended);
  }

  end(): void {
    this.socket.end();
  }

  /** Breaks the connection with RST. A server that has bytes to read at the same time may see a FIN instead (libuv). */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  destroy(): void {
    this.socket.destroy();
  }
}
