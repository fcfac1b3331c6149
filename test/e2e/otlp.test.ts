// OpenTelemetry: what a collector receives, and that nothing is sent or loaded where none is configured.

import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import { startNode, TestAggregator } from '../support/cluster.js';
import { endProcesses, root } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { RedisServer } from '../support/redis-server.js';
import { until } from '../support/until.js';

interface Attribute {
  readonly key: string;
  readonly value: { readonly stringValue?: string; readonly intValue?: number; readonly doubleValue?: number };
}

interface Metric {
  readonly name: string;
  readonly unit: string;
  readonly sum?: { readonly isMonotonic: boolean; readonly dataPoints: readonly { readonly asDouble: number }[] };
  readonly gauge?: { readonly dataPoints: readonly { readonly asDouble: number }[] };
  readonly histogram?: {
    readonly dataPoints: readonly {
      readonly count: number;
      readonly bucketCounts: readonly number[];
      readonly explicitBounds: readonly number[];
    }[];
  };
}

interface Span {
  readonly name: string;
  readonly attributes: readonly Attribute[];
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly status: { readonly code: number };
}

interface Resource {
  readonly resource: { readonly attributes: readonly Attribute[] };
}

/** An OTLP/HTTP endpoint that keeps what it receives. */
class Collector {
  readonly metrics: (Resource & { scopeMetrics: { metrics: Metric[] }[] })[] = [];
  readonly traces: (Resource & { scopeSpans: { spans: Span[] }[] })[] = [];
  requests = 0;
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      let body = '';
      this.requests++;
      request.setEncoding('utf8').on('data', (chunk) => {
        body += chunk;
      });
      request.on('end', () => {
        const { resourceMetrics = [], resourceSpans = [] } = JSON.parse(body);
        this.metrics.push(...resourceMetrics);
        this.traces.push(...resourceSpans);
        response.setHeader('content-type', 'application/json').end('{}');
      });
    });
  }

  static async start(): Promise<Collector> {
    const collector = new Collector();
    await new Promise<void>((resolve) => collector.#server.listen(0, '127.0.0.1', resolve));
    return collector;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get spans(): readonly Span[] {
    return this.traces.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));
  }

  /** The newest metric of this name. */
  metric(name: string): Metric | undefined {
    return this.metrics
      .at(-1)
      ?.scopeMetrics.flatMap(({ metrics }) => metrics)
      .find((metric) => metric.name === name);
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

const attribute = ({ attributes }: { readonly attributes: readonly Attribute[] }, key: string): unknown =>
  Object.values(attributes.find((other) => other.key === key)?.value ?? {})[0];

describe('OpenTelemetry', () => {
  let collector: Collector;
  beforeEach(async () => {
    collector = await Collector.start();
  });
  afterEach(async () => {
    await endProcesses();
    collector.close();
  });

  const every = ['--set', 'otlp.intervalMs=200'];

  async function ask(port: number, requests: number): Promise<void> {
    const client = await RawClient.connect(port);
    client.send(...Array.from({ length: requests }, () => Buffer.from('x')));
    await client.replied(requests);
    client.end();
    await client.closed;
  }

  it('gets all metrics, and a span for every batch', async () => {
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, NODE_NAME: 'n1', CLUSTER_NAME: 'c1' };
    const server = startNode(env, { args: every });
    await ask(await server.port(), 100);
    const answered = () => collector.metric('mltcp_requests_answered_total')?.sum;
    await until('the total', () => answered()?.dataPoints[0]?.asDouble === 100);
    expect(answered()?.isMonotonic).to.equal(true);
    const latency = collector.metric('mltcp_request_duration_seconds');
    expect(latency?.unit).to.equal('s');
    const [point] = latency?.histogram?.dataPoints ?? [];
    expect(point?.count).to.equal(100);
    expect(point?.bucketCounts.reduce((sum, count) => sum + count, 0)).to.equal(100);
    expect(point?.bucketCounts.length).to.equal((point?.explicitBounds.length ?? 0) + 1);
    expect(collector.metric('mltcp_workers')?.gauge?.dataPoints[0]?.asDouble).to.equal(2);
    const text = await (await fetch(`${await server.url()}/metrics`, { headers: { accept: 'text/plain' } })).text();
    for (const [, name] of text.matchAll(/^# TYPE (\S+) /gm))
      expect(collector.metric(name as string), name).not.to.equal(undefined);

    const rows = () => collector.spans.reduce((sum, span) => sum + Number(attribute(span, 'rows')), 0);
    await until('spans of all batches', () => rows() === 100);
    const [span] = collector.spans as readonly [Span];
    expect(span.name).to.equal('inference batch');
    expect(attribute(span, 'model')).to.equal('dummy');
    expect(['turn', 'full']).to.include(attribute(span, 'closed_by'));
    expect(Number(BigInt(span.startTimeUnixNano) / 1_000_000n)).to.be.closeTo(Date.now(), 20_000);
    expect(BigInt(span.endTimeUnixNano) >= BigInt(span.startTimeUnixNano)).to.equal(true);
    const { resource } = collector.traces[0] as Resource;
    expect(attribute(resource, 'service.name')).to.equal('ml-tcp-server');
    expect(attribute(resource, 'service.namespace')).to.equal('c1');
    expect(attribute(resource, 'service.instance.id')).to.match(/^n1\/[01]$/);
  });

  it('gets the last metrics of a server that stops', async () => {
    const args = ['--set', 'otlp.intervalMs=60000'];
    const server = startNode({ OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }, { args });
    await ask(await server.port(), 10);
    server.signal('SIGTERM');
    expect(await server.ended()).to.deep.equal({ code: 0, signal: null });
    expect(collector.metric('mltcp_requests_answered_total')?.sum?.dataPoints[0]?.asDouble).to.equal(10);
    expect(collector.spans.length).to.be.above(0);
  });

  it('gets the metrics of a cluster from one of its aggregators', async () => {
    const redis = await RedisServer.start();
    const env = { REDIS_URL: redis.url, OTEL_EXPORTER_OTLP_ENDPOINT: collector.url };
    const node = startNode({ REDIS_URL: redis.url });
    await node.event('ready');
    const aggregators = await Promise.all([1, 2].map(() => TestAggregator.start(env, 0, every)));
    await until('metrics', () => collector.metrics.length >= 5);
    const senders = () => new Set(collector.metrics.map(({ resource }) => attribute(resource, 'service.instance.id')));
    expect(senders().size).to.equal(1);
    expect(aggregators.map(({ pid }) => `aggregator ${pid}`)).to.include([...senders()][0]);
  });

  it('harms nothing while the collector is away; the log says so once', async () => {
    const url = collector.url;
    collector.close();
    // How long the exporter retries before it gives up.
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_EXPORTER_OTLP_TIMEOUT: '1000' };
    const server = startNode(env, { args: every });
    await ask(await server.port(), 10);
    const line = await server.event('metrics do not reach the OpenTelemetry collector');
    expect(line.role).to.equal('aggregator');
    await server.metricsWhen('all requests', ({ total_requests }) => total_requests === 10);
  });

  it('gets nothing where no endpoint is configured, and its packages are not loaded', async () => {
    const server = startNode({});
    await ask(await server.port(), 10);
    await server.metricsWhen('all requests', ({ total_requests }) => total_requests === 10);
    expect(collector.requests).to.equal(0);
    // Loaded by import(), which runs only with an endpoint; nothing imports it for good.
    const files = readdirSync(`${root}dist`, { recursive: true, encoding: 'utf8' }).filter(
      (file) => file.endsWith('.js') && !file.startsWith('config/'), // config/schema/otlp.js has its settings
    );
    const sources = files.map((file) => readFileSync(`${root}dist/${file}`, 'utf8'));
    expect(sources.filter((source) => /from '[./]+otlp\.js'/.test(source))).to.deep.equal([]);
    expect(sources.filter((source) => source.includes("import('../otlp.js')"))).to.have.lengthOf(2);
    for (const program of ['worker/main.js', 'aggregator/embedded.js'])
      expect(readFileSync(`${root}bundle/${program}`, 'utf8'))
        .to.include('-otlp-')
        .and.not.include('@opentelemetry');
  });
});
