// Logs: an event a line as JSON, or readable on a terminal. Every line says which process of which node wrote it.

import { type Logger, pino } from 'pino';
import pretty from 'pino-pretty';

export type Log = Logger;

export interface LogSettings {
  readonly level: string;
  readonly format: 'auto' | 'json' | 'pretty';
}

/** The process that writes. */
export interface LogOrigin {
  readonly role: 'primary' | 'worker' | 'aggregator' | 'cli';
  readonly node: string;
  readonly slot?: number;
}

/** Writes synchronously to stdout, so that the last line before an exit is not lost. */
export function createLog(settings: LogSettings, origin: LogOrigin): Log {
  const options = {
    level: settings.level,
    base: { ...origin, pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  const isPretty = settings.format === 'pretty' || (settings.format === 'auto' && process.stdout.isTTY);
  if (!isPretty) return pino(options, pino.destination({ dest: 1, sync: true }));
  const who = origin.slot === undefined ? origin.role : `${origin.role} ${origin.slot}`;
  const messageFormat = `${who} on ${origin.node}: {msg}`;
  return pino(
    options,
    pretty({ sync: true, ignore: 'role,node,slot', translateTime: 'SYS:HH:MM:ss.l', messageFormat }),
  );
}
