// Log lines of every process.

import { type SettingsOf, setting } from '../setting.js';

export const log = {
  level: setting({
    doc: 'Least severity that is logged: trace, debug, info, warn, error, fatal or silent, in any case.',
    format: 'logLevel',
    default: 'info',
    env: 'LOG_LEVEL',
  }),
  format: setting({
    doc: 'json: a line an event; pretty: for people; auto: pretty on a terminal, json elsewhere.',
    format: 'logFormat',
    default: 'auto',
  }),
  maxBufferedKb: setting({
    doc: 'Log lines in KiB that a process keeps for a reader (of a pipe, a socket, a terminal) that is slower than they come; beyond it they are lost and counted, since nothing may wait for a log. A burst of some thousand lines.',
    format: 'countOrNone',
    default: 256,
  }),
  flushTimeoutMs: setting({
    doc: 'Time that the end of a process may take for lines that still wait for their reader. What reads takes them at once; what has stalled shall not hold a stop.',
    format: 'interval',
    default: 500,
  }),
};

export type LogSettings = SettingsOf<typeof log>;
