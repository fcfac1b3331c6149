// Moves a live connection to another worker, and takes one over. The client notices nothing: every request that was
// taken is answered here, and what was read beyond, a half frame included, is answered there.
//
//   here:    stop reading ─▶ answer what was taken ─▶ send the handle ─▶ close our end ─▶ send what is left
//   primary: chooses the other worker and passes both on
//   there:   keep the handle ─▶ with the rest: write the unsent replies, decode the unread bytes, read on
//
// The rest follows the handle because only then is it final: until our end is closed the kernel takes more of the
// replies that a slow client has not read.

import type { Socket } from 'node:net';
import type { FromWorker, MovedState, ToWorker } from '../control.js';
import { type RawHandle, rawHandleOf, socketOn, startReading, stopReading, unsentBytes } from '../raw-handle.js';
import type { Connection, ConnectionState } from './connection.js';

/** Connections that move at once: more would stand still for longer, each waiting for the others. */
const maxAtOnce = 16;

/** Sends to the primary; rejects when it is gone. */
export type Send = (message: FromWorker, handle?: RawHandle) => Promise<void>;

/** A connection whose handle has come, and what is left of it not yet. */
interface Arrival {
  readonly socket: Socket;
  readonly model: string;
}

export class Handoff {
  readonly #send: Send;
  readonly #prefix: string;
  readonly #arrivals = new Map<string, Arrival>();
  readonly #turns: (() => void)[] = [];
  #moving = 0;
  #sequence = 0;

  /** @param prefix makes the names of moves unique among all workers of a node */
  constructor(send: Send, prefix: string) {
    this.#send = send;
    this.#prefix = prefix;
  }

  /** Resolves to whether the connection has gone to another worker; when not, it goes on here unless it has closed. */
  async moveAway(connection: Connection, socket: Socket, model: string): Promise<boolean> {
    await this.#turn();
    try {
      return connection.canMove && (await this.#move(connection, socket, model));
    } finally {
      this.#moving--;
      this.#turns.shift()?.();
    }
  }

  async #turn(): Promise<void> {
    if (this.#moving >= maxAtOnce) await new Promise<void>((resolve) => this.#turns.push(resolve));
    this.#moving++;
  }

  async #move(connection: Connection, socket: Socket, model: string): Promise<boolean> {
    stopReading(socket);
    const handle = (await connection.quiesce()) ? rawHandleOf(socket) : null;
    if (handle === null) return false;
    const id = `${this.#prefix}.${++this.#sequence}`;
    try {
      await this.#send({ kind: 'move', id, model }, handle);
    } catch {
      startReading(socket);
      connection.stay();
      return false;
    }
    // It may have been closed while the handle was on its way: reset by the client, or cut by us.
    const state = rawHandleOf(socket) === null ? null : toShared(connection.depart(unsentBytes(socket)));
    await this.#send({ kind: 'moved', id, state }).catch(() => {});
    return state !== null;
  }

  /** A connection is on its way to here. */
  expect({ id, model }: Extract<ToWorker, { kind: 'adopt' }>, handle: RawHandle): void {
    const socket = socketOn(handle);
    socket.on('error', () => {}); // until it is served, nobody else listens
    this.#arrivals.set(id, { socket, model });
  }

  /** What is left of it has come; null when it closed on the way. */
  arrived({ id, state }: Extract<ToWorker, { kind: 'adopt-state' }>): (Arrival & { state: ConnectionState }) | null {
    const arrival = this.#arrivals.get(id);
    if (arrival === undefined) return null;
    this.#arrivals.delete(id);
    void this.#send({ kind: 'adopted', id }).catch(() => {});
    if (state !== null) return { ...arrival, state: toLocal(state) };
    arrival.socket.destroy();
    return null;
  }

  /** Connections that are on their way to here. */
  get arriving(): number {
    return this.#arrivals.size;
  }
}

/** What all processes of a machine have in common: hrtime counts from the same moment in each. */
const sharedOffsetMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();

function toShared(state: ConnectionState): MovedState {
  return shifted(state, sharedOffsetMs);
}

function toLocal(state: MovedState): ConnectionState {
  return shifted(state, -sharedOffsetMs);
}

function shifted(state: ConnectionState, byMs: number): ConnectionState {
  const { arrivedAt, frameBegunAt, activeAt } = state;
  return {
    ...state,
    arrivedAt: arrivedAt + byMs,
    frameBegunAt: frameBegunAt === 0 ? 0 : frameBegunAt + byMs,
    activeAt: activeAt + byMs,
  };
}
