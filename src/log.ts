// Logs: an event a line as JSON, or readable on a terminal. Every line says which process of which node wrote it.

import { Writable } from 'node:stream';
import { type Logger, pino } from 'pino';
import pretty from 'pino-pretty';
import { LogOutput } from './log-output.js';

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

/** Writes to stdout, at once. */
export function createLog(settings: LogSettings, origin: LogOrigin): Log {
  const options = {
    level: settings.level,
    base: { ...origin, pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  const output = new LogOutput(1, (lost) => {
    const line = {
      level: 'warn',
      time: new Date().toISOString(),
      ...options.base,
      ...lost,
      msg: 'log lines were lost',
    };
    return `${JSON.stringify(line)}\n`;
  });
  const isPretty = settings.format === 'pretty' || (settings.format === 'auto' && process.stdout.isTTY);
  if (!isPretty) return pino(options, output);
  const who = origin.slot === undefined ? origin.role : `${origin.role} ${origin.slot}`;
  const messageFormat = `${who} on ${origin.node}: {msg}`;
  return pino(
    options,
    pretty({ destination: toStream(output), ignore: 'role,node,slot', translateTime: 'SYS:HH:MM:ss.l', messageFormat }),
  );
}

function toStream(output: LogOutput): Writable {
  return new Writable({
    decodeStrings: false,
    write: (line: string, _encoding, done) => {
      output.write(line);
      done();
    },
  });
}
