// Raw frames, told in tensors: a row is a frame, and its answer is one. A connection that has ended is replaced.

import { Lost, Refused, type Request, type Tensor, type TypedClient } from './client.js';
import { FrameSocket } from './frame-socket.js';

interface Waiting {
  resolve(answer: Buffer): void;
  reject(error: Error): void;
}

class FramesConnection {
  readonly #frames: FrameSocket;
  #waiting: Waiting[] = [];
  isOver = false;

  constructor(port: number) {
    this.#frames = new FrameSocket(port, (reply) => this.#replied(reply));
    this.#frames.socket.on('end', () => (this.isOver = true));
    this.#frames.socket.on('close', () => {
      this.isOver = true;
      for (const { reject } of this.#waiting.splice(0)) reject(new Lost('the connection has ended'));
    });
  }

  ask(payload: Buffer): Promise<Buffer> {
    this.#frames.send(payload);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  end(): void {
    this.#frames.socket.end();
  }

  #replied(reply: Buffer): void {
    const waiting = this.#waiting.shift();
    if (reply.length === 0) waiting?.reject(new Refused('empty frame', ''));
    else waiting?.resolve(reply);
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
