// Clients of the protocols that know tensors by name, for tests: independent of the server's code, messages are written
// and read by protobufjs.

/** The bytes of a tensor are those of raw frames: C order, little-endian, each string behind its length. */
export interface Tensor {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly data: Buffer;
}

export interface Request {
  readonly model: string;
  readonly inputs: readonly Tensor[];
}

/** The server has told that it does not answer this request. */
export class Refused extends Error {
  /** By the server: a name, or a status. */
  readonly code: string;
  readonly retryAfterMs: number;

  constructor(code: string, message: string, retryAfterMs = 0) {
    super(`${code}: ${message}`);
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The connection has ended, and the request may or may not have been served. */
export class Lost extends Error {}

export interface TypedClient {
  /** Rejects with Refused or Lost. May be called again before the answer is there. */
  ask(request: Request): Promise<readonly Tensor[]>;
  close(): void;
}
