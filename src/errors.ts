// Every failure that a client or an operator can see, as one table. The README prints it; a test compares the two.

import type { ShownCounter } from './metrics/counters.js';
import { textOfThrown } from './thrown.js';

interface ClientErrorRow {
  readonly meaning: string;
  readonly retry: string;
  /** The counter that tells how often it happened. */
  readonly counter: ShownCounter;
}

/** The server closes the connection without an answer. */
interface UnansweredError extends ClientErrorRow {
  readonly answer: 'close';
}

/**
 * The client gets an answer. In the framed protocol it is the same for all errors; a protocol whose answers carry a
 * status sends `http` or `grpc`. The two are pairs of google.rpc.Code, except 413: gRPC itself answers
 * RESOURCE_EXHAUSTED to a message that is too large. A 4xx means that the client is at fault and should not repeat the
 * request unchanged.
 */
interface AnsweredError extends ClientErrorRow {
  /** In raw frames; `none`: it does not occur there. */
  readonly answer: 'empty frame' | 'empty frame, then close' | 'none';
  readonly http: number;
  readonly grpc: GrpcStatus;
}

type GrpcStatus =
  | 'DEADLINE_EXCEEDED'
  | 'INTERNAL'
  | 'INVALID_ARGUMENT'
  | 'NOT_FOUND'
  | 'RESOURCE_EXHAUSTED'
  | 'UNAUTHENTICATED'
  | 'UNAVAILABLE';

/** What a client sees when a request or its connection fails. */
export type ClientError = UnansweredError | AnsweredError;

export const clientErrors = {
  BAD_INPUT: {
    meaning: 'the payload does not have the length of one input row of the model',
    answer: 'empty frame',
    http: 400,
    grpc: 'INVALID_ARGUMENT',
    retry: 'no: send the row in the shape and dtype that the model takes',
    counter: 'refusedBadInput',
  },
  MODEL_NOT_FOUND: {
    meaning: 'the listener serves no model of this name, or not in this version',
    answer: 'none',
    http: 404,
    grpc: 'NOT_FOUND',
    retry: 'no: choose one of the models that the message names',
    counter: 'unknownModel',
  },
  MALFORMED: {
    meaning: 'the request cannot be read, and it is not known which model it is for',
    answer: 'none',
    http: 400,
    grpc: 'INVALID_ARGUMENT',
    retry: 'no: mend the client',
    counter: 'malformed',
  },
  INFERENCE_FAILED: {
    meaning: 'the model failed on this request, or its reply does not fit the length field',
    answer: 'empty frame',
    http: 500,
    grpc: 'INTERNAL',
    retry: 'once; if it fails again the payload is at fault',
    counter: 'failed',
  },
  QUEUE_FULL: {
    meaning: 'the queue of the model is full: more arrives than it can serve',
    answer: 'empty frame',
    http: 503,
    grpc: 'UNAVAILABLE',
    retry: 'yes, after a pause that grows',
    counter: 'refusedQueueFull',
  },
  OVERLOADED: {
    meaning: 'so much waits for the model already that the request would not be answered within `deadlineMs`',
    answer: 'empty frame',
    http: 503,
    grpc: 'UNAVAILABLE',
    retry: 'yes, after a pause that grows',
    counter: 'refusedOverloaded',
  },
  DEADLINE_EXCEEDED: {
    meaning: 'the request waited so long that it could not be answered within `deadlineMs` of its model',
    answer: 'empty frame',
    http: 504,
    grpc: 'DEADLINE_EXCEEDED',
    retry: 'yes, after a pause that grows',
    counter: 'expired',
  },
  PAYLOAD_TOO_LARGE: {
    meaning: 'a frame announces more than server.maxPayloadSizeKb; its payload is not read',
    answer: 'empty frame, then close',
    http: 413,
    grpc: 'RESOURCE_EXHAUSTED',
    retry: 'no: send less, or raise the limit',
    counter: 'refusedPayloadTooLarge',
  },
  GOING_AWAY: {
    meaning: 'the server is about to stop, and takes no more requests on this connection',
    answer: 'none',
    http: 503,
    grpc: 'UNAVAILABLE',
    retry: 'yes, at once, on a new connection',
    counter: 'closedByDrain',
  },
  TOO_MANY_CONNECTIONS: {
    meaning: 'the machine already serves server.maxConnections connections',
    answer: 'empty frame, then close',
    http: 503,
    grpc: 'UNAVAILABLE',
    retry: 'yes, after a pause that grows',
    counter: 'refusedByLimit',
  },
  TOO_MANY_CONNECTIONS_OF_CLIENT: {
    meaning: "the client's address has server.maxConnectionsPerAddress connections already (off by default)",
    answer: 'empty frame, then close',
    http: 429,
    grpc: 'RESOURCE_EXHAUSTED',
    retry: 'no: share the connections that there are',
    counter: 'refusedByAddressLimit',
  },
  CONNECTING_TOO_FAST: {
    meaning: 'more than server.maxNewConnectionsPerSecond connections came to the machine (off by default)',
    answer: 'empty frame, then close',
    http: 503,
    grpc: 'UNAVAILABLE',
    retry: 'yes, after a pause that grows',
    counter: 'refusedByRate',
  },
  ADDRESS_NOT_ALLOWED: {
    meaning: "the client's address is in server.deny, or not in server.allow",
    answer: 'close',
    retry: 'no',
    counter: 'refusedByAddress',
  },
  TLS_HANDSHAKE_FAILED: {
    meaning: 'the listener speaks TLS, and the client does not, or has no certificate that server.tls.caFile signed',
    answer: 'close',
    retry: 'no: mend the client',
    counter: 'refusedByHandshake',
  },
  NO_DESCRIPTOR: {
    meaning: 'the process may open no more files (ulimit -n, LimitNOFILE of systemd)',
    answer: 'close',
    retry: 'yes, after a pause that grows',
    counter: 'refusedByDescriptors',
  },
  NO_WORKER: {
    meaning: 'no worker took the connection in server.acceptTimeoutSeconds: all are dead, or stand still',
    answer: 'close',
    retry: 'yes, after a pause that grows',
    counter: 'refusedByWait',
  },
  WRONG_SECRET: {
    meaning: 'the first frame is not server.sharedSecret, or did not come in server.payloadTimeoutSeconds',
    answer: 'empty frame, then close',
    http: 401,
    grpc: 'UNAUTHENTICATED',
    retry: 'no: mend the client',
    counter: 'closedBySecret',
  },
  PAYLOAD_TIMEOUT: {
    meaning: 'a frame was begun and not finished in server.payloadTimeoutSeconds',
    answer: 'close',
    retry: 'yes, on a new connection',
    counter: 'closedByPayloadTimeout',
  },
  WRITE_TIMEOUT: {
    meaning: 'the client took nothing of its replies for server.writeTimeoutSeconds',
    answer: 'close',
    retry: 'yes, on a new connection, and read',
    counter: 'closedByWriteTimeout',
  },
  IDLE_TIMEOUT: {
    meaning: 'nothing was asked for server.idleTimeoutSeconds (off by default)',
    answer: 'close',
    retry: 'yes, on a new connection',
    counter: 'closedByIdleTimeout',
  },
} as const satisfies Readonly<Record<string, ClientError>>;

