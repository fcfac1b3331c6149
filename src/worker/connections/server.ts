// The connections of one worker: from the primary, which has accepted them, or from another worker.
//
//   accepted, with a place under the machine's limits ─▶ TLS, where the listener has it ─▶ served

import type { Socket } from 'node:net';
import { takesHttp, takesRawFrames } from '../../config/listener-protocols.js';
import { type Listener, listenerNames } from '../../config/listeners.js';
import { reasonOf } from '../../errors.js';
import type { Batcher } from '../../inference/batcher.js';
import type { ConnectionState } from '../../ipc/connection-state.js';
import type { Arrival, Decision, ToWorker } from '../../ipc/messages.js';
import { anyRoute } from '../../ipc/routes.js';
import {
  inheritsFromListener,
  isReset,
  plainSocketOn,
  type RawHandle,
  setKeepAlive,
  socketOn,
} from '../../net/raw-handle.js';
import type { ClientProtocol } from '../../protocol/first-bytes.js';
import type { ConnectionContext } from '../framed/connection.js';
import type { ServedConnection } from '../protocols.js';
import { connectionRefused, type RejectionLog } from '../rejection-log.js';
import type { Entrance, Entrances } from '../routes.js';
import type { Arrivals } from './arrivals.js';
import { Detection } from './detect.js';
import type { Migration, Origin } from './migration.js';
import { Rejections } from './rejections.js';
import type { TlsHandshakes } from './tls-handshakes.js';
import { UnansweredWatch } from './unanswered.js';

export interface WorkerServerOptions {
  readonly context: ConnectionContext;
  /** Where it is told why connections were refused; without it, nowhere. */
  readonly rejectionLog?: RejectionLog;
  readonly arrivals: Arrivals;
  /** In the primary's order: an arrival names its listener by index. */
  readonly listeners: readonly Listener[];
  readonly migration: Migration;
  /** The handshakes of listeners with TLS; null when there are no such listeners. */
  readonly handshakes: TlsHandshakes | null;
  /** Of all models that are served. */
  readonly batchers: readonly Batcher[];
  readonly entrances: Entrances;
  /** Whether clients must show a secret. */
  readonly hasSecret: boolean;
  /** What a client is told whose connection is refused; null: nothing. */
  refusalOf(listener: Listener, reason: Exclude<Decision, 'granted'>): Buffer | null;
  /** Connections that the process has descriptors for. */
  readonly maxSockets: number;
  /** Silence after which the kernel asks whether a client is still there; 0: it never asks. */
  readonly keepAliveMs: number;
  /** The process has no descriptor left for a connection: the connection is lost, the listener is not. */
  onExhausted(): void;
}

/** The longest interval between checks of time limits: a limit is kept to within this, or a tenth of itself. */
const coarsestSweepMs = 1000;

/** How the server ends: it closes its connections, or migrates them. */
type Ending = { readonly kind: 'drain' } | { readonly kind: 'retire'; readonly movable: ReadonlySet<string> };

export class WorkerServer {
  readonly #context: ConnectionContext;
  readonly #arrivals: Arrivals;
  readonly #listeners: readonly Listener[];
  readonly #migration: Migration;
  readonly #handshakes: TlsHandshakes | null;
  readonly #batchers: readonly Batcher[];
  readonly #entrances: Entrances;
  /** By listener: the route of connections that have not told their protocol. */
  readonly #anyRoutes: readonly string[];
  readonly #hasSecret: boolean;
  readonly #refusalOf: WorkerServerOptions['refusalOf'];
  readonly #maxSockets: number;
  readonly #keepAliveMs: number;
  readonly #onExhausted: () => void;
  readonly #rejectionLog: RejectionLog | null;
  readonly #rejections: Rejections;
  readonly #unanswered: UnansweredWatch;
  readonly #connections = new Map<ServedConnection, Origin>();
  /** Connections that have a place and have not finished the TLS handshake yet. */
  readonly #shakingHands = new Set<Socket>();
  readonly #sweep: NodeJS.Timeout;
  #ending: Ending | null = null;
  #onEmpty: (() => void) | null = null;

