// An aggregator: shows what all workers of all machines have published. Any number may run; inference depends on none of
// them.

import type { AddressInfo } from 'node:net';
import { runningVersion } from '../code.js';
import type { AggregatorConfig } from '../config/slices.js';
import type { RecordSource } from '../metrics/transport/transport.js';
import { usesTls } from '../net/certificates.js';
import type { Exporting } from '../otlp.js';
import type { Log } from '../process/log.js';
import { Guard } from './guard.js';
import { MemoryHistory } from './history.js';
import { historyPoint } from './history-point.js';
import { createHttpApp } from './http.js';
import type { Election } from './leader-election.js';
import { type HttpListener, openListener, takeAwayPath } from './listener.js';
import { LiveFeeds } from './live.js';
import { ClusterObserver } from './observer.js';
import { normalOrigin } from './origin.js';
import { metricFamilies } from './prometheus.js';
import type { Refusals } from './refusals.js';

export interface Aggregator {
  /** http://host:port, as it is bound. */
  readonly url: string;
  /** Sends the last state to live clients and closes everything that was opened, in reverse order. */
  close(): Promise<void>;
}

/**
 * Throws OperatorError LISTEN_FAILED, CONFIG_INVALID. Closes `source` in the end, and when it throws.
 * @param election the aggregators that share a Redis with this one; null when it is alone
 */
export async function openAggregator(
  config: AggregatorConfig,
  source: RecordSource,
  election: Election | null,
  log: Log,
): Promise<Aggregator> {
  const { publishIntervalMs, streamIntervalMs } = config.metrics;
  const { http } = config;
  const corsOrigins = http.corsOrigins.flatMap((origin) => normalOrigin(origin) ?? []);
  const isSecure = usesTls(http.tls);
  const observer = new ClusterObserver(source, publishIntervalMs);
  const history = election?.history ?? new MemoryHistory();
  const guard = new Guard({ ...http, isSecure });
  const app = createHttpApp({
    observer,
    version: runningVersion,
    history,
    guard,
    corsOrigins,
    redisFailures: election?.redisFailures ?? {},
  });
  let listener: HttpListener;
  try {
    listener = await openListener(http, app, guard.refusals, log);
  } catch (error) {
    observer.close();
    await source.close();
    throw error;
  }
  await observer.poll();
  const { server } = listener;
  const live = new LiveFeeds({
    server,
    observer,
    streamIntervalMs,
    publishIntervalMs,
    election,
    guard,
    corsOrigins,
    maxClients: http.maxLiveClients,
    pingIntervalMs: http.pingIntervalSeconds * 1000,
  });
  takeAwayPath(server, http.basePath); // before the live feeds see a request
  const everySecond = setInterval(async () => {
    if (observer.isStale || election?.isLeader === false) return;
    // What fails now is tried again a second later.
    const { metrics, now } = observer.state;
    await history.append(historyPoint(metrics, now)).catch(() => {});
    await election?.compactRecords(observer).catch(() => {});
  }, 1000);
  const exporting = await startExport(config, observer, election, guard.refusals, log);
  const { port } = server.address() as AddressInfo;
  const host = http.host.includes(':') ? `[${http.host}]` : http.host;
  return {
    url: `${isSecure ? 'https' : 'http'}://${host}:${port}`,
    close: async () => {
      clearInterval(everySecond);
      await observer.poll();
      await live.close();
      await exporting?.close();
      listener.close();
      observer.close();
      await source.close();
    },
  };
}

/** Metrics to an OpenTelemetry collector, from the aggregator that leads; null, and nothing loaded, without one. */
async function startExport(
  { otlp, cluster }: AggregatorConfig,
  observer: ClusterObserver,
  election: Election | null,
  refusals: Refusals,
  log: Log,
): Promise<Exporting | null> {
  if (otlp.endpoint === '') return null;
  const { exportMetrics } = await import('../otlp.js');
  const look = () => {
    if (observer.isStale || election?.isLeader === false) return null;
    const { state } = observer;
    const families = metricFamilies(state, runningVersion, observer.ageMs, refusals, election?.redisFailures);
    return { families, since: Date.parse(state.metrics.initial_time), at: state.now };
  };
  const sender = { instance: `aggregator ${process.pid}`, version: runningVersion, cluster: cluster.name };
  return exportMetrics(otlp, sender, look, (reason) => {
    log.warn({ endpoint: otlp.endpoint, reason }, 'metrics do not reach the OpenTelemetry collector');
  });
}
