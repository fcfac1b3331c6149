// Bytes for the HTTP port of an aggregator: every connection ends, nothing throws, and a probe is always answered.

import { once } from 'node:events';
import { connect } from 'node:net';
import { openAggregator } from '../../dist/aggregator/aggregator.js';
import { loadConfig } from '../../dist/config/load.js';
import { IpcSource } from '../../dist/metrics/transport/ipc.js';
import { createLog } from '../../dist/process/log.js';

const set = {
  'http.port': '0',
  'http.token': 'fuzz',
  'http.requestTimeoutSeconds': '0.2',
  'http.maxRequestsPerSecond': '1000000',
  'log.level': 'silent',
};
const { config } = loadConfig({ env: {}, flags: set, workingDirectory: process.cwd() });
const log = createLog(config.log, { role: 'aggregator', node: 'fuzz' });
const opened = openAggregator(config, new IpcSource(), null, log);
let runs = 0;

export async function fuzz(data) {
  const { url } = await opened;
  const { port } = new URL(url);
  const socket = connect(Number(port), '127.0.0.1')
    .on('error', () => {})
    .resume();
  const closed = once(socket, 'close', { signal: AbortSignal.timeout(5000) });
  socket.end(data);
  await closed;
  if (++runs % 50 === 0 && (await fetch(`${url}/healthz`)).status !== 200) throw new Error('it answers no probe');
}

export const covers = (url) => url.startsWith('file:') && !url.includes('/scripts/');
const request = (line, ...headers) => Buffer.from([line, 'host: x', ...headers, '', ''].join('\r\n'));
const upgrade = ['connection: upgrade', 'upgrade: websocket', 'sec-websocket-version: 13'];
const webSocket = [...upgrade, 'sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA=='];
const token = 'authorization: Bearer fuzz';
export const seeds = [
  request('GET /metrics HTTP/1.1', token, 'accept: text/plain'),
  request('GET /api/history HTTP/1.1', token),
  request('GET /metrics HTTP/1.1', token, ...webSocket),
  request('GET // HTTP/1.1', token, ...webSocket),
  request('GET /socket.io/?EIO=4&transport=polling HTTP/1.1', token),
  request('GET /socket.io/?EIO=4&transport=websocket HTTP/1.1', token, ...webSocket),
  Buffer.concat([
    request('POST /login HTTP/1.1', 'content-type: application/x-www-form-urlencoded', 'content-length: 10'),
    Buffer.from('token=fuzz'),
  ]),
];
export const words = [
  'GET ',
  'POST ',
  'OPTIONS ',
  ' HTTP/1.1\r\n',
  ' HTTP/1.0\r\n',
  '/metrics',
  '/login',
  '/socket.io/',
  '/healthz',
  '?EIO=4&transport=polling',
  '&sid=',
  '\r\n',
  '\r\n\r\n',
  'content-length: ',
  'transfer-encoding: chunked\r\n',
  'cookie: mltcp_token=',
  'origin: http://x\r\n',
  'origin: null\r\n',
  'accept: application/openmetrics-text\r\n',
  'expect: 100-continue\r\n',
  'connection: close\r\n',
  'sec-websocket-extensions: permessage-deflate\r\n',
  '%00',
  '../',
];
