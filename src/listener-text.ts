// A listener in one line: where it is, what is spoken there, and which models answer.

import type { ListenAddress } from './ipc/messages.js';

/** A server of an earlier version tells only the model. */
type Told = Pick<ListenAddress, 'host' | 'port' | 'model'> & Partial<ListenAddress>;

export function listenerText({ host, port, protocol = 'frames', models = [], model }: Told): string {
  const all = models.join(', ');
  const served = {
    frames: `${model}`,
    calls: `calls: ${all}`,
    open: `http, grpc: ${all}`,
    auto: `frames: ${model}; calls, http, grpc: ${all}`,
  }[protocol];
  return `${host}:${port} → ${served}`;
}
