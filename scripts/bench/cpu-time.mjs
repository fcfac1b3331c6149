// CPU time: it remains a measure where other programs want the same cores.

import { readdirSync, readFileSync } from 'node:fs';

const childrenOf = (pid) => readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').match(/\d+/g) ?? [];
const isAggregator = (pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('aggregator');

/** CPU time that a primary and its workers have used so far, in µs; NaN where the kernel does not report it. */
export function cpuUs({ child }) {
  try {
    const pids = [child.pid, ...childrenOf(child.pid).filter((pid) => !isAggregator(pid))];
    const threads = pids.flatMap((pid) =>
      readdirSync(`/proc/${pid}/task`).map((thread) => `/proc/${pid}/task/${thread}`),
    );
    return (
      threads.reduce((sum, thread) => sum + Number(readFileSync(`${thread}/schedstat`, 'utf8').split(' ')[0]), 0) / 1000
    );
  } catch {
    return Number.NaN;
  }
}
