// The TCP listeners of one worker, and the connections that came through them or from another worker.

import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { ListenAddress, ToWorker } from '../control.js';
import { listenError } from '../errors.js';
import { type RawHandle, withSharedReads } from '../raw-handle.js';
import type { Admission } from './admission.js';
import { Connection, type ConnectionContext, type ConnectionState, type Lane, refuse } from './connection.js';
import type { Handoff } from './handoff.js';

export interface Listener {
  readonly host: string;
  readonly port: number;
  readonly model: string;
}

export interface WorkerServerOptions {
  readonly context: ConnectionContext;
  readonly admission: Admission;
  readonly handoff: Handoff;
  /** By model, where requests go. */
  readonly lanes: ReadonlyMap<string, Lane>;
}

/** How often time limits are looked at: a limit is kept to within this, or a tenth of itself. */
const coarsestSweepMs = 1000;

/** What is behind a connection. */
interface Origin {
  readonly socket: Socket;
  readonly model: string;
}

/** How the server ends, when it does: by closing its connections, or by giving them away. */
type Ending = { readonly kind: 'drain' } | { readonly kind: 'retire'; readonly movable: ReadonlySet<string> };

export class WorkerServer {
  readonly #context: ConnectionContext;
  readonly #admission: Admission;
  readonly #handoff: Handoff;
  readonly #lanes: ReadonlyMap<string, Lane>;
  readonly #servers: Server[] = [];
  readonly #connections = new Map<Connection, Origin>();
  readonly #sweep: NodeJS.Timeout;
  #ending: Ending | null = null;
  #onEmpty: (() => void) | null = null;

  constructor({ context, admission, handoff, lanes }: WorkerServerOptions) {
    const { limits } = context;
    this.#context = context;
    this.#admission = admission;
    this.#handoff = handoff;
    this.#lanes = lanes;
    const shortest = Math.min(limits.payloadTimeoutMs, limits.idleTimeoutMs || Number.POSITIVE_INFINITY);
    this.#sweep = setInterval(this.#checkTimeouts, Math.min(coarsestSweepMs, Math.max(10, shortest / 10)));
  }

  get connections(): number {
    return this.#connections.size;
  }

  get inFlight(): number {
    let inFlight = 0;
    for (const connection of this.#connections.keys()) inFlight += connection.inFlight;
    return inFlight;
  }

  /** Throws OperatorError LISTEN_FAILED. */
  async listen({ host, port, model }: Listener): Promise<ListenAddress> {
    const server = createServer(
      { pauseOnConnect: true, noDelay: true, keepAlive: true, allowHalfOpen: true },
      (socket) => this.#accept(socket, model),
    );
    this.#servers.push(server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(listenError(error, host, port, 'server.port (PORT)')));
      server.listen({ host, port }, resolve);
    });
    server.on('error', () => {}); // running out of descriptors: the connection is lost, the listener is not
    return { host, port: (server.address() as AddressInfo).port, model };
  }

  /** Stops accepting and answers what is in flight; resolves when every connection has ended, at the latest after `timeoutMs`. */
  drain(timeoutMs: number): Promise<void> {
    return this.#end({ kind: 'drain' }, timeoutMs);
  }

  /** Stops accepting and gives every connection away whose model is in `movable`; the others are drained. */
  retire(movable: readonly string[], timeoutMs: number): Promise<void> {
    return this.#end({ kind: 'retire', movable: new Set(movable) }, timeoutMs);
  }

  /** Gives so many connections away, those that wait for nothing first. */
  give({ count, movable }: Extract<ToWorker, { kind: 'give' }>): void {
    const candidates = [...this.#connections].filter(
      ([connection, { model }]) => connection.canMove && movable.includes(model),
    );
    const idleFirst = candidates.sort(([a], [b]) => a.inFlight - b.inFlight);
    for (const [connection, { socket, model }] of idleFirst.slice(0, count)) {
      void this.#handoff.moveAway(connection, socket, model);
    }
  }

  /** A connection of another worker is on its way to here. */
  expect(order: Extract<ToWorker, { kind: 'adopt' }>, handle: RawHandle): void {
    this.#handoff.expect(order, handle);
  }

  /** It has come whole. */
  adopt(order: Extract<ToWorker, { kind: 'adopt-state' }>): void {
    const arrival = this.#handoff.arrived(order);
    if (arrival === null) this.#admission.release();
    else {
      this.#context.recorder.count('connectionsMoved');
      this.#serve(arrival.socket, arrival.model, arrival.state);
    }
  }

  async #end(ending: Ending, timeoutMs: number): Promise<void> {
    this.#ending = ending;
    for (const server of this.#servers) server.close();
    const empty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
      this.#checkEmpty();
    });
    for (const [connection, origin] of this.#connections) this.#endConnection(connection, origin);
    const overdue = setTimeout(() => {
      for (const connection of this.#connections.keys()) connection.destroy();
    }, timeoutMs);
    await empty;
    clearTimeout(overdue);
    clearInterval(this.#sweep);
  }

  async #endConnection(connection: Connection, { socket, model }: Origin): Promise<void> {
    const isMovable = this.#ending?.kind === 'retire' && this.#ending.movable.has(model);
    if (isMovable && (await this.#handoff.moveAway(connection, socket, model))) return;
    connection.drain();
  }

  #checkEmpty(): void {
    const hasNoneComing = this.#admission.waiting === 0 && this.#handoff.arriving === 0;
    if (this.#ending !== null && this.#connections.size === 0 && hasNoneComing) this.#onEmpty?.();
  }

  #accept(socket: Socket, model: string): void {
    // Until it is admitted nobody else listens for its end.
    const ignoreError = (): void => {};
    socket.on('error', ignoreError);
    this.#admission.request((isGranted) => {
      socket.off('error', ignoreError);
      if (!isGranted) {
        this.#context.recorder.count('connectionsRefused');
        refuse(socket, this.#context.limits);
      } else if (socket.destroyed || this.#ending?.kind === 'drain') {
        socket.destroy();
        this.#admission.release();
      } else {
        this.#context.recorder.count('connectionsAccepted');
        this.#serve(withSharedReads(socket), model, null);
      }
      this.#checkEmpty();
    });
  }

  #serve(socket: Socket, model: string, state: ConnectionState | null): void {
    const onClose = (hasMoved: boolean): void => {
      this.#connections.delete(connection);
      this.#tellCompany();
      if (!hasMoved) this.#admission.release(); // the place of one that moves goes with it
      this.#checkEmpty();
    };
    const lane = this.#lanes.get(model);
    if (lane === undefined) throw new Error(`the model ${model} is not served`);
    const connection = new Connection(socket, lane, this.#context, onClose, state);
    const origin = { socket, model };
    this.#connections.set(connection, origin);
    this.#tellCompany();
    connection.start();
    if (this.#ending !== null) void this.#endConnection(connection, origin);
  }

  #tellCompany(): void {
    for (const { batcher } of this.#lanes.values()) batcher.expectCompany(this.#connections.size > 1);
  }

  readonly #checkTimeouts = (): void => {
    const now = performance.now();
    for (const connection of this.#connections.keys()) connection.checkTimeouts(now);
  };
}
