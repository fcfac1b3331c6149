// A child process at either end of the embedded transport: it publishes what it is told to, or prints what it has seen.

import { IpcPublisher, IpcSource } from '#src/metrics/transport/ipc.js';
import type { RecordUpdate } from '#src/metrics/transport/transport.js';

export type ToIpcChild =
  | { readonly kind: 'publish'; readonly update: RecordUpdate }
  | { readonly kind: 'update'; readonly update: RecordUpdate }
  | { readonly kind: 'read' };

const send = (message: unknown): Promise<void> =>
  new Promise((resolve, reject) => {
    process.send?.(message, undefined, undefined, (error) => (error === null ? resolve() : reject(error)));
  });
const publisher = new IpcPublisher((update) => send({ kind: 'update', update }));
const source = new IpcSource();

process.on('disconnect', () => process.exit(0));
process.on('message', async (message: ToIpcChild) => {
  if (message.kind === 'publish') {
    await publisher.publish(message.update);
    await send({ kind: 'published' });
  } else if (message.kind === 'update') source.receive(message.update);
  else await send({ kind: 'records', snapshot: await source.read() });
});
