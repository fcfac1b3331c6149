// Connections on their way from the primary to a worker. node:cluster accepts in the primary and forgets a connection
// that it has sent to a worker that dies before it has taken it: such a client would be connected to nobody for ever.
// Seen from the primary, these are handles sent with `newconn` that have no `ack`; when the worker is gone they are
// closed, as all other connections of that worker are, and their clients can connect again.

import type { ChildProcess } from 'node:child_process';

interface ClusterMessage {
  readonly cmd?: string;
  readonly act?: string;
  readonly seq?: number;
  readonly ack?: number;
}

interface Closable {
  close(): void;
}

export function closeInTransit(child: ChildProcess): void {
  const inTransit = new Map<number, Closable>();
  const send = child.send as (...args: unknown[]) => boolean;
  child.send = ((...args: unknown[]) => {
    const [message, handle] = args as [ClusterMessage | undefined, Closable | undefined];
    if (message?.act === 'newconn' && message.seq !== undefined && handle) inTransit.set(message.seq, handle);
    return send.apply(child, args);
  }) as typeof child.send;
  child.on('internalMessage', ({ ack }: ClusterMessage) => {
    if (ack !== undefined) inTransit.delete(ack);
  });
  child.once('exit', () => {
    for (const handle of inTransit.values()) handle.close();
    inTransit.clear();
  });
}
