// Serves models as a user does, and asks for the same requests in every way that clients have: one after another, all in
// one write, and over four connections at once. What comes back is compared with the answers to each request alone.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Metrics, ModelMetrics } from '#src/aggregator/metrics.js';
import { temporaryFolder } from '../folder.js';
import { RawClient } from '../raw-client.js';
import { type LogLine, TestServer } from '../server.js';
import { until } from '../until.js';
import type { Answer } from './alone.js';
import { type Difference, differenceOf, type Tolerance } from './compare.js';
import { bytesOf, randomFrom, type Tensors } from './tensors.js';

/** A model, and what it must answer. */
export interface Served {
  readonly name: string;
  readonly file: string;
  /** What its entry in config has besides name and path. */
  readonly config: Readonly<Record<string, unknown>>;
  /** The names of its inputs in the order of the model. */
  readonly inputs: readonly string[];
  readonly requests: readonly Tensors[];
  /** For each request: the outputs that a reply holds. */
  readonly answers: readonly Answer[];
  readonly tolerance: Tolerance;
  /** What a server of this model alone may cost at the most. */
  readonly limits?: Cost;
}

/** The name of a model in config, which has no spaces. */
export const labelOf = (name: string): string => name.replace(/[^\w.-]+/g, '-').slice(0, 64);

/** What a server costs before it answers, and while it does. */
export interface Cost {
  /** Processor time of its worker until it was ready: other programs want the cores too. */
  readonly startMs: number;
  /** Resident memory of its worker. */
  readonly memoryMb: number;
}

/** A server with a listener for each model. */
export class MatrixServer extends TestServer {
  constructor(
    models: readonly Pick<Served, 'name' | 'file' | 'config'>[],
    env: Readonly<Record<string, string>> = {},
    from?: string,
  ) {
    const file = join(temporaryFolder(), 'config.json');
    const entries = models.map(({ name, file: path, config }) => ({
      name: labelOf(name),
      path,
      deadlineMs: 0,
      ...config,
    }));
    const listeners = models.map(({ name }) => ({ host: '127.0.0.1', port: 0, model: labelOf(name) }));
    const server = { maxPayloadSizeKb: 32_768, maxBufferedMb: 1024, maxWriteBufferKb: 65_536 };
    writeFileSync(file, JSON.stringify({ models: entries, listeners, server }));
    super({
      args: ['--config', file],
      env: { WORKERS: '1', ...env },
      hasListeners: true,
      ...(from === undefined ? {} : { from }),
    });
  }

  /** Whether it starts; a machine may need minutes for many models. */
  async isReady(): Promise<boolean> {
    const isReady = (): boolean => this.count('ready') > 0;
    await Promise.race([this.exited, until('the server', isReady, { timeoutMs: 300_000 })]);
    return isReady();
  }

  /** What it has cost up to now. */
  async cost(): Promise<Cost> {
    await this.metricsWhen('its worker', ({ workers }) => workers.length > 0);
    const text = await this.prometheus();
    const gauge = (name: string): number => Number(new RegExp(`^${name}\\{.*\\} (\\S+)$`, 'm').exec(text)?.[1]);
    return {
      startMs: 1000 * gauge('mltcp_worker_cpu_seconds_total'),
      memoryMb: gauge('mltcp_worker_resident_memory_bytes') / 2 ** 20,
    };
  }

  /** The metrics of a model, once it has counted this many requests. */
  async modelAfter(model: string, requests: number): Promise<ModelMetrics> {
    const find = ({ models }: Metrics) => models.find(({ name }) => name === labelOf(model));
    const areCounted = (all: Metrics): boolean => (find(all)?.requests ?? 0) >= requests;
    return find(await this.metricsWhen(`${requests} requests to ${model}`, areCounted)) as ModelMetrics;
  }

  async connect(model: string): Promise<RawClient> {
    const { tcp } = (await this.event('ready')) as LogLine & { tcp: readonly string[] };
    const line = tcp.find((text) => text.endsWith(`→ ${labelOf(model)}`));
    return RawClient.connect(Number(/:(\d+) /.exec(line ?? '')?.[1]));
  }
}

/** The bytes of a request on the raw protocol: its inputs one after another, without those that config gives. */
export function payloadOf(request: Tensors, { inputs, config }: Pick<Served, 'inputs' | 'config'>): Buffer {
  const constants = (config.constants ?? {}) as Readonly<Record<string, unknown>>;
  const asked = inputs.filter((name) => !Object.hasOwn(constants, name));
  return Buffer.concat(
    asked.map((name) => {
      const input = request[name];
      if (input === undefined) throw new Error(`the request has no ${name}`);
      return bytesOf(input);
    }),
  );
}

export interface Outcome {
  readonly replies: number;
  /** The largest share by which a number differed: 0 when no bit did. */
  readonly most: number;
  /** What was wrong, the first few: how it was sent, which request, and why. */
  readonly faults: readonly string[];
}

const patienceMs = 60_000;
const mostFaults = 5;

/** Asks a model of a server that runs in every way, and compares each reply. */
export async function ask(server: MatrixServer, model: Served): Promise<Outcome> {
  const payloads = model.requests.map((request) => payloadOf(request, model));
  const faults: string[] = [];
  let replies = 0;
  let most = 0;
  const judge = (how: string, request: number, reply: Buffer): void => {
    const difference: Difference = differenceOf(reply, model.answers[request] as Answer, model.tolerance);
    replies++;
    if (typeof difference === 'number') most = Math.max(most, difference);
    else if (faults.length < mostFaults) faults.push(`${how}, request ${request}: ${difference}`);
  };
  const send = async (client: RawClient, how: string, order: readonly number[]): Promise<void> => {
    const before = client.replies.length;
    client.send(...order.map((request) => payloads[request] as Buffer));
    const all = () => client.replies.length >= before + order.length;
    await until(`${order.length} replies of ${model.name} (${how})`, all, { timeoutMs: patienceMs, intervalMs: 1 });
    for (const [i, request] of order.entries()) judge(how, request, client.replies[before + i] as Buffer);
  };
  const random = randomFrom(payloads.length);
  const shuffled = (times: number): readonly number[] =>
    Array.from({ length: times }, () => payloads.map((_, i) => ({ i, at: random() })).sort((a, b) => a.at - b.at))
      .flat()
      .map(({ i }) => i);

  const clients = await Promise.all(Array.from({ length: 4 }, () => server.connect(model.name)));
  const [first] = clients as [RawClient];
  for (const i of payloads.keys()) await send(first, 'one by one', [i]);
  await send(first, 'pipelined', shuffled(Math.max(1, Math.ceil(12 / payloads.length))));
  await Promise.all(clients.map((client) => send(client, 'over four connections', shuffled(1))));
  for (const client of clients) client.end();
  return { replies, most, faults };
}
