// The protocols in which a worker talks with its clients. In any protocol, requests go to the model's endpoint: see
// serving/model-endpoint.ts. All listeners use the framed protocol.

import type { Duplex } from 'node:stream';
import type { ConnectionState } from '../ipc/connection-state.js';
import type { ModelEndpoint } from '../serving/model-endpoint.js';
import { Connection, type ConnectionContext } from './framed/connection.js';

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

/** @param onClose called with whether the connection has migrated to another worker */
export type OpenConnection = (
  socket: Duplex,
  endpoint: ModelEndpoint,
  context: ConnectionContext,
  onClose: (hasMigrated: boolean) => void,
  moved: ConnectionState | null,
) => ServedConnection;

/** By name. */
export const protocols = new Map<string, OpenConnection>([
  ['framed', (socket, endpoint, context, onClose, moved) => new Connection(socket, endpoint, context, onClose, moved)],
]);

/** Throws when there is no protocol of this name. */
export function protocolOf(name: string): OpenConnection {
  const open = protocols.get(name);
  if (open === undefined) throw new Error(`there is no protocol ${name}`);
  return open;
}