/** Errors that a client is told by name, where the protocol has a place for it. */
export type RequestError = {
  [Name in keyof typeof clientErrors]: (typeof clientErrors)[Name] extends AnsweredError ? Name : never;
}[keyof typeof clientErrors];

/** The name of each error by its counter. */
export const reasonOf = Object.fromEntries(
  Object.entries(clientErrors).map(([reason, { counter }]) => [counter, reason]),
) as { readonly [Name in keyof typeof clientErrors as (typeof clientErrors)[Name]['counter']]: Name };

/** The failures that end a process of ours, each with an exit code that tells what kind of fix it needs. */
export const operatorErrors = {
  UNEXPECTED: {
    exitCode: 1,
    meaning: 'a defect of ours, or an exception nobody caught: the log line before it has the stack',
  },
  CONFIG_INVALID: { exitCode: 2, meaning: 'a setting or a flag is wrong; every mistake is listed with its source' },
  LISTEN_FAILED: {
    exitCode: 3,
    meaning: 'an address could not be bound: port in use, not allowed, or not on this machine',
  },
  MODEL_LOAD_FAILED: {
    exitCode: 4,
    meaning: 'a model file or module is missing, broken, or of a kind that cannot be served',
  },
  WORKER_BOOT_FAILED: {
    exitCode: 5,
    meaning: 'workers kept dying before they were ready (cluster.maxBootFailures in a row)',
  },
  SERVER_NOT_FOUND: {
    exitCode: 6,
    meaning:
      '`status`, `reload`, `scale`, `drain`, `top --once`: no running server was found, or several and none was named',
  },
  COMMAND_REFUSED: {
    exitCode: 7,
    meaning:
      '`reload`, `scale`, `drain`: the running server could not do it and serves on as before; the message says why',
  },
  NODE_CHANGED: {
    exitCode: 9,
    meaning: 'this version of Node lacks something that connections are served with; the message names it',
  },
  CODE_CHANGED: {
    exitCode: 8,
    meaning:
      'the package on disk was replaced while the server ran, and its last worker died: started again, it is of one version',
  },
} as const;

export type OperatorErrorCode = keyof typeof operatorErrors;

/**
 * A failure that an operator has to fix. Its message says what happened and how to fix it, so it is shown without a
 * stack trace.
 */
export class OperatorError extends Error {
  readonly code: OperatorErrorCode;

  constructor(code: OperatorErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'OperatorError';
    this.code = code;
  }

  get exitCode(): number {
    return operatorErrors[this.code].exitCode;
  }
}

/**
 * Turns a failure to listen into an error that an operator understands. `settings` name the config keys and their
 * variables.
 */
export function listenError(
  error: NodeJS.ErrnoException,
  host: string,
  port: number,
  settings: { readonly host: string; readonly port: string },
): OperatorError {
  const name = host.length > 260 ? `${host.slice(0, 260)}…` : host;
  const reasons: Record<string, string> = {
    EADDRINUSE: `port ${port} on ${name} is in use: stop the process that holds it, or choose another port with ${settings.port}`,
    EACCES: `port ${port} on ${name} may not be bound by this user: choose a port above 1023 with ${settings.port}`,
    EADDRNOTAVAIL: `${name} is not an address of this machine: choose one that is with ${settings.host}`,
    EINVAL: `${name} is no address to listen on: choose another with ${settings.host}; an IPv6 address of one link needs its interface, as fe80::1%eth0`,
    EAFNOSUPPORT: `this machine has no addresses of the kind of ${name}: choose another with ${settings.host}`,
    ENOTFOUND: `${name} is not a host name that resolves: choose an address, or a name that does, with ${settings.host}`,
    EAI_AGAIN: `the name ${name} cannot be resolved just now: choose an address with ${settings.host}, or mend the name service`,
  };
  const reason =
    reasons[error.code ?? ''] ??
    `cannot listen on ${name}, port ${port}: ${error.message}; see ${settings.host} and ${settings.port}`;
  return new OperatorError('LISTEN_FAILED', reason, { cause: error });
}

/** The message of a thrown value, cut so that foreign text cannot flood a log. */
export function messageOf(thrown: unknown, maxLength = 2000): string {
  const text = textOfThrown(thrown);
  return text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
}
