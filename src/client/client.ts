// The TypeScript client: pipelines requests over one connection and resolves each with its reply.

import { createConnection, isIP, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions as TlsOptions } from 'node:tls';
import { encodeFrame, FrameDecoder, type LengthFieldSize, maxFrameLength } from '../protocol/frames.js';

export interface ClientOptions {
  readonly host?: string;
  readonly port: number;
  /** As server.lengthFieldSize; 4 by default. */
  readonly lengthFieldSize?: LengthFieldSize;
  /** Replies longer than this break the connection; 64 MiB by default. */
  readonly maxReplyBytes?: number;
  readonly connectTimeoutMs?: number;
  /**
   * Silence after which the kernel checks whether the server is still there (TCP keepalive): 30 seconds by default, in
   * whole seconds; if the server does not answer for another 10 s, the connection breaks. 0: no checks.
   */
  readonly keepAliveMs?: number;
  /**
   * Speaks TLS, with these options of `tls.connect`: `ca` to trust, `cert` and `key` to present. The server's
   * certificate must be valid for `host`, or for `servername`.
   */
  readonly tls?: TlsOptions;
  /** As server.sharedSecret; it is sent before the first request. */
  readonly secret?: string;
}

/** The server answered with an empty frame: it refused the request, or the model failed on it. */
export class RequestFailedError extends Error {
  constructor() {
    super('the server could not answer this request (empty frame)');
    this.name = 'RequestFailedError';
  }
}

/** The connection ended before the reply came; the request may or may not have been served. */
export class ConnectionLostError extends Error {
  constructor(options?: ErrorOptions) {
    super('the connection ended before the reply', options);
    this.name = 'ConnectionLostError';
  }
}

interface Waiting {
  resolve(reply: Buffer): void;
  reject(error: Error): void;
}

export class InferenceClient {
  readonly #socket: Socket;
  readonly #lengthFieldSize: LengthFieldSize;
  readonly #decoder: FrameDecoder;
  #waiting: Waiting[] = [];
  #head = 0;
  #cause: Error | undefined;

  private constructor(socket: Socket, lengthFieldSize: LengthFieldSize, maxReplyBytes: number) {
    this.#socket = socket;
    this.#lengthFieldSize = lengthFieldSize;
    this.#decoder = new FrameDecoder(lengthFieldSize, Math.min(maxReplyBytes, maxFrameLength(lengthFieldSize)));
    socket.on('data', this.#onData);
    socket.on('error', (error) => {
      this.#cause = error;
    });
    socket.on('close', () => this.#failAll());
  }

  /**
   * Rejects with the socket's error when the server cannot be reached in time (5 s by default), or the TLS handshake
   * fails.
   */
  static async connect({
    host = '127.0.0.1',
    port,
    lengthFieldSize = 4,
    maxReplyBytes = 64 << 20,
    connectTimeoutMs = 5000,
    keepAliveMs = 30_000,
    tls,
    secret = '',
  }: ClientOptions): Promise<InferenceClient> {
    const servername = isIP(host) === 0 ? { servername: host } : {};
    const socket =
      tls === undefined
        ? createConnection({ host, port, noDelay: true })
        : connectTls({ host, port, ...servername, ...tls }).setNoDelay();
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => socket.destroy(new Error(`${host}:${port} did not answer in ${connectTimeoutMs} ms`)),
        connectTimeoutMs,
      );
      socket.once('close', () => clearTimeout(timer));
      socket.once('error', reject);
      socket.once(tls === undefined ? 'connect' : 'secureConnect', () => {
        clearTimeout(timer);
        socket.off('error', reject);
        resolve();
      });
    });
    if (keepAliveMs > 0) socket.setKeepAlive(true, Math.max(1000, keepAliveMs)); // Node takes whole seconds
    if (secret !== '') socket.write(encodeFrame(Buffer.from(secret), lengthFieldSize));
    return new InferenceClient(socket, lengthFieldSize, maxReplyBytes);
  }

  /**
   * Sends one request; any number may be in flight at once.
   * @param payload one input row, as the model expects it (for ONNX: little-endian, the model's dtype and shape)
   * @returns the reply's bytes; with an ONNX model, one output row. Copy any part that you keep for long.
   * @throws RequestFailedError when the server answers with an empty frame, ConnectionLostError when the connection
   *   ends, RangeError when the payload does not fit the length field.
   */
  infer(payload: Uint8Array): Promise<Buffer> {
    const frame = encodeFrame(payload, this.#lengthFieldSize);
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed || this.#socket.writableEnded)
        return reject(new ConnectionLostError({ cause: this.#cause }));
      this.#waiting.push({ resolve, reject });
      this.#socket.write(frame);
    });
  }

  /** How many requests wait for their replies. */
  get inFlight(): number {
    return this.#waiting.length - this.#head;
  }

  /** Lets outstanding replies arrive, then closes. */
  async close(): Promise<void> {
    if (this.#socket.destroyed) return;
    const closed = new Promise((resolve) => this.#socket.once('close', resolve));
    this.#socket.end();
    await closed;
  }

  /** Closes at once; requests in flight reject. */
  destroy(): void {
    this.#socket.destroy();
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#decoder.push(chunk);
    for (let status = this.#decoder.next(); status !== 'incomplete'; status = this.#decoder.next()) {
      const waiting = this.#waiting[this.#head];
      if (status === 'too-large' || waiting === undefined) {
        this.#socket.destroy(
          new Error(
            status === 'too-large'
              ? 'the server sent a reply that is too long'
              : 'the server sent a reply that nobody waits for',
          ),
        );
        return;
      }
      this.#head++;
      const { source, start, end } = this.#decoder;
      if (start === end) waiting.reject(new RequestFailedError());
      else waiting.resolve(source.subarray(start, end));
    }
    if (this.#head > 1024 || this.#head === this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#head);
      this.#head = 0;
    }
  };

  #failAll(): void {
    const lost = this.#waiting.slice(this.#head);
    this.#waiting = [];
    this.#head = 0;
    for (const { reject } of lost) reject(new ConnectionLostError({ cause: this.#cause }));
  }
}
