// The simulation: clients that send the held-out digits (or random bytes), check every reply, and ask the server
// whether it counted the same.

import { readFileSync, statSync } from 'node:fs';
import { InferenceClient } from '../../client/client.js';
import { messageOf, OperatorError } from '../../errors.js';
import { type LengthFieldSize, maxFrameLength } from '../../protocol/frames.js';
import { type Check, digitChecks, type Payloads, payloadChecks } from './checks.js';
import { realClock, runOpenLoop } from './open-loop.js';
import { createProgress } from './progress.js';
import { Report } from './report.js';
import { type MetricsSource, readTotals, type Totals, waitForTotals } from './totals.js';

export interface Simulation {
  readonly host: string;
  readonly port: number;
  readonly clients: number;
  readonly requests: number;
  readonly depth: number;
  /** Requests per second over all clients; 0: closed loop. */
  readonly rate: number;
  /** Null: the held-out digits. */
  readonly payloads: Payloads | null;
  readonly lengthFieldSize: LengthFieldSize;
  /** Null: totals are not compared. */
  readonly metrics: MetricsSource | null;
  /** Empty: the server requires none. */
  readonly secret: string;
  /** If set, clients speak TLS. */
  readonly tls?: { readonly ca: Buffer };
}

const maxPayloadBytes = 1 << 30;

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
    payloads: payloadsOf(flags, whole, mistakes),
    lengthFieldSize: lengthFieldSize as LengthFieldSize,
    metrics: url === null ? null : { url, token: flags.token ?? env.HTTP_TOKEN ?? '' },
    secret: flags.secret ?? env.SHARED_SECRET ?? '',
    ...(flags.tlsCa === undefined ? {} : { tls: { ca: readCa(flags.tlsCa, mistakes) } }),
  };
  if (url !== null && !(/^https?:\/\/./.test(url) && URL.canParse(url)))
    mistakes.push('--metrics: must be a URL, as http://127.0.0.1:8080/metrics, or none');
  const largest = simulation.payloads === null ? 0 : sizeOf(simulation.payloads);
  if (mistakes.length === 0 && largest > maxFrameLength(simulation.lengthFieldSize))
    mistakes.push(`--length-field-size ${lengthFieldSize}: cannot tell of a payload of ${largest} bytes`);
  if (mistakes.length > 0)
    throw new OperatorError(
      'CONFIG_INVALID',
      `the simulation cannot run:\n${mistakes.map((mistake) => `  - ${mistake}`).join('\n')}`,
    );
  return simulation;
}

const sizeOf = (payloads: Payloads): number => (payloads.kind === 'given' ? payloads.bytes.length : payloads.size);

function payloadsOf(
  { payloadSize, payload, zeros }: Readonly<Record<string, string | boolean>>,
  whole: (flag: string, text: string | undefined, least: number, most: number) => number,
  mistakes: string[],
): Payloads | null {
  if (payload !== undefined && payloadSize !== undefined)
    mistakes.push('--payload and --payload-size: use one of the two');
  if (zeros !== undefined && payloadSize === undefined) mistakes.push('--zeros: needs --payload-size');
  if (payload !== undefined) return { kind: 'given', bytes: readPayload(String(payload), mistakes) };
  if (payloadSize === undefined) return null;
  return { kind: zeros ? 'zeros' : 'random', size: whole('payload-size', String(payloadSize), 0, maxPayloadBytes) };
}

function readPayload(file: string, mistakes: string[]): Buffer {
  try {
    const { size } = statSync(file);
    if (size > maxPayloadBytes) throw new Error(`it has ${size} bytes, and a payload at most ${maxPayloadBytes}`);
    return readFileSync(file);
  } catch (error) {
    mistakes.push(`--payload: cannot be read: ${messageOf(error)}`);
    return Buffer.alloc(0);
  }
}

function readCa(file: string, mistakes: string[]): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    mistakes.push(`--tls-ca: cannot be read: ${messageOf(error)}`);
    return Buffer.alloc(0);
  }
}

/** Runs the simulation, prints its findings, and returns the exit code. */
export async function simulate(simulation: Simulation): Promise<number> {
  const checks = simulation.payloads === null ? digitChecks() : payloadChecks(simulation.payloads);
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
  if (simulation.payloads === null && report.failed === report.sent)
    console.log('no reply to any digit: for another model than that of the digits, see --payload-size and --payload');
  const agree = await compareTotals(simulation, before, report);
  return report.isClean && agree ? 0 : 1;
}

/** Sends at the given rate; without one, keeps `depth` requests of each client in flight. */
function run(
  simulation: Simulation,
  clients: readonly InferenceClient[],
  checks: readonly Check[],
  report: Report,
  onProgress: () => void,
): Promise<void> {
  const measure = async (client: InferenceClient, i: number, dueAt: number): Promise<void> => {
    await report.measure(client, checks[i % checks.length] as Check, dueAt);
    onProgress();
  };
  return simulation.rate > 0
    ? runAtRate(simulation, clients, report, measure)
    : runClosed(simulation, clients, report, measure);
}

type Measure = (client: InferenceClient, i: number, dueAt: number) => Promise<void>;

async function runAtRate(
  { requests, rate }: Simulation,
  clients: readonly InferenceClient[],
  report: Report,
  measure: Measure,
): Promise<void> {
  let inFlight = 0;
  let onEmpty: (() => void) | null = null;
  const settled = (): void => {
    inFlight--;
    if (inFlight === 0) onEmpty?.();
  };
  let fault: unknown = null;
  const send = (i: number, dueAt: number): boolean => {
    const client = nextConnected(clients, i, report);
    if (client === null || fault !== null) return false;
    inFlight++;
    report.noteLateness(performance.now() - dueAt);
    measure(client, i, dueAt)
      .catch((error: unknown) => {
        fault ??= error;
      })
      .finally(settled);
    return true;
  };
  await runOpenLoop({ requests, ratePerSecond: rate, clock: realClock, send });
  if (inFlight > 0)
    await new Promise<void>((resolve) => {
      onEmpty = resolve;
    });
  if (fault !== null) throw fault;
}

/** Clients take turns, except those that have lost their connection; null when all have. */
function nextConnected(clients: readonly InferenceClient[], i: number, report: Report): InferenceClient | null {
  for (let k = 0; k < clients.length; k++) {
    const client = clients[(i + k) % clients.length] as InferenceClient;
    if (!report.hasLostConnection(client)) return client;
  }
  return null;
}

async function runClosed(
  { requests, depth }: Simulation,
  clients: readonly InferenceClient[],
  report: Report,
  measure: Measure,
): Promise<void> {
  let next = 0;
  const lane = async (client: InferenceClient): Promise<void> => {
    while (next < requests && !report.hasLostConnection(client)) await measure(client, next++, performance.now());
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