  constructor(options: WorkerServerOptions) {
    const { context, arrivals, listeners, migration, handshakes, maxSockets, keepAliveMs, onExhausted } = options;
    const { limits } = context;
    this.#context = context;
    this.#arrivals = arrivals;
    this.#listeners = listeners;
    arrivals.onServe = (arrival, handle) => this.#accept(arrival, handle);
    this.#migration = migration;
    this.#handshakes = handshakes;
    this.#batchers = options.batchers;
    this.#entrances = options.entrances;
    this.#anyRoutes = listenerNames(listeners).map(anyRoute);
    this.#hasSecret = options.hasSecret;
    this.#refusalOf = options.refusalOf;
    this.#maxSockets = maxSockets;
    this.#keepAliveMs = keepAliveMs;
    this.#onExhausted = onExhausted;
    this.#rejectionLog = options.rejectionLog ?? null;
    this.#rejections = new Rejections();
    this.#unanswered = new UnansweredWatch(keepAliveMs);
    const shortest = Math.min(
      limits.payloadTimeoutMs,
      limits.writeTimeoutMs,
      limits.idleTimeoutMs || Number.POSITIVE_INFINITY,
    );
    this.#sweep = setInterval(this.#checkTimeouts, Math.min(coarsestSweepMs, Math.max(10, shortest / 10)));
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Everything that needs a descriptor. */
  get #sockets(): number {
    return this.#connections.size + this.#shakingHands.size + this.#migration.arriving + this.#rejections.lingering;
  }

  get inFlight(): number {
    let inFlight = 0;
    for (const connection of this.#connections.keys()) inFlight += connection.inFlight;
    return inFlight;
  }

  /** Answers what is in flight; resolves when every connection has ended, at the latest after `timeoutMs`. */
  drain(timeoutMs: number): Promise<void> {
    return this.#end({ kind: 'drain' }, timeoutMs);
  }

  /** Migrates every connection whose route is in `movable`; the others are drained. */
  retire(movable: readonly string[], timeoutMs: number): Promise<void> {
    return this.#end({ kind: 'retire', movable: new Set(movable) }, timeoutMs);
  }

  /** Migrates `count` connections, those with the fewest requests in flight first. */
  migrateSome({ count, movable }: Extract<ToWorker, { kind: 'migrate-some' }>): void {
    const candidates = [...this.#connections].filter(
      ([connection, origin]) => this.#migration.canMigrate(connection, origin) && movable.includes(origin.route ?? ''),
    );
    const idleFirst = candidates.sort(([a], [b]) => a.inFlight - b.inFlight);
    for (const [connection, origin] of idleFirst.slice(0, count)) void this.#migration.migrate(connection, origin);
  }

  /** A connection of another worker is on its way to this one. */
  expect(order: Extract<ToWorker, { kind: 'attach' }>, handle: RawHandle): void {
    this.#migration.expect(order, handle);
  }

  /** The state of such a connection has come. */
  attach(order: Extract<ToWorker, { kind: 'attach-state' }>): void {
    const arrival = this.#migration.arrived(order);
    if (arrival === null) return;
    if (arrival.state === null) {
      arrival.socket.destroy();
      this.#arrivals.release(arrival.address);
      this.#checkEmpty();
    } else {
      this.#context.recorder.count('connectionsMoved');
      setKeepAlive(arrival.socket, this.#keepAliveMs); // the kernel keeps the setting of the old worker's config
      this.#continue(arrival, arrival.state);
    }
  }

  async #end(ending: Ending, timeoutMs: number): Promise<void> {
    this.#ending = ending;
    const empty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
      this.#checkEmpty();
    });
    for (const [connection, origin] of this.#connections) this.#endConnection(connection, origin);
    for (const socket of this.#shakingHands) socket.destroy(); // they have sent no request yet
    const overdue = setTimeout(() => {
      for (const connection of this.#connections.keys()) connection.destroy();
    }, timeoutMs);
    await empty;
    clearTimeout(overdue);
    clearInterval(this.#sweep);
  }

  async #endConnection(connection: ServedConnection, origin: Origin): Promise<void> {
    const isMovable = this.#ending?.kind === 'retire' && this.#ending.movable.has(origin.route ?? '');
    if (isMovable && (await this.#migration.migrate(connection, origin))) return;
    connection.drain();
  }

  #checkEmpty(): void {
    const coming = this.#arrivals.pending + this.#migration.arriving + this.#shakingHands.size;
    if (this.#ending !== null && this.#connections.size === 0 && coming === 0) this.#onEmpty?.();
  }

  #accept({ listener: index, address, decision }: Arrival, handle: RawHandle | null): void {
    const listener = this.#listeners[index];
    if (listener === undefined) throw new Error(`there is no listener ${index}`);
    if (decision !== 'granted') this.#refuse(handle, listener, address, decision);
    else if (handle === null || this.#sockets >= this.#maxSockets) {
      this.#context.recorder.count('refusedByDescriptors');
      this.#onExhausted();
      this.#forget(handle, address);
    } else if (isReset(handle)) this.#forget(handle, address);
    else if (listener.tls && this.#ending !== null) this.#forget(handle, address);
    else if (listener.tls) this.#shakeHands(this.#prepared(plainSocketOn(handle)), index, address);
    else {
      // What a parser of HTTP was given, it still reads later.
      const socket = takesHttp(listener.protocol) ? plainSocketOn(handle) : socketOn(handle);
      this.#begin(this.#prepared(socket), index, address);
    }
    this.#checkEmpty();
  }

  #prepared(socket: Socket): Socket {
    if (inheritsFromListener) return socket;
    socket.setNoDelay(true);
    if (this.#keepAliveMs > 0) socket.setKeepAlive(true, this.#keepAliveMs);
    return socket;
  }

  /** Closes a connection that was not served yet, and frees its place. */
  #forget(handle: RawHandle | null, address: string): void {
    handle?.close();
    this.#arrivals.release(address);
  }

  /** Tells the client why; with TLS, which would need a handshake first, it only closes the connection. */
  #refuse(handle: RawHandle | null, listener: Listener, client: string, reason: Exclude<Decision, 'granted'>): void {
    this.#context.recorder.count(reason);
    this.#rejectionLog?.note(connectionRefused(client, reasonOf[reason]));
    const words = listener.tls ? null : this.#refusalOf(listener, reason);
    if (words === null || handle === null) handle?.close();
    else
      this.#rejections.refuse(
        socketOn(handle).on('error', () => {}),
        words,
      );
  }

  #shakeHands(socket: Socket, listener: number, address: string): void {
    const offer = takesHttp((this.#listeners[listener] as Listener).protocol) ? 'http' : 'nothing';
    if (this.#handshakes === null) throw new Error('a listener with TLS needs a certificate');
    this.#shakingHands.add(socket);
    this.#handshakes.begin(socket, offer, (secured, failure) => {
      this.#shakingHands.delete(socket);
      if (secured !== null && this.#ending === null) this.#begin(secured, listener, address);
      else {
        secured?.destroy();
        if (this.#ending === null) {
          this.#context.recorder.count('refusedByHandshake');
          this.#rejectionLog?.of(address, 'tls').note('TLS_HANDSHAKE_FAILED', failure);
        }
        this.#arrivals.release(address);
      }
      this.#checkEmpty();
    });
  }

  #begin(socket: Socket, listener: number, address: string): void {
    this.#context.recorder.count('connectionsAccepted');
    const { protocol } = this.#listeners[listener] as Listener;
    if (protocol === 'open' || protocol === 'auto') this.#detect(socket, listener, address, null);
    else this.#serve(this.#entrances.of(listener, protocol), { socket, address }, null);
  }

  /** Serves a connection of another worker. */
  #continue({ socket, route, address }: Origin, state: ConnectionState): void {
    const undecided = this.#anyRoutes.indexOf(route ?? '');
    if (undecided >= 0) this.#detect(socket, undecided, address, state);
    else this.#serve({ open: this.#entrances.ofRoute(route ?? ''), route }, { socket, address }, state);
  }

