// The aggregator's HTTP server.

import { type SettingsOf, setting } from '../setting.js';
import { tlsSettings } from './tls.js';

export const http = {
  host: setting({
    doc: 'Address of the aggregator (metrics, WebSocket, Socket.IO). Anything but loopback opens it to the network.',
    format: 'text',
    default: '127.0.0.1',
    env: 'HTTP_HOST',
  }),
  port: setting({ doc: 'Port of the aggregator.', format: 'portNumber', default: 8080, env: 'HTTP_PORT' }),
  token: setting({
    doc: 'What clients of the aggregator must show: `Authorization: Bearer …`; the page asks for it. Probes need none. Empty: all that can reach it may look.',
    format: 'tokenOrEmpty',
    default: '',
    env: 'HTTP_TOKEN',
    sensitive: true,
  }),
  tls: tlsSettings('http.tls', 'aggregator', 'HTTP'),
  corsOrigins: setting({
    doc: 'Origins of other pages that may read the metrics: ["https://ops.example.com"]. Empty: none.',
    format: 'origins',
    default: [],
  }),
  basePath: setting({
    doc: 'Path that a proxy leaves in front of what it passes on, as /ml/. A proxy that takes it away needs nothing here.',
    format: 'basePath',
    default: '/',
  }),
  trustedProxies: setting({
    doc: 'Addresses and CIDR ranges of proxies in front of the aggregator. Of them X-Forwarded-For (limits go by it), X-Forwarded-Host and X-Forwarded-Proto are believed; of nobody else.',
    format: 'addressRanges',
    default: [],
  }),
  maxConnections: setting({
    doc: 'TCP connections to the aggregator at once; one more is closed. Some for each person and scraper that looks.',
    format: 'count',
    default: 1000,
  }),
  maxRequestsPerSecond: setting({
    doc: 'Requests that one client address may make in a second; beyond it they are answered with 429. Many times what a page, a scraper and a script need.',
    format: 'count',
    default: 200,
  }),
  maxLiveClients: setting({
    doc: 'WebSocket and Socket.IO clients of an aggregator at once; one more is refused with 503.',
    format: 'count',
    default: 500,
  }),
  requestTimeoutSeconds: setting({
    doc: 'Time that a client of the aggregator has to send a request, and to send another on the same connection.',
    format: 'positiveSeconds',
    default: 5,
  }),
  pingIntervalSeconds: setting({
    doc: 'How often a WebSocket client is asked whether it is there; one that has not answered by the next time is cut.',
    format: 'positiveSeconds',
    default: 15,
  }),
  keepAliveSeconds: setting({
    doc: 'As server.keepAliveSeconds, for the connections to the aggregator.',
    format: 'keepAlive',
    default: 30,
  }),
};

export type HttpSettings = SettingsOf<typeof http>;
