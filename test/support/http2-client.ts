// A client that writes and reads HTTP/2 frame by frame, and so can do what a library would not.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { until } from './until.js';

export const frameTypes = {
  data: 0,
  headers: 1,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;
export const endStream = 1;
export const endHeaders = 4;
const ack = 1;
const maxFrame = 16_384;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

export function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A field that is not to be remembered, its texts as they are. */
export function field(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.from([0]), text(name), text(value)]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) length.push((rest % 128) + 128);
  return Buffer.concat([Buffer.from([...length, rest]), bytes]);
}

export function callHeaders(path: string, more: Readonly<Record<string, string>> = {}): Buffer {
  const fields = {
    ':method': 'POST',
    ':scheme': 'http',
    ':path': path,
    ':authority': 'test',
    'content-type': 'application/grpc',
    te: 'trailers',
    ...more,
  };
  return Buffer.concat(Object.entries(fields).map(([name, value]) => field(name, value)));
}

/** A message as gRPC frames it. @param announced if the length is to lie */
export function grpcMessage(message: Buffer, announced = message.length, flag = 0): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = flag;
  prefix.writeUInt32BE(announced, 1);
  return Buffer.concat([prefix, message]);
}

export class Http2Client {
  readonly socket: Socket;
  isClosed = false;
  readonly frames: Frame[] = [];
  #rest = Buffer.alloc(0);

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', () => {});
    socket.on('close', () => {
      this.isClosed = true;
    });
    socket.on('end', () => socket.end());
    socket.on('data', (chunk) => this.#read(chunk));
  }

  /**
   * @param settings pairs of identifier and value
   * @param acknowledges whether it has taken note of the settings of the server
   */
  static async open(
    port: number,
    settings: readonly (readonly [number, number])[] = [],
    acknowledges = true,
  ): Promise<Http2Client> {
    const client = await Http2Client.connect(port);
    const payload = Buffer.alloc(6 * settings.length);
    for (const [i, [id, value]] of settings.entries()) {
      payload.writeUInt16BE(id, 6 * i);
      payload.writeUInt32BE(value, 6 * i + 2);
    }
    client.send(Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(frameTypes.settings, 0, 0, payload));
    await client.frame('settings of the server', ({ type, flags }) => type === frameTypes.settings && flags === 0);
    if (acknowledges) client.send(frame(frameTypes.settings, ack, 0));
    return client;
  }

  static async connect(port: number): Promise<Http2Client> {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true });
    await once(socket, 'connect');
    return new Http2Client(socket);
  }

  send(...frames: readonly Buffer[]): void {
    this.socket.write(Buffer.concat(frames));
  }

  /** Begins a call; its message, if any, ends it. */
  call(stream: number, path: string, message?: Buffer, more: Readonly<Record<string, string>> = {}): void {
    this.send(frame(frameTypes.headers, endHeaders, stream, callHeaders(path, more)));
    if (message === undefined) return;
    const pieces = Math.max(1, Math.ceil(message.length / maxFrame));
    for (let i = 0; i < pieces; i++) {
      const piece = message.subarray(i * maxFrame, (i + 1) * maxFrame);
      this.send(frame(frameTypes.data, i === pieces - 1 ? endStream : 0, stream, piece));
    }
  }

  /** The first frame of this kind, as soon as there is one. */
  frame(what: string, isIt: (frame: Frame) => boolean): Promise<Frame> {
    return until(what, () => this.frames.find(isIt), { intervalMs: 2 });
  }

  of(stream: number, type: number): readonly Frame[] {
    return this.frames.filter((one) => one.stream === stream && one.type === type);
  }

  /** The frame that ends the answer of this stream. */
  end(stream: number): Promise<Frame> {
    return this.frame(
      `the end of stream ${stream}`,
      (one) => one.stream === stream && (one.type === frameTypes.rstStream || (one.flags & endStream) !== 0),
    );
  }

  /** The error code by which the server ends the connection. */
  async goaway(): Promise<number> {
    const { payload } = await this.frame('GOAWAY', ({ type }) => type === frameTypes.goaway);
    return payload.readUInt32BE(4);
  }

  async closed(): Promise<void> {
    await until('the end of the connection', () => this.isClosed, { intervalMs: 2 });
  }

  #read(chunk: Buffer): void {
    let bytes = Buffer.concat([this.#rest, chunk]);
    while (bytes.length >= 9) {
      const length = bytes.readUIntBE(0, 3);
      if (bytes.length < 9 + length) break;
      this.frames.push({
        type: bytes[3] as number,
        flags: bytes[4] as number,
        stream: bytes.readUInt32BE(5),
        payload: Buffer.from(bytes.subarray(9, 9 + length)),
      });
      bytes = bytes.subarray(9 + length);
    }
    this.#rest = Buffer.from(bytes);
  }
}
