// A cluster as operators have it: nodes and aggregators beside one Redis.

import type { Metrics } from '#src/aggregator/metrics.js';
import { root, TestProcess } from './processes.js';
import { RawClient } from './raw-client.js';
import { auditFault, cleanEnv, fetchMetrics, metricsWhen, type ServerOptions, TestServer } from './server.js';

/** The dummy model on two workers; replies of 24 bytes, length field included. */
export function startNode(env: Readonly<Record<string, string>>, options: ServerOptions = {}): TestServer {
  return new TestServer({
    ...options,
    env: { MODEL: 'dummy', RESPONSE_SIZE: '20', WORKERS: '2', ...env },
  });
}

export class TestAggregator extends TestProcess {
  readonly url: string;
  readonly #headers: Readonly<Record<string, string>>;

  private constructor(env: Readonly<Record<string, string>>, port: number, more: readonly string[]) {
    const args = [`${root}bundle/cli.js`, 'aggregator', '--http-port', String(port), ...more];
    super(process.execPath, args, { env: cleanEnv(env) });
    this.url = '';
    this.#headers = env.HTTP_TOKEN === undefined ? {} : { authorization: `Bearer ${env.HTTP_TOKEN}` };
  }

  static async start(
    env: Readonly<Record<string, string>>,
    port = 0,
    more: readonly string[] = [],
  ): Promise<TestAggregator> {
    const aggregator = new TestAggregator(env, port, more);
    const line = await aggregator.line('an aggregator that is ready', (text) => text.includes('"msg":"ready"'));
    const { metrics } = JSON.parse(line) as { metrics: string };
    return Object.assign(aggregator, { url: new URL(metrics).origin });
  }

  override async fault(): Promise<string | null> {
    return this.url === '' ? null : auditFault(this.url, this.#headers);
  }

  metrics(): Promise<Metrics> {
    return fetchMetrics(this.url);
  }

  when(what: string, isThere: (metrics: Metrics) => boolean): Promise<Metrics> {
    return metricsWhen(this.url, what, isThere);
  }
}

/** Sends this many requests on its own connection, and closes it when all are answered. */
export async function ask(node: TestServer, requests: number): Promise<void> {
  const client = await RawClient.connect(await node.port());
  client.send(...Array.from({ length: requests }, () => Buffer.from('x')));
  await client.replied(requests);
  client.end();
  await client.closed;
}
