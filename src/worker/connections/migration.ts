// Migrates a live connection to another worker, and takes one over. The client notices nothing: every request that was
// taken is answered here, and what was read beyond, an incomplete frame included, is answered there.
//
//   here:    stop reading ─▶ answer what was taken ─▶ send the handle ─▶ close our end ─▶ send what is left
//   primary: chooses the other worker and passes both on
//   there:   keep the handle ─▶ with the rest: write the unsent replies, decode the unread bytes, read on
//
// The rest follows the handle because only then is it final: until our end is closed the kernel takes more of the
// replies that a slow client has not read.

import type { Socket } from 'node:net';
import { type ConnectionState, decodeConnectionState, encodeConnectionState } from '../../ipc/connection-state.js';
import type { FromWorker, ToWorker } from '../../ipc/messages.js';
import { isAnyRoute } from '../../ipc/routes.js';
import {
  holdOpen,
  plainSocketOn,
  type RawHandle,
  rawHandleOf,
  socketOn,
  startReading,
  stopReading,
  unsentBytes,
} from '../../net/raw-handle.js';
import type { ServedConnection } from '../protocols.js';

/** Connections that migrate at once: with more, each would stand still for longer, waiting for the others. */
const maxAtOnce = 16;

/** Sends to the primary; rejects when it is gone. */
export type Send = (message: FromWorker, handle?: RawHandle) => Promise<void>;

/** The socket, route and client of a connection. */
export interface Origin {
  readonly socket: Socket;
  /** What serves it, as ipc/routes.ts names it. Null: only this worker can. */
  readonly route: string | null;
  /** The client's address, as limits per client use it. */
  readonly address: string;
}

export class Migration {
  readonly #send: Send;
  readonly #prefix: string;
  readonly #arrivals = new Map<string, Origin>();
  readonly #turns: (() => void)[] = [];
  #moving = 0;
  #sequence = 0;

  /** @param prefix makes the ids of migrations unique among all workers of a node */
  constructor(send: Send, prefix: string) {
    this.#send = send;
    this.#prefix = prefix;
  }

  /**
   * Resolves to whether the connection has migrated to another worker; if not, it continues here unless it has closed.
   */
  async migrate(connection: ServedConnection, origin: Origin): Promise<boolean> {
    await this.#turn();
    try {
      return this.canMigrate(connection, origin) && (await this.#move(connection, origin));
    } finally {
      this.#moving--;
      this.#turns.shift()?.();
    }
  }

  /** A connection with TLS cannot: its keys are in this process. */
  canMigrate(connection: ServedConnection, { socket, route }: Origin): boolean {
    return route !== null && connection.canMigrate && rawHandleOf(socket) !== null;
  }

  async #turn(): Promise<void> {
    if (this.#moving >= maxAtOnce) await new Promise<void>((resolve) => this.#turns.push(resolve));
    this.#moving++;
  }

  async #move(connection: ServedConnection, { socket, route, address }: Origin): Promise<boolean> {
    if (route === null) return false;
    stopReading(socket);
    const handle = (await connection.quiesce()) ? rawHandleOf(socket) : null;
    if (handle === null) return false;
    const id = `${this.#prefix}.${++this.#sequence}`;
    const release = holdOpen(handle);
    try {
      await this.#send({ kind: 'migrate', id, route, address }, handle);
    } catch {
      startReading(socket);
      connection.cancelMigration();
      return false;
    } finally {
      release();
    }
    // It may have been closed while the handle was on its way: reset by the client, or cut by us.
    const state = rawHandleOf(socket) === null ? null : encodeConnectionState(connection.detach(unsentBytes(socket)));
    await this.#send({ kind: 'migration-state', id, state }).catch(() => {});
    return state !== null;
  }

  /** A connection is on its way to this worker. */
  expect({ id, route, address }: Extract<ToWorker, { kind: 'attach' }>, handle: RawHandle): void {
    const socket = isAnyRoute(route) ? plainSocketOn(handle) : socketOn(handle);
    socket.on('error', () => {}); // until it is served, nothing else listens
    this.#arrivals.set(id, { socket, route, address });
  }

  /**
   * The rest of a connection has come. Its state is null when it closed on the way; the result is null when no
   * connection has this id.
   */
  arrived({
    id,
    state,
  }: Extract<ToWorker, { kind: 'attach-state' }>): (Origin & { state: ConnectionState | null }) | null {
    const origin = this.#arrivals.get(id);
    if (origin === undefined) return null;
    this.#arrivals.delete(id);
    void this.#send({ kind: 'attached', id }).catch(() => {});
    return { ...origin, state: state === null ? null : decodeConnectionState(state) };
  }

  /** Connections that are on their way to this worker. */
  get arriving(): number {
    return this.#arrivals.size;
  }
}
