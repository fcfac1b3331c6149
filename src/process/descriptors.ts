// How many connections this process can hold under its limit of open files. It should never reach that limit: a
// connection sent to a process that has no descriptor for it is lost on the way, and so is one that migrates.

import { readdirSync, readFileSync } from 'node:fs';

/** For everything else that is opened: connections that are on their way, files, models that are loaded. */
const margin = 32;

/** Call it when everything else is open. Infinity where the system does not report the limit. */
export function maxSockets(): number {
  try {
    const limit = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
    if (limit === undefined) return Number.POSITIVE_INFINITY;
    return Math.max(1, Number(limit) - readdirSync('/proc/self/fd').length - margin);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
