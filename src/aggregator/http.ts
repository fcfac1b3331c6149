// The aggregator over HTTP: metrics for people, scripts and Prometheus, and the two probes of Kubernetes.

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import cors from 'cors';
import express, { type Express, type NextFunction, type Request, type Response } from 'express';
import { contentTypes, formatText, type TextFormat } from '../metrics/exposition.js';
import type { ClusterState } from './cluster-view.js';
import { type Guard, maxBodyBytes, type Refusal } from './guard.js';
import type { HistoryStore } from './history.js';
import { type HistoryPoint, historySeconds } from './history-point.js';
import { negotiate } from './negotiate.js';
import type { ClusterObserver } from './observer.js';
import { metricFamilies } from './prometheus.js';
import type { Refusals } from './refusals.js';
import { servedModels } from './served-models.js';

export interface HttpOptions {
  readonly observer: ClusterObserver;
  readonly version: string;
  readonly history: HistoryStore;
  readonly guard: Guard;
  readonly corsOrigins: readonly string[];
  readonly redisFailures: Readonly<Record<string, number>>;
}

const endpoints = [
  '/',
  '/metrics',
  'WS /metrics',
  '/socket.io',
  '/api/history',
  '/api/models',
  '/api/rejections',
  '/healthz',
  '/readyz',
];

/** The live page, as it was built. */
const pageFolder = fileURLToPath(new URL('./page', import.meta.url));

/** The files of the page that asks for the token: they are public. */
const loginFiles = ['/page.css', '/icon.svg'];

/**
 * A page that was requested as /ml would look for its files beside /ml, not below it. It requests this script as
 * `?slash.js`: a reference that consists of a query keeps the path of the page, whatever it is.
 */
const slashQuery = '/?slash.js';

export function createHttpApp(options: HttpOptions): Express {
  const { observer, version, history, guard, corsOrigins, redisFailures } = options;
  const app = express();
  app.disable('x-powered-by');
  app.set('etag', false);
  app.use(guard.headers);
  app.use(async (request, response, next) => {
    const refusal = await guard.checkRequest(request);
    if (refusal === null) next();
    else refuse(response, refusal);
  });
  answerProbes(app, observer);
  if (corsOrigins.length > 0) app.use(cors({ origin: [...corsOrigins], methods: ['GET'] }));
  app.post('/login', express.urlencoded({ extended: false, limit: maxBodyBytes }), (request, response) => {
    const { token } = (request.body ?? {}) as { token?: unknown };
    const cookie = typeof token === 'string' ? guard.cookieFor(token, request) : null;
    if (cookie !== null) response.setHeader('set-cookie', cookie);
    response.redirect(303, cookie === null ? './#wrong' : './'); // relative to /login, whatever path a proxy has put before it
  });
  app.get('/', (request, response, next) => {
    if (request.url !== slashQuery) next();
    else response.setHeader('cache-control', 'no-cache').sendFile(join(pageFolder, 'slash.js'));
  });
  app.use((request, response, next) => letIn(guard, request, response, next));
  const text = cachedText(observer, version, guard.refusals, redisFailures);
  app.get('/metrics', (request, response) => {
    response.setHeader('cache-control', 'no-store');
    response.setHeader('vary', 'accept');
    const form = negotiate(request.headers.accept);
    if (form === 'json') response.type('json').end(observer.json());
    else response.setHeader('content-type', contentTypes[form]).end(text(form));
  });
  const models = cachedJson(observer, ({ state }) => servedModels(state.publishing));
  const rejections = cachedJson(observer, (seen) => ({ rejections: seen.rejections }));
  let points: readonly HistoryPoint[] = [];
  app.get('/api/history', async (_request, response) => {
    // When the records cannot be read, the last snapshot is better than nothing.
    points = await history.read().catch(() => points);
    response.setHeader('cache-control', 'no-store').json({ step_seconds: 1, seconds: historySeconds, points });
  });
  app.get('/api/models', (_request, response) => {
    response.setHeader('cache-control', 'no-store').type('json').end(models());
  });
  app.get('/api/rejections', (_request, response) => {
    response.setHeader('cache-control', 'no-store').type('json').end(rejections());
  });
  // Browsers revalidate what they have; what has not changed is not sent again.
  app.use(express.static(pageFolder, { setHeaders: (response) => response.setHeader('cache-control', 'no-cache') }));
  app.use((_request, response) => {
    response.status(404).json({ error: 'not found', version, endpoints });
  });
  app.use((_error: unknown, _request: unknown, response: Response, _next: unknown) => {
    response.status(400).json({ error: 'bad request' });
  });
  return app;
}

/** Without the token, a person gets a page that asks for it, and a program gets an error. */
function letIn(guard: Guard, request: Request, response: Response, next: NextFunction): void {
  const refusal = guard.checkToken(request);
  if (refusal === null || loginFiles.includes(request.path)) next();
  else if (request.path === '/' && request.accepts(['json', 'html']) === 'html') {
    response.setHeader('cache-control', 'no-store').status(401).sendFile(join(pageFolder, 'login.html'));
  } else refuse(response, refusal);
}

function refuse(response: Response, { status, reason, message, headers }: Refusal): void {
  if (status === 413) response.setHeader('connection', 'close'); // the rest of the request is not read
  response.status(status).set(headers).json({ error: message, reason });
}

function answerProbes(app: Express, observer: ClusterObserver): void {
  // Liveness: this process answers. A restart would not bring back what /readyz misses.
  app.get('/healthz', (_request, response) => {
    response.json({ status: 'ok' });
  });
  app.get('/readyz', (_request, response) => {
    const missing = notReadyReason(observer);
    if (missing === null) response.json({ status: 'ready' });
    else response.status(503).json({ status: 'not ready', reason: missing });
  });
}

/** Made once a poll for each format, however many ask; while no poll succeeds, its age grows. */
function cachedText(
  observer: ClusterObserver,
  version: string,
  refusals: Refusals,
  redisFailures: HttpOptions['redisFailures'],
): (form: TextFormat) => string {
  const made = new Map<TextFormat, { state: ClusterState; at: number; text: string }>();
  return (form) => {
    const { state } = observer;
    const now = performance.now();
    const known = made.get(form);
    if (known?.state === state && now - known.at < 1000) return known.text;
    const families = metricFamilies(state, version, observer.ageMs, refusals, redisFailures);
    const text = formatText(families, form);
    made.set(form, { state, at: now, text });
    return text;
  };
}

/** Made once a poll, however many ask. */
function cachedJson(observer: ClusterObserver, make: (observer: ClusterObserver) => object): () => string {
  let made: { readonly state: ClusterState; readonly json: string } | null = null;
  return () => {
    const { state } = observer;
    const { age_ms, stale } = observer.metrics();
    if (made?.state !== state) made = { state, json: JSON.stringify(make(observer)) };
    return `{"age_ms":${age_ms},"stale":${stale},${made.json.slice(1)}`;
  };
}

function notReadyReason({ isStale, failure, state }: ClusterObserver): string | null {
  if (isStale) return `the cluster cannot be read: ${failure || 'no answer yet'}`;
  const isServing = state.metrics.workers.some((worker) => worker.state === 'ready');
  return isServing ? null : 'no worker of the cluster is ready';
}
