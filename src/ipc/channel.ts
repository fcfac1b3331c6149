// The channel from a child to its primary.

import type { SendHandle } from 'node:child_process';
import type { RawHandle } from '../net/raw-handle.js';
import type { FromAggregator, FromWorker } from './messages.js';

/**
 * Sends a message to the primary, with a handle if there is one. Resolves when the message has left; rejects when the
 * channel is closed: then the primary is gone.
 */
export function sendToPrimary(message: FromWorker | FromAggregator, handle?: RawHandle): Promise<void> {
  return new Promise((resolve, reject) => {
    if (process.send === undefined) return reject(new Error('this process has no primary'));
    const onSent = (error: Error | null): void => (error === null ? resolve() : reject(error));
    process.send(message, handle as unknown as SendHandle | undefined, undefined, onSent);
  });
}
