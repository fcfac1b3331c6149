// What node:cluster leaves undone when a worker dies while it is spoken to.
//
// Connections: the primary accepts, and forgets a connection that it has sent to a worker that dies before it has taken
// it: such a client would be connected to nobody for ever. Seen from here, these are handles sent with `newconn` that
// have no `ack`; when the channel has ended they are closed, as all other connections of that worker are, and their
// clients can connect again.
//
// Replies: one that cannot be sent any more would be an 'error' event that nobody listens to, which ends the primary. The
// worker's end is heard of anyway.

import type { ChildProcess } from 'node:child_process';
import { hearOfEnd } from '../channel.js';

interface ClusterMessage {
  readonly cmd?: string;
  readonly act?: string;
  readonly seq?: number;
  readonly ack?: number;
}

interface Closable {
  close(): void;
}

const ignore = (): void => {};

export function mindChannel(child: ChildProcess): void {
  hearOfEnd(child);
  const inTransit = new Map<number, Closable>();
  const send = child.send as (...args: unknown[]) => boolean;
  child.send = ((...args: unknown[]) => {
    const [message, handle] = args as [ClusterMessage | undefined, Closable | undefined];
    if (message?.act === 'newconn' && message.seq !== undefined && handle) inTransit.set(message.seq, handle);
    const isOfCluster = message?.cmd === 'NODE_CLUSTER';
    return isOfCluster ? send.call(child, message, handle, {}, ignore) : send.apply(child, args);
  }) as typeof child.send;
  child.on('internalMessage', ({ ack }: ClusterMessage) => {
    if (ack !== undefined) inTransit.delete(ack);
  });
  child.once('disconnect', () => {
    for (const handle of inTransit.values()) handle.close();
    inTransit.clear();
  });
}
