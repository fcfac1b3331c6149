// Identifies a process. Its pid alone does not: pids are used again after a reboot and after the highest one, and each
// pid namespace (container) has its own 1. It is read from /proc, so on Linux only.

import { existsSync, readFileSync, readlinkSync } from 'node:fs';

export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since the boot. */
  readonly startTime: string;
  /** The namespace that the pid belongs to. */
  readonly pidNamespace: string;
  readonly bootId: string;
}

/** The identity of this process; null where there is no /proc. */
export function ownIdentity(): ProcessIdentity | null {
  const startTime = startTimeOf('self');
  return startTime === null ? null : { pid: process.pid, startTime, ...here() };
}

/** Whether exactly this process runs under its pid here, beyond doubt. */
export function isRunningHere({ pid, startTime, pidNamespace, bootId }: ProcessIdentity): boolean {
  const { pidNamespace: ours, bootId: now } = here();
  return ours !== '' && pidNamespace === ours && bootId === now && startTimeOf(pid) === startTime;
}

/**
 * Whether any process has this pid now. A process that has ended but has not been waited for yet (a zombie) does not
 * run.
 */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  try {
    // The state follows the name of the program, which is in parentheses.
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return !existsSync('/proc/self/stat'); // it has just ended, unless there is no /proc to look in
  }
}

function here(): Pick<ProcessIdentity, 'pidNamespace' | 'bootId'> {
  try {
    const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return { pidNamespace: readlinkSync('/proc/self/ns/pid'), bootId };
  } catch {
    return { pidNamespace: '', bootId: '' };
  }
}

/** Null when it has ended. The fields follow the name of the program, which is in parentheses: proc(5). */
function startTimeOf(pid: number | 'self'): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' || state === 'X' ? null : (fields[18] ?? null);
  } catch {
    return null;
  }
}
