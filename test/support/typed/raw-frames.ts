// Raw frames, told in tensors: a row is a frame, and its answer is one. A connection that has ended is replaced.

import { createConnection, type Socket } from 'node:net';
import { Lost, Refused, type Request, type Tensor, type TypedClient } from './client.js';

interface Waiting {
  resolve(answer: Buffer): void;
  reject(error: Error): void;
}

class FramesConnection {
  readonly #socket: Socket;
  #waiting: Waiting[] = [];
  #bytes: Buffer = Buffer.alloc(0);
  isOver = false;

  constructor(port: number) {
    this.#socket = createConnection({ host: '127.0.0.1', port, noDelay: true });
    this.#socket.on('error', () => {});
    this.#socket.on('data', (chunk) => this.#received(chunk));
    this.#socket.on('end', () => (this.isOver = true));
    this.#socket.on('close', () => {
      this.isOver = true;
      for (const { reject } of this.#waiting.splice(0)) reject(new Lost('the connection has ended'));
    });
  }

  ask(payload: Buffer): Promise<Buffer> {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(payload.length);
    this.#socket.write(Buffer.concat([length, payload]));
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  end(): void {
    this.#socket.end();
  }

  #received(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    while (this.#bytes.length >= 4) {
      const end = 4 + this.#bytes.readUInt32BE(0);
      if (this.#bytes.length < end) return;
      const reply = this.#bytes.subarray(4, end);
      this.#bytes = this.#bytes.subarray(end);
      const waiting = this.#waiting.shift();
      if (reply.length === 0) waiting?.reject(new Refused('empty frame', ''));
      else waiting?.resolve(reply);
    }
  }
}

export class RawFrames implements TypedClient {
  readonly #port: number;
  #connection: FramesConnection;

  constructor(port: number) {
    this.#port = port;
    this.#connection = new FramesConnection(port);
  }

  /** Of one row. The answer is one tensor without a name: all outputs, one behind the other. */
  async ask({ inputs }: Request): Promise<readonly Tensor[]> {
    if (this.#connection.isOver) this.#connection = new FramesConnection(this.#port);
    const data = await this.#connection.ask(Buffer.concat(inputs.map((input) => input.data)));
    return [{ name: '', datatype: '', shape: [], data }];
  }

  close(): void {
    this.#connection.end();
  }
}
