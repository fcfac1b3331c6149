// The simulation: clients that send the held-out digits (or random bytes), check every reply, and ask the server
// whether it counted the same.

import { readFileSync } from 'node:fs';
import { InferenceClient } from '../client/client.js';
import { messageOf, OperatorError } from '../errors.js';
import type { LengthFieldSize } from '../protocol/frames.js';
import { type Check, digitChecks, randomChecks } from './checks.js';
import { createProgress } from './progress.js';
import { Report } from './report.js';
import { type MetricsSource, readTotals, type Totals, waitForTotals } from './totals.js';

export interface Simulation {
  readonly host: string;
  readonly port: number;
  readonly clients: number;
  readonly requests: number;
  readonly depth: number;
  /** Requests a second over all clients; 0: closed loop. */
  readonly rate: number;
  /** Null: the held-out digits. */
  readonly payloadBytes: number | null;
  readonly lengthFieldSize: LengthFieldSize;
  /** Null: totals are not compared. */
  readonly metrics: MetricsSource | null;
  /** Empty: none is asked for. */
  readonly secret: string;
  /** Speaks TLS when there is one. */
  readonly tls?: { readonly ca: Buffer };
}

/** Throws OperatorError CONFIG_INVALID that lists every flag that is wrong. */
export function parseSimulation(
  flags: Readonly<Record<string, string>>,
  env: Readonly<Record<string, string | undefined>>,
): Simulation {
  const mistakes: string[] = [];
  const whole = (flag: string, text: string | undefined, least: number, most = Number.MAX_SAFE_INTEGER): number => {
    const value = Number(text);
    if (!Number.isSafeInteger(value) || value < least || value > most)
      mistakes.push(
        `--${flag}: must be a whole number from ${least}${most < Number.MAX_SAFE_INTEGER ? ` to ${most}` : ''}`,
      );
    return value;
  };
  const lengthFieldSize = whole('length-field-size', flags.lengthFieldSize, 2, 8);
  if (![2, 4, 8].includes(lengthFieldSize)) mistakes.push('--length-field-size: must be 2, 4 or 8');
  const url = flags.metrics === 'none' ? null : (flags.metrics ?? null);
  const simulation: Simulation = {
    host: flags.host ?? '127.0.0.1',
    port: whole('port', flags.port, 1, 65_535),
    clients: whole('clients', flags.clients, 1, 10_000),
    requests: whole('requests', flags.requests, 1),
    depth: whole('depth', flags.depth, 1, 100_000),
    rate: whole('rate', flags.rate, 0, 10_000_000),
    payloadBytes: flags.payloadSize === undefined ? null : whole('payload-size', flags.payloadSize, 0, 1 << 30),
    lengthFieldSize: lengthFieldSize as LengthFieldSize,
    metrics: url === null ? null : { url, token: flags.token ?? env.HTTP_TOKEN ?? '' },
    secret: flags.secret ?? env.SHARED_SECRET ?? '',
    ...(flags.tlsCa === undefined ? {} : { tls: { ca: readCa(flags.tlsCa, mistakes) } }),
  };
  if (url !== null && !URL.canParse(url)) mistakes.push('--metrics: must be a URL, or none');
  if (mistakes.length > 0)
    throw new OperatorError(
      'CONFIG_INVALID',
      `the simulation cannot run:\n${mistakes.map((mistake) => `  - ${mistake}`).join('\n')}`,
    );
  return simulation;
}

function readCa(file: string, mistakes: string[]): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    mistakes.push(`--tls-ca: cannot be read: ${messageOf(error)}`);
    return Buffer.alloc(0);
  }
}

/** Runs it, prints what it found, and returns the exit code. */
export async function simulate(simulation: Simulation): Promise<number> {
  const checks = simulation.payloadBytes === null ? digitChecks() : randomChecks(simulation.payloadBytes);
  const before = simulation.metrics === null ? null : await readTotals(simulation.metrics);
  const report = new Report();
  const progress = createProgress(simulation.requests);
  let clients: readonly InferenceClient[];
  try {
    clients = await Promise.all(Array.from({ length: simulation.clients }, () => InferenceClient.connect(simulation)));
  } catch (error) {
    console.error(
      `cannot connect to ${simulation.host}:${simulation.port}: ${messageOf(error)}. Is the server running? \`npm start\` starts it.`,
    );
    return 1;
  }
  report.begin();
  await run(simulation, clients, checks, report, () => progress.update(report.done));
  report.end();
  await Promise.all(clients.map((client) => client.close()));
  progress.stop();
  console.log(report.format());
  const agree = await compareTotals(simulation, before, report);
  return report.isClean && agree ? 0 : 1;
}

/** Keeps `depth` requests of each client in flight, or as many as the rate asks for up to there. */
async function run(
  simulation: Simulation,
  clients: readonly InferenceClient[],
  checks: readonly Check[],
  report: Report,
  onProgress: () => void,
): Promise<void> {
  const { requests, depth, rate } = simulation;
  let next = 0;
  const startedAt = performance.now();
  const lane = async (client: InferenceClient): Promise<void> => {
    while (next < requests && !report.hasLostConnection(client)) {
      const i = next++;
      const dueAt = rate > 0 ? startedAt + (i * 1000) / rate : 0;
      const waitMs = dueAt - performance.now();
      if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      // At a given rate, latency counts from when the request was due, so that a slow server cannot hide behind us.
      await report.measure(client, checks[i % checks.length] as Check, rate > 0 ? dueAt : performance.now());
      onProgress();
    }
  };
  await Promise.all(clients.flatMap((client) => Array.from({ length: depth }, () => lane(client))));
}

async function compareTotals({ metrics }: Simulation, before: Totals | null, report: Report): Promise<boolean> {
  if (metrics === null) return true;
  const { url } = metrics;
  if (before === null) {
    console.log(`totals not compared: ${url} did not answer before the run`);
    return false;
  }
  const counted = await waitForTotals(metrics, before, report.sent);
  if (counted === null) {
    console.log(`totals not compared: ${url} did not answer after the run`);
    return false;
  }
  const isEqual = counted.requests === report.sent && counted.errors === report.failed;
  const found = `server ${counted.requests} requests, ${counted.errors} errors; clients ${report.sent} requests, ${report.failed} errors`;
  console.log(isEqual ? `totals agree: ${found}` : `totals DIFFER: ${found} (do other clients use the server?)`);
  return isEqual;
}
