// gRPC over Node's HTTP/2: one connection, many streams. As every client of gRPC does, it opens another connection when
// the server says that it takes no more on this one, and sends again what the server has not begun.

import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
} from 'node:http2';
import { decodeByOthers, encodeByOthers } from '../protos.js';
import { Lost, Refused, type Request, type Tensor, type TypedClient } from './client.js';
import { inferRequest, tensorsOf } from './messages.js';

const method = '/inference.GRPCInferenceService/ModelInfer';

/** The stream was not begun: it may be sent again. */
class NotBegun extends Error {}

function isRefusedStream(stream: ClientHttp2Stream, error: NodeJS.ErrnoException): boolean {
  return (
    stream.rstCode === constants.NGHTTP2_REFUSED_STREAM ||
    error.code === 'ERR_HTTP2_GOAWAY_SESSION' ||
    error.code === 'ERR_HTTP2_INVALID_SESSION'
  );
}

export class GrpcClient implements TypedClient {
  readonly #port: number;
  #session: ClientHttp2Session | null = null;

  constructor(port: number) {
    this.#port = port;
  }

  async ask(request: Request): Promise<readonly Tensor[]> {
    const message = encodeByOthers('inference.ModelInferRequest', inferRequest(request));
    for (;;) {
      try {
        return tensorsOf(decodeByOthers('inference.ModelInferResponse', await this.#call(message)));
      } catch (error) {
        if (!(error instanceof NotBegun)) throw error;
      }
    }
  }

  close(): void {
    this.#session?.close();
  }

  #open(): ClientHttp2Session {
    const session = this.#session;
    if (session !== null && !session.closed && !session.destroyed) return session;
    const opened = connect(`http://127.0.0.1:${this.#port}`);
    const forget = (): void => {
      if (this.#session === opened) this.#session = null;
    };
    opened.on('error', forget).on('close', forget);
    opened.on('goaway', () => {
      forget();
      opened.close();
    });
    this.#session = opened;
    return opened;
  }

  #call(message: Buffer): Promise<Buffer> {
    const session = this.#open();
    return new Promise((resolve, reject) => {
      const stream = session.request({
        ':method': 'POST',
        ':path': method,
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(message.length, 1);
      stream.end(Buffer.concat([prefix, message]));
      let status: IncomingHttpHeaders = {};
      const chunks: Buffer[] = [];
      stream.on('response', (headers) => (status = headers));
      stream.on('trailers', (trailers) => (status = trailers));
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('error', (error) =>
        reject(isRefusedStream(stream, error) ? new NotBegun() : new Lost(error.message, { cause: error })),
      );
      stream.on('close', () => {
        const code = status['grpc-status'];
        const bytes = Buffer.concat(chunks);
        if (code === undefined) {
          const isUnbegun = stream.rstCode === constants.NGHTTP2_REFUSED_STREAM;
          reject(isUnbegun ? new NotBegun() : new Lost('the stream has ended without a status'));
        } else if (code !== '0')
          reject(new Refused(`grpc ${code}`, decodeURIComponent(String(status['grpc-message'] ?? ''))));
        else resolve(bytes.subarray(5));
      });
    });
  }
}
