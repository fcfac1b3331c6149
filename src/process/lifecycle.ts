// The signals that our processes obey or ignore, and the log line of a fatal error.

import { messageOf, OperatorError, operatorErrors } from '../errors.js';
import type { Log } from './log.js';

/** The signals that ask a process to stop. */
const stopSignals = ['SIGTERM', 'SIGINT'] as const;
/** Every signal that a person or a process manager may send to the whole process tree. */
const treeSignals = [...stopSignals, 'SIGHUP', 'SIGUSR2', 'SIGTTIN', 'SIGTTOU'] as const;

/**
 * A signal that follows the first one this quickly is its echo: npm, timeout(1) and shells pass on a signal that the
 * whole process group got.
 */
const echoMs = 500;

/** Calls `stop` on the first SIGTERM or SIGINT and `force` on the next. */
export function onStopSignal(stop: (signal: string) => void, force: (signal: string) => void): void {
  let stoppedAt: number | null = null;
  for (const signal of stopSignals) {
    process.on(signal, () => {
      if (stoppedAt === null) {
        stoppedAt = performance.now();
        stop(signal);
      } else if (performance.now() - stoppedAt > echoMs) force(signal);
    });
  }
}

/**
 * Calls `reload` on SIGUSR2 and SIGHUP. On a terminal SIGHUP means that the terminal is gone: it is then a stop signal,
 * as a user who closes a window expects.
 */
export function onReloadSignal(reload: (signal: string) => void): void {
  process.on('SIGUSR2', reload);
  process.on('SIGHUP', (signal) => {
    if (process.stdout.isTTY) process.kill(process.pid, 'SIGTERM');
    else reload(signal);
  });
}

/** Calls `change` with 1 on SIGTTIN and with -1 on SIGTTOU. */
export function onScaleSignal(change: (by: 1 | -1) => void): void {
  process.on('SIGTTIN', () => change(1));
  process.on('SIGTTOU', () => change(-1));
}

/**
 * Makes a child obey its primary alone: terminals and PM2 signal the whole tree, which would end children too early.
 */
export function ignoreTreeSignals(): void {
  for (const signal of treeSignals) process.on(signal, () => {});
}

/**
 * Logs why a process ends and returns its exit code. A failure that an operator can fix is logged without a stack.
 * @param circumstances further fields of the log line
 */
export function logFatal(log: Log, error: unknown, circumstances: object = {}): number {
  if (error instanceof OperatorError) {
    log.fatal({ ...circumstances, code: error.code }, error.message);
    return error.exitCode;
  }
  log.fatal({ ...circumstances, err: error }, messageOf(error));
  return operatorErrors.UNEXPECTED.exitCode;
}
