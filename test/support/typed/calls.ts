// Calls on frames: one connection, answers in any order. When the server says that it is about to go, or the connection
// has ended, the next request opens another.

import type { CallReply } from '../call-client.js';
import { decodeByOthers, encodeByOthers } from '../protos.js';
import { Lost, Refused, type Request, type Tensor, type TypedClient } from './client.js';
import { FrameSocket } from './frame-socket.js';
import { inferRequest, tensorsOf } from './messages.js';

interface Waiting {
  resolve(answer: readonly Tensor[]): void;
  reject(error: Error): void;
}

class CallsConnection {
  readonly #frames: FrameSocket;
  readonly #waiting = new Map<string, Waiting>();
  #calls = 0;
  isOver = false;

  constructor(port: number) {
    this.#frames = new FrameSocket(port, (bytes) =>
      this.#replied(decodeByOthers('mltcp.v1.Reply', bytes) as unknown as CallReply),
    );
    this.#frames.socket.on('close', () => {
      this.isOver = true;
      for (const { reject } of this.#waiting.values()) reject(new Lost('the connection has ended'));
    });
  }

  ask(request: Request): Promise<readonly Tensor[]> {
    const call = String(++this.#calls);
    this.#frames.send(encodeByOthers('mltcp.v1.Call', { call, infer: inferRequest(request) }));
    return new Promise((resolve, reject) => this.#waiting.set(call, { resolve, reject }));
  }

  end(): void {
    this.#frames.socket.end();
  }

  #replied({ call, code, reason, message, retry_after_ms, infer }: CallReply): void {
    if (call === '0') {
      this.isOver = true;
      return;
    }
    const waiting = this.#waiting.get(call);
    this.#waiting.delete(call);
    if (code === 0 && infer !== undefined) waiting?.resolve(tensorsOf(infer));
    else waiting?.reject(new Refused(reason, message, retry_after_ms));
    if (this.isOver && this.#waiting.size === 0) this.#frames.socket.end();
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
