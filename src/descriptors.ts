// How many connections this process can hold, by its limit of open files. It should never reach that: a connection that
// is sent to a process without a descriptor for it is lost on the way, and so is one that moves.

import { readdirSync, readFileSync } from 'node:fs';

/** For what is opened besides: connections that are on their way, files, models that are loaded. */
const margin = 32;

/** To be asked when all else is open. Infinity where the system does not tell. */
export function maxSockets(): number {
  try {
    const limit = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
    if (limit === undefined) return Number.POSITIVE_INFINITY;
    return Math.max(1, Number(limit) - readdirSync('/proc/self/fd').length - margin);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
