// The aggregator over HTTP: metrics for people, scripts and Prometheus, and the two probes of Kubernetes.

import { fileURLToPath } from 'node:url';
import express, { type Express, type Response } from 'express';
import { contentTypes, formatText, type TextFormat } from '../metrics/exposition.js';
import type { ClusterState } from './cluster-view.js';
import type { HistoryStore } from './history.js';
import { type HistoryPoint, historySeconds } from './history-point.js';
import { negotiate } from './negotiate.js';
import type { ClusterObserver } from './observer.js';
import { metricFamilies } from './prometheus.js';

export interface HttpOptions {
  readonly observer: ClusterObserver;
  readonly version: string;
  readonly history: HistoryStore;
}

const endpoints = ['/', '/metrics', 'WS /metrics', '/socket.io', '/api/history', '/healthz', '/readyz'];

/** The live page, as the build leaves it. */
const pageFolder = fileURLToPath(new URL('./page', import.meta.url));

/** Nothing comes from elsewhere, nothing is written into the page, and no other page may show it. */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

function forPage(response: { setHeader(name: string, value: string): unknown }): void {
  response.setHeader('content-security-policy', contentSecurityPolicy);
  response.setHeader('x-content-type-options', 'nosniff');
  response.setHeader('referrer-policy', 'no-referrer');
  response.setHeader('cache-control', 'no-cache'); // it is asked for again, and not sent again when it is the same
}

export function createHttpApp({ observer, version, history }: HttpOptions): Express {
  const app = express();
  app.disable('x-powered-by');
  app.set('etag', false);
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
  app.use(express.static(pageFolder, { setHeaders: forPage }));
  app.use((_request, response) => {
    response.status(404).json({ error: 'not found', version, endpoints });
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
