// What node:cluster leaves undone when a worker goes while it is spoken to.
//
// Connections: the primary accepts, and sends each to a worker with `newconn`. One that the worker has not acknowledged
// when its channel ends is forgotten, and so is one that the worker sends back, since it listens no more, when nobody
// else listens either: such a client would be connected to nobody for ever. Both are closed here, as all other
// connections of that worker are, and the clients can connect again.
//
// Replies: one that cannot be sent any more would be an 'error' event that nobody listens to, which ends the primary. The
// worker's end is heard of anyway.

import type { ChildProcess } from 'node:child_process';
import { hearOfEnd } from '../channel.js';
import type { Place } from '../ipc/messages.js';
import type { RawHandle } from '../raw-handle.js';

/** Of those of node:cluster (lib/internal/cluster), what is looked at here. */
interface ClusterMessage {
  readonly cmd?: string;
  readonly act?: string;
  readonly seq?: number;
  /** Of which message this is the answer. */
  readonly ack?: number;
  /** Of a listener; in an answer, the worker listens there from now on. */
  readonly key?: string;
  readonly errno?: number | null;
  readonly accepted?: boolean;
  /** Ours: what the worker is told of a connection. */
  place?: Place;
}

/** Asked for each connection that is on its way to a worker. */
export interface Gate {
  /** What to tell of it; null: it is to be closed. */
  admit(handle: RawHandle): Place | null;
  /** The worker has not taken it. */
  sentBack(place: Place): void;
}

interface Transit {
  readonly handle: RawHandle;
  readonly place: Place;
  readonly listeners: ReadonlySet<ChildProcess> | undefined;
}

/** Who listens, by key; a set that becomes empty is never filled again, as in node:cluster. */
const listening = new Map<string, Set<ChildProcess>>();

function join(key: string, child: ChildProcess): void {
  const listeners = listening.get(key) ?? new Set();
  listening.set(key, listeners.add(child));
}

function leave(key: string, child: ChildProcess): void {
  const listeners = listening.get(key);
  listeners?.delete(child);
  if (listeners?.size === 0) listening.delete(key);
}

const ignore = (): void => {};

export function mindChannel(child: ChildProcess, gate: Gate): void {
  hearOfEnd(child);
  const inTransit = new Map<number, Transit>();
  const send = child.send as (...args: unknown[]) => boolean;
  child.send = ((...args: unknown[]) => {
    const [message, handle] = args as [ClusterMessage | undefined, RawHandle | undefined];
    if (message?.cmd !== 'NODE_CLUSTER') return send.apply(child, args);
    const { act, seq, ack, key, errno } = message;
    if (key !== undefined && ack !== undefined && !errno) join(key, child);
    if (key !== undefined && seq !== undefined && act === 'newconn' && handle) {
      const place = gate.admit(handle);
      if (place === null) {
        // As if the worker had taken it: node:cluster closes it, and goes on with the next.
        const taken: ClusterMessage = { cmd: 'NODE_CLUSTER', ack: seq, accepted: true };
        process.nextTick(() => child.emit('internalMessage', taken));
        return true;
      }
      message.place = place;
      inTransit.set(seq, { handle, place, listeners: listening.get(key) });
    }
    return send.call(child, message, handle, {}, ignore);
  }) as typeof child.send;
  child.on('internalMessage', ({ act, ack, key, accepted }: ClusterMessage) => {
    if (act === 'close' && key !== undefined) leave(key, child);
    const transit = ack === undefined ? undefined : inTransit.get(ack);
    if (ack === undefined || transit === undefined) return;
    inTransit.delete(ack);
    if (accepted !== false) return;
    gate.sentBack(transit.place);
    if ((transit.listeners?.size ?? 0) === 0) transit.handle.close();
  });
  child.once('disconnect', () => {
    for (const key of [...listening.keys()]) leave(key, child);
    for (const { handle } of inTransit.values()) handle.close();
    inTransit.clear();
  });
}
