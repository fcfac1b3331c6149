// What speaks with the clients of a worker. Whatever the protocol, requests go to the model's endpoint: see
// serving/model-endpoint.ts. All listeners speak the framed one.

import type { Duplex } from 'node:stream';
import type { ConnectionState } from '../ipc/connection-state.js';
import type { ModelEndpoint } from '../serving/model-endpoint.js';
import { Connection, type ConnectionContext } from './framed/connection.js';

/** One client, as the server of its worker sees it. */
export interface ServedConnection {
  /** Requests that wait for their replies. */
  readonly inFlight: number;
  /** When it last read something or answered something, by the monotonic clock. */
  readonly activeAt: number;
  /** Begins to read. */
  start(): void;
  /** Takes no more input, answers what came in whole, and closes. */
  drain(): void;
  /** Cuts the connection; requests in flight are not answered. */
  destroy(): void;
  /** Enforces the time limits; called every so often with the monotonic clock. */
  checkTimeouts(now: number): void;
  /** Whether it can go on in another worker now; what follows is called only when it can. */
  readonly canMigrate: boolean;
  /** Takes no more requests; resolves to whether all that it took is answered, false when it has closed before. */
  quiesce(): Promise<boolean>;
  /** Goes on as before `quiesce`. */
  cancelMigration(): void;
  /**
   * It goes on elsewhere: this end closes without a word. @param unsentBytes of replies that the kernel has not taken
   */
  detach(unsentBytes: number): ConnectionState;
}

/** @param onClose told whether the connection goes on in another worker */
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
