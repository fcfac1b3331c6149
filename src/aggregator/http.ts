// The aggregator over HTTP: metrics for people, scripts and Prometheus, and the two probes of Kubernetes.

import express, { type Express, type Response } from 'express';
import { contentTypes, formatText, type TextFormat } from '../metrics/exposition.js';
import type { ClusterState } from './cluster-view.js';
import { type HistoryPoint, type HistoryStore, historySeconds } from './history.js';
import { negotiate } from './negotiate.js';
import type { ClusterObserver } from './observer.js';
import { metricFamilies } from './prometheus.js';

export interface HttpOptions {
  readonly observer: ClusterObserver;
  readonly version: string;
  readonly history: HistoryStore;
}

export function createHttpApp({ observer, version, history }: HttpOptions): Express {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  const text = cachedText(observer, version);
  app.get('/metrics', (request, response) => {
    response.setHeader('cache-control', 'no-store');
    response.setHeader('vary', 'accept');
    const form = negotiate(request.headers.accept);
    if (form === 'json') response.type('json').end(observer.json());
    else response.setHeader('content-type', contentTypes[form]).end(text(form));
  });
  let points: readonly HistoryPoint[] = [];
  app.get('/api/history', async (_request, response) => {
    // When it cannot be read, what was read last is better than nothing.
    points = await history.read().catch(() => points);
    response.setHeader('cache-control', 'no-store').json({ step_seconds: 1, seconds: historySeconds, points });
  });
  // Liveness: this process answers. To restart it would not bring back what /readyz misses.
  app.get('/healthz', (_request, response) => {
    response.json({ status: 'ok' });
  });
  app.get('/readyz', (_request, response) => {
    const missing = notReadyReason(observer);
    if (missing === null) response.json({ status: 'ready' });
    else response.status(503).json({ status: 'not ready', reason: missing });
  });
  app.get('/', (_request, response) => {
    response.json({
      name: 'ml-tcp-server',
      version,
      pid: process.pid,
      endpoints: ['/metrics', 'WS /metrics', '/socket.io', '/api/history', '/healthz', '/readyz'],
    });
  });
  app.use((_request, response) => {
    response.status(404).json({ error: 'not found', endpoints: ['/metrics', '/api/history', '/healthz', '/readyz'] });
  });
  app.use((_error: unknown, _request: unknown, response: Response, _next: unknown) => {
    response.status(400).json({ error: 'bad request' });
  });
  return app;
}

/** Made once a look for each form, however many ask; while there is no look, its age grows. */
function cachedText(observer: ClusterObserver, version: string): (form: TextFormat) => string {
  const made = new Map<TextFormat, { state: ClusterState; at: number; text: string }>();
  return (form) => {
    const { state } = observer;
    const now = performance.now();
    const known = made.get(form);
    if (known?.state === state && now - known.at < 1000) return known.text;
    const families = metricFamilies(state, version, observer.ageMs);
    const text = formatText(families, form);
    made.set(form, { state, at: now, text });
    return text;
  };
}

function notReadyReason({ isStale, state }: ClusterObserver): string | null {
  if (isStale) return 'the cluster cannot be read: is Redis there?';
  const isServing = state.metrics.workers.some((worker) => worker.state === 'ready');
  return isServing ? null : 'no worker of the cluster is ready';
}
