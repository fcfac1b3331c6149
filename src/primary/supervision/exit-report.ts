// What the log reports about a worker that has died: how, with how many connections, and what it was running when it
// last reported, which is most likely what killed it.

import type { WorkerHandle } from './worker-handle.js';

/** @param how the signal or the exit code that it ended with */
export function exitReport(worker: WorkerHandle, how: string): object {
  const { slot, pid, killedFor, lastRecord, heardAt, connections } = worker;
  const fields = { slot, worker: pid, how: killedFor ?? explained(how), connectionsLost: connections };
  if (lastRecord === null) return fields;
  const { inFlight, models, rssBytes } = lastRecord.gauges;
  const msAgo = Math.round(performance.now() - heardAt);
  return { ...fields, lastSeen: { msAgo, inFlight, models, rssMb: Math.round(rssBytes / 2 ** 20) } };
}

function explained(how: string): string {
  if (how === 'SIGABRT')
    return 'SIGABRT: Node or a native library gave up, for want of memory or with a defect; see its report on stderr';
  if (how === 'SIGKILL')
    return 'SIGKILL: killed, by somebody, by the kernel for want of memory, or by itself with a run that could not be ended; see the lines before';
  return how;
}
