// Clients that notice any mistake: each sends numbered requests, cut anywhere, to a model that echoes, and knows which
// reply comes next, byte by byte.

import { createConnection, type Socket } from 'node:net';
import { encodeFrame, FrameDecoder } from '#src/protocol/frames.js';
import { until } from './until.js';

export interface CheckedClientOptions {
  /** Requests that each keeps in flight; 0: it sends only when asked to. */
  readonly depth?: number;
  /** Whether a client that the server closes reconnects and sends what had no reply again. */
  readonly isReconnecting?: boolean;
}

/** Texts of up to some 80 bytes that name their connection and their request. */
function payloadOf(client: number, request: number): Buffer {
  return Buffer.from(`${client}:${request}:`.padEnd(16 + (request % 64), 'x'));
}

export class CheckedClient {
  readonly #id: number;
  readonly #port: () => number;
  readonly #depth: number;
  readonly #isReconnecting: boolean;
  readonly latencies: number[] = [];
  /** What should never have happened. */
  fault: string | null = null;
  /** How often the server closed the connection. */
  closes = 0;
  replied = 0;
  /** Requests that had no reply when the connection closed: they may have been answered. */
  lost = 0;
  #sent = 0;
  #sentAt: number[] = [];
  #socket!: Socket;
  #decoder!: FrameDecoder;
  /** Bytes that are held back, so that the server has an incomplete frame. */
  #heldBack: Buffer = Buffer.alloc(0);
  #isOver = false;

  constructor(
    id: number,
    port: number | (() => number),
    { depth = 0, isReconnecting = false }: CheckedClientOptions = {},
  ) {
    this.#id = id;
    this.#port = typeof port === 'number' ? () => port : port;
    this.#depth = depth;
    this.#isReconnecting = isReconnecting;
    this.#connect();
  }

  get inFlight(): number {
    return this.#sent - this.replied;
  }

  get isConnected(): boolean {
    return !this.#socket.destroyed && !this.#socket.connecting;
  }

  /** Sends this many requests; the last one whole, too, unless part of it is to be held back. */
  send(count: number, holdBack = false): void {
    const frames = Array.from({ length: count }, (_, i) => encodeFrame(payloadOf(this.#id, this.#sent + i), 4));
    this.#sent += count;
    this.#sentAt.push(...frames.map(() => performance.now()));
    const bytes = Buffer.concat([this.#heldBack, ...frames]);
    const cut = holdBack ? bytes.length - 1 - (this.#sent % 11) : bytes.length;
    this.#heldBack = bytes.subarray(cut);
    this.#socket.write(bytes.subarray(0, cut));
  }

  /** Sends what was held back, and resolves when every request has its reply. */
  async finish(): Promise<void> {
    this.#isOver = true;
    this.send(0);
    await until(`all replies of client ${this.#id}`, () => this.inFlight === 0 || this.fault !== null);
  }

  async asked(count: number): Promise<void> {
    this.send(count);
    await until(`replies of client ${this.#id}`, () => this.inFlight === 0 || this.fault !== null);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  destroy(): void {
    this.#isOver = true;
    this.#socket.destroy();
  }

  #connect(): void {
    this.#decoder = new FrameDecoder(4, 1 << 20);
    this.#heldBack = Buffer.alloc(0);
    this.#sent = this.replied;
    this.#sentAt = [];
    this.#socket = createConnection({ host: '127.0.0.1', port: this.#port(), noDelay: true });
    this.#socket.on('connect', () => this.#depth > 0 && this.send(this.#depth));
    this.#socket.on('error', () => {});
    this.#socket.on('data', (chunk) => this.#received(chunk));
    this.#socket.on('close', () => this.#closed());
  }

  #closed(): void {
    if (this.#isOver && this.inFlight === 0) return;
    this.closes++;
    this.lost += this.inFlight;
    if (!this.#isReconnecting) this.fault ??= `client ${this.#id} was closed after ${this.replied} replies`;
    else if (!this.#isOver) setTimeout(() => this.#connect(), 20);
    else this.#sent = this.replied;
  }

  #received(chunk: Buffer): void {
    this.#decoder.push(chunk);
    let fresh = 0;
    while (this.#decoder.next() === 'frame') {
      const { source, start, end } = this.#decoder;
      const expected = payloadOf(this.#id, this.replied);
      if (!expected.equals(source.subarray(start, end))) {
        this.fault ??= `client ${this.#id} had a wrong reply to request ${this.replied}: ${source.toString('latin1', start, Math.min(end, start + 16))}, not ${expected.toString('latin1', 0, 16)}`;
      }
      this.latencies.push(performance.now() - (this.#sentAt.shift() ?? 0));
      this.replied++;
      fresh++;
    }
    if (this.#depth > 0 && !this.#isOver && fresh > 0) this.send(fresh, this.replied % 3 === 0);
  }
}

/** The first fault of any of them. */
export function faultOf(clients: readonly CheckedClient[]): string | null {
  return clients.find(({ fault }) => fault !== null)?.fault ?? null;
}

export function quantile(values: readonly number[], q: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
}