  /** Serves it as what its first bytes tell. */
  #detect(socket: Socket, listener: number, address: string, moved: ConnectionState | null): void {
    const { limits, recorder } = this.#context;
    const options = {
      takesFrames: takesRawFrames((this.#listeners[listener] as Listener).protocol),
      hasSecret: this.#hasSecret,
      limits,
      recorder,
      onDecided: (protocol: ClientProtocol) => {
        this.#connections.delete(detection);
        this.#serve(this.#entrances.of(listener, protocol), { socket, address }, null);
      },
      onClose: (hasMigrated: boolean) => this.#ended(detection, address, hasMigrated),
    };
    const detection: Detection = new Detection(socket, options, moved);
    this.#add(detection, { socket, route: this.#anyRoutes[listener] as string, address });
  }

  #serve({ open, route }: Entrance, { socket, address }: Omit<Origin, 'route'>, moved: ConnectionState | null): void {
    const connection = open({
      socket,
      address,
      onClose: (hasMigrated) => this.#ended(connection, address, hasMigrated),
      moved,
    });
    this.#add(connection, { socket, route, address });
  }

  #add(connection: ServedConnection, origin: Origin): void {
    this.#connections.set(connection, origin);
    this.#tellOtherSources();
    connection.start();
    if (this.#ending !== null && this.#connections.has(connection)) void this.#endConnection(connection, origin);
  }

  #ended(connection: ServedConnection, address: string, hasMigrated: boolean): void {
    this.#connections.delete(connection);
    this.#tellOtherSources();
    if (hasMigrated) this.#context.recorder.count('connectionsMovedAway');
    else this.#arrivals.release(address); // a connection that migrates keeps its place
    this.#checkEmpty();
  }

  #tellOtherSources(): void {
    for (const batcher of this.#batchers) batcher.setHasOtherSources(this.#connections.size > 1);
  }

  readonly #checkTimeouts = (): void => {
    const now = performance.now();
    for (const connection of this.#connections.keys()) connection.checkTimeouts(now);
    void this.#unanswered.check(now, this.#connections);
  };
}
