// Logs: one event per line, as JSON, or readable on a terminal. Every line names the process and the node that wrote
// it.

import { createRequire } from 'node:module';
import { Writable } from 'node:stream';
import { type Logger, pino } from 'pino';
import { LogOutput, neverWaiting } from './log-output.js';

export type Log = Logger;

export interface LogSettings {
  readonly level: string;
  readonly format: 'auto' | 'json' | 'pretty';
  /** How many KiB of lines may wait for their reader. */
  readonly maxBufferedKb?: number;
  /** How long the end of this process may take for lines that still wait. */
  readonly flushTimeoutMs?: number;
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
    base: baseOf(origin),
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  const output = outputTo(1, settings, origin);
  const isPretty = settings.format === 'pretty' || (settings.format === 'auto' && process.stdout.isTTY);
  if (!isPretty) return pino(options, output);
  const pretty = createRequire(import.meta.url)('pino-pretty') as typeof import('pino-pretty'); // for terminals alone
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

const baseOf = (origin: LogOrigin) => ({ ...origin, pid: process.pid });

const outputs = new Map<1 | 2, LogOutput>();

/** The output for lines to stdout (1) or stderr (2); this process has one of each. It never makes the process wait. */
export function outputTo(descriptor: 1 | 2, settings: LogSettings, origin: LogOrigin): LogOutput {
  let output = outputs.get(descriptor);
  if (output === undefined) {
    output = openOutput(descriptor, settings, origin);
    outputs.set(descriptor, output);
  }
  return output;
}

function openOutput(descriptor: 1 | 2, settings: LogSettings, origin: LogOrigin): LogOutput {
  const { maxBufferedKb = 256, flushTimeoutMs = 500 } = settings;
  const output = new LogOutput(neverWaiting(descriptor), {
    maxWaitingBytes: maxBufferedKb * 1024,
    describe: (lost) => {
      const line = {
        level: 'warn',
        time: new Date().toISOString(),
        ...baseOf(origin),
        ...lost,
        msg: 'log lines were lost',
      };
      return `${JSON.stringify(line)}\n`;
    },
  });
  process.once('exit', () => output.flush(flushTimeoutMs));
  return output;
}

/** How often lost lines are counted. */
const countEveryMs = 250;

/** Regularly calls `count` with how many lines this process has lost. */
export function countLostLines(count: (lines: number) => void): void {
  const takeLost = (): void => {
    const lost = [...outputs.values()].reduce((sum, output) => sum + output.takeLost(), 0);
    if (lost > 0) count(lost);
  };
  setInterval(takeLost, countEveryMs).unref();
}
