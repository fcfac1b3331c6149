import { createConnection, type Socket } from 'node:net';

/** A connection of frames whose lengths have 4 bytes, without any code of the server. */
export class FrameSocket {
  readonly socket: Socket;
  readonly #onFrame: (payload: Buffer) => void;
  #bytes: Buffer = Buffer.alloc(0);

  constructor(port: number, onFrame: (payload: Buffer) => void) {
    this.#onFrame = onFrame;
    this.socket = createConnection({ host: '127.0.0.1', port, noDelay: true });
    this.socket.on('error', () => {});
    this.socket.on('data', (chunk) => this.#received(chunk));
  }

  send(payload: Buffer): void {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(payload.length);
    this.socket.write(Buffer.concat([length, payload]));
  }

  #received(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    while (this.#bytes.length >= 4) {
      const end = 4 + this.#bytes.readUInt32BE(0);
      if (this.#bytes.length < end) return;
      const payload = this.#bytes.subarray(4, end);
      this.#bytes = this.#bytes.subarray(end);
      this.#onFrame(payload);
    }
  }
}
