// `ml-tcp-server top`: shows the cluster on a terminal and keeps it up to date; where the output is piped, prints one
// line per second.

import type { Metrics } from '../../aggregator/metrics.js';
import { OperatorError } from '../../errors.js';
import { Feed } from './feed.js';
import { formatLine, formatScreen } from './render.js';

export interface TopOptions {
  /** The URL of an aggregator: http://host:port. */
  readonly url: string;
  /** As its http.token; empty: it requires none. */
  readonly token: string;
  readonly once: boolean;
  readonly json: boolean;
}

const drawIntervalMs = 500;
const lineIntervalMs = 1000;
/** The last one is Ctrl-C, which a raw terminal delivers as a key. */
const quitKeys = ['q', 'Q', '\u0003'];

/** Throws OperatorError CONFIG_INVALID; with `once`, SERVER_NOT_FOUND when no aggregator answers. */
export async function top({ url, token, once, json }: TopOptions): Promise<void> {
  if (!/^https?:\/\/./.test(url) || !URL.canParse(url)) {
    throw new OperatorError(
      'CONFIG_INVALID',
      `${url} is no address of an aggregator: write it as http://127.0.0.1:8080`,
    );
  }
  if (once) return printOnce(url, token, json);
  process.stdout.on('error', () => process.exit(0)); // the reader has closed the output
  if (process.stdout.isTTY && process.stdin.isTTY && !json) return drawUntilQuit(url, token);
  return printLines(url, token, json);
}

async function printOnce(url: string, token: string, json: boolean): Promise<void> {
  const metrics = await new Promise<Metrics>((resolve, reject) => {
    const feed = new Feed(url, token, {
      onMetrics: (first) => {
        feed.close();
        resolve(first);
      },
      onGone: (reason) => {
        feed.close();
        reject(new OperatorError('SERVER_NOT_FOUND', `no aggregator answers on ${url}: ${reason}; see --metrics`));
      },
    });
  });
  if (json) console.log(JSON.stringify(metrics));
  else {
    const view = { metrics, gone: null, ageMs: metrics.age_ms };
    console.log(formatScreen(view, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY).join('\n'));
  }
}

function printLines(url: string, token: string, json: boolean): Promise<void> {
  let printedAt = Number.NEGATIVE_INFINITY;
  new Feed(url, token, {
    onMetrics: (metrics) => {
      if (performance.now() - printedAt < lineIntervalMs) return;
      printedAt = performance.now();
      console.log(json ? JSON.stringify(metrics) : formatLine(metrics));
    },
    onGone: (reason) => console.error(`no aggregator answers on ${url}: ${reason}`),
  });
  return new Promise(() => {}); // until the process is ended
}

function drawUntilQuit(url: string, token: string): Promise<void> {
  const { stdin, stdout } = process;
  let metrics: Metrics | null = null;
  let receivedAt = performance.now();
  let gone: string | null = null;
  const draw = (): void => {
    const ageMs = performance.now() - receivedAt + (metrics?.age_ms ?? 0);
    const lines = formatScreen({ metrics, gone, ageMs }, stdout.columns, stdout.rows);
    // Draws from the upper left corner and clears the rest of each line and of the screen, so that nothing flickers.
    stdout.write(`\x1b[H${lines.map((line) => `${line}\x1b[K`).join('\n')}\x1b[J`);
  };
  const feed = new Feed(url, token, {
    onMetrics: (latest) => {
      [metrics, gone, receivedAt] = [latest, null, performance.now()];
    },
    onGone: (reason) => {
      gone = reason;
    },
  });
  stdout.write('\x1b[?1049h\x1b[?25l'); // alternate screen, no cursor
  process.on('exit', () => stdout.write('\x1b[?25h\x1b[?1049l'));
  stdin.setRawMode(true);
  draw();
  const timer = setInterval(draw, drawIntervalMs);
  stdout.on('resize', draw);
  return new Promise((resolve) => {
    const quit = (): void => {
      clearInterval(timer);
      feed.close();
      stdin.setRawMode(false);
      stdin.pause();
      resolve();
    };
    stdin.on('data', (keys) => {
      if (quitKeys.some((key) => String(keys).includes(key))) quit();
    });
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.once(signal, () => process.exit(0));
  });
}
