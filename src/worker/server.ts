// The TCP listeners of one worker, and the connections that came through them.

import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { ListenAddress } from '../control.js';
import { listenError } from '../errors.js';
import type { Admission } from './admission.js';
import { Connection, type ConnectionContext, type Lane, refuse } from './connection.js';

export interface Listener {
  readonly host: string;
  readonly port: number;
  readonly model: string;
  readonly lane: Lane;
}

/** How often time limits are looked at: a limit is kept to within this, or a tenth of itself. */
const coarsestSweepMs = 1000;

export class WorkerServer {
  readonly #context: ConnectionContext;
  readonly #admission: Admission;
  readonly #servers: Server[] = [];
  readonly #connections = new Set<Connection>();
  readonly #sweep: NodeJS.Timeout;
  #isDraining = false;
  #onEmpty: (() => void) | null = null;

  constructor(context: ConnectionContext, admission: Admission) {
    const { limits } = context;
    this.#context = context;
    this.#admission = admission;
    const shortest = Math.min(limits.payloadTimeoutMs, limits.idleTimeoutMs || Number.POSITIVE_INFINITY);
    this.#sweep = setInterval(this.#checkTimeouts, Math.min(coarsestSweepMs, Math.max(10, shortest / 10)));
  }

  get connections(): number {
    return this.#connections.size;
  }

  get inFlight(): number {
    let inFlight = 0;
    for (const connection of this.#connections) inFlight += connection.inFlight;
    return inFlight;
  }

  /** Throws OperatorError LISTEN_FAILED. */
  async listen(listener: Listener): Promise<ListenAddress> {
    const { host, port, model, lane } = listener;
    const server = createServer(
      { pauseOnConnect: true, noDelay: true, keepAlive: true, allowHalfOpen: true },
      (socket) => this.#accept(socket, lane),
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
  async drain(timeoutMs: number): Promise<void> {
    this.#isDraining = true;
    for (const server of this.#servers) server.close();
    const empty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
      if (this.#connections.size === 0) resolve();
    });
    for (const connection of this.#connections) connection.drain();
    const overdue = setTimeout(() => {
      for (const connection of this.#connections) connection.destroy();
    }, timeoutMs);
    await empty;
    clearTimeout(overdue);
    clearInterval(this.#sweep);
  }

  #accept(socket: Socket, lane: Lane): void {
    // Until it is admitted nobody else listens for its end.
    const ignoreError = (): void => {};
    socket.on('error', ignoreError);
    this.#admission.request((isGranted) => {
      socket.off('error', ignoreError);
      if (!isGranted) {
        this.#context.recorder.count('connectionsRefused');
        refuse(socket, this.#context.limits);
      } else if (socket.destroyed || this.#isDraining) {
        socket.destroy();
        this.#admission.release();
      } else this.#serve(socket, lane);
    });
  }

  #serve(socket: Socket, lane: Lane): void {
    this.#context.recorder.count('connectionsAccepted');
    const connection = new Connection(socket, lane, this.#context, () => {
      this.#connections.delete(connection);
      this.#admission.release();
      if (this.#isDraining && this.#connections.size === 0) this.#onEmpty?.();
    });
    this.#connections.add(connection);
    socket.resume();
  }

  readonly #checkTimeouts = (): void => {
    const now = performance.now();
    for (const connection of this.#connections) connection.checkTimeouts(now);
  };
}
