// The protocols in which a worker talks with its clients. In any protocol, requests go to the endpoint of a model: see
// serving/model-endpoint.ts.

import type { Duplex } from 'node:stream';
import type { ConnectionState } from '../ipc/connection-state.js';
import type { BufferPool } from '../protocol/buffer-pool.js';
import type { LengthFieldSize } from '../protocol/frames.js';
import type { ModelEndpoint } from '../serving/model-endpoint.js';
import { Connection, type ConnectionContext } from './framed/connection.js';
import { rawFrames } from './framed/raw.js';
import type { SharedSecret } from './framed/shared-secret.js';
import type { RejectionLog } from './rejection-log.js';

/** A client's connection, as the server of its worker sees it. */
export interface ServedConnection {
  /** Requests that wait for their replies. */
  readonly inFlight: number;
  /** When it last read or answered something, by the monotonic clock. */
  readonly activeAt: number;
  /** Begins to read. */
  start(): void;
  /** Takes no more input, answers all complete requests, and closes. */
  drain(): void;
  /** Cuts the connection; requests in flight are not answered. */
  destroy(): void;
  /** Enforces the time limits; called regularly with the time of the monotonic clock. */
  checkTimeouts(now: number): void;
  /** Whether it can migrate to another worker now; the methods below are called only when it can. */
  readonly canMigrate: boolean;
  /**
   * Takes no more requests; resolves to true when all that it took are answered, or to false when it has closed before.
   */
  quiesce(): Promise<boolean>;
  /** Continues as before `quiesce`. */
  cancelMigration(): void;
  /**
   * The connection continues in another worker: closes this end without sending the client anything.
   * @param unsentBytes bytes of replies that the kernel has not taken
   */
  detach(unsentBytes: number): ConnectionState;
}

/** A connection that is to be served. */
export interface OpenedConnection {
  readonly socket: Duplex;
  /** The client's address. */
  readonly address: string;
  /** Called with whether the connection has migrated to another worker. */
  readonly onClose: (hasMigrated: boolean) => void;
  /** Its state, if it began in another worker. */
  readonly moved: ConnectionState | null;
}

export type OpenConnection = (connection: OpenedConnection) => ServedConnection;

export interface ProtocolContext {
  readonly connections: ConnectionContext;
  readonly lengthFieldSize: LengthFieldSize;
  readonly maxPayloadBytes: number;
  readonly pool: BufferPool;
  /** What clients must show first; null: nothing. */
  readonly secret: SharedSecret | null;
  /** Where it is told why clients were refused; without it, nowhere. */
  readonly rejections?: RejectionLog;
}

/** Connections whose frames are payloads of one model. */
function openRaw(endpoint: ModelEndpoint, context: ProtocolContext): OpenConnection {
  return ({ socket, address, onClose, moved }) => {
    const rejections = context.rejections?.of(address, 'frames', endpoint.name) ?? null;
    const dialect = rawFrames(endpoint, context, rejections);
    return new Connection(socket, dialect, context.connections, onClose, moved, rejections);
  };
}

/** By name; a test puts a protocol of its own in the place of one. */
export const protocols = { raw: openRaw };
