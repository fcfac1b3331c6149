// The end of the channel between a process and its parent. Node keeps 'disconnect' back while a handle that was sent has
// not been confirmed, to send first what waits behind it; when the other side has died it waits for ever. Then
// node:cluster would go on giving connections to a dead worker, and a worker outlive its primary.

import type { ChildProcess } from 'node:child_process';

/** 'disconnect' comes as soon as the channel has closed, whatever was on its way. Not for ends that disconnect themselves. */
export function hearOfEnd(end: ChildProcess | NodeJS.Process): void {
  const disconnect = end.disconnect as () => void;
  // Node calls it when it has read the channel to its end; it leaves `channel` as it is when it means to wait.
  end.disconnect = () => {
    disconnect.call(end);
    if (end.channel) process.nextTick(() => (end as NodeJS.EventEmitter).emit('disconnect'));
  };
}
