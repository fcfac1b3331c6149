// Calls on frames: one connection, answers in any order. When the server says that it is about to go, or the connection
// has ended, the next request opens another.

import { createConnection, type Socket } from 'node:net';
import { decodeByOthers, encodeByOthers, type Plain } from '../protos.js';
import { Lost, Refused, type Request, type Tensor, type TypedClient } from './client.js';
import { inferRequest, tensorsOf } from './messages.js';

interface Waiting {
  resolve(answer: readonly Tensor[]): void;
  reject(error: Error): void;
}

interface Reply {
  readonly call: string;
  readonly code: number;
  readonly reason: string;
  readonly message: string;
  readonly retry_after_ms: number;
  readonly infer?: Plain;
}

class CallsConnection {
  readonly #socket: Socket;
  readonly #waiting = new Map<string, Waiting>();
  #bytes: Buffer = Buffer.alloc(0);
  #calls = 0;
  isOver = false;

  constructor(port: number) {
    this.#socket = createConnection({ host: '127.0.0.1', port, noDelay: true });
    this.#socket.on('error', () => {});
    this.#socket.on('data', (chunk) => this.#received(chunk));
    this.#socket.on('close', () => {
      this.isOver = true;
      for (const { reject } of this.#waiting.values()) reject(new Lost('the connection has ended'));
    });
  }

  ask(request: Request): Promise<readonly Tensor[]> {
    const call = String(++this.#calls);
    const message = encodeByOthers('mltcp.v1.Call', { call, infer: inferRequest(request) });
    const length = Buffer.alloc(4);
    length.writeUInt32BE(message.length);
    this.#socket.write(Buffer.concat([length, message]));
    return new Promise((resolve, reject) => this.#waiting.set(call, { resolve, reject }));
  }

  end(): void {
    this.#socket.end();
  }

  #received(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    while (this.#bytes.length >= 4) {
      const end = 4 + this.#bytes.readUInt32BE(0);
      if (this.#bytes.length < end) return;
      const reply = decodeByOthers('mltcp.v1.Reply', this.#bytes.subarray(4, end)) as unknown as Reply;
      this.#bytes = this.#bytes.subarray(end);
      this.#replied(reply);
    }
  }

  #replied({ call, code, reason, message, retry_after_ms, infer }: Reply): void {
    if (call === '0') {
      this.isOver = true;
      return;
    }
    const waiting = this.#waiting.get(call);
    this.#waiting.delete(call);
    if (code === 0 && infer !== undefined) waiting?.resolve(tensorsOf(infer));
    else waiting?.reject(new Refused(reason, message, retry_after_ms));
    if (this.isOver && this.#waiting.size === 0) this.#socket.end();
  }
}

export class CallsClient implements TypedClient {
  readonly #port: number;
  #connection: CallsConnection;

  constructor(port: number) {
    this.#port = port;
    this.#connection = new CallsConnection(port);
  }

  ask(request: Request): Promise<readonly Tensor[]> {
    if (this.#connection.isOver) this.#connection = new CallsConnection(this.#port);
    return this.#connection.ask(request);
  }

  close(): void {
    this.#connection.end();
  }
}
