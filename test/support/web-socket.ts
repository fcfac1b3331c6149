import WebSocket from 'ws';
import type { Metrics } from '#src/aggregator/metrics.js';

/** The first update over WebSocket, or the HTTP status of its refusal. @param url of the feed, as http: or https: */
export function overWebSocket(url: string, headers: Readonly<Record<string, string>> = {}): Promise<number | Metrics> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url.replace(/^http/, 'ws'), { headers });
    socket.once('unexpected-response', (_request, response) => {
      resolve(response.statusCode ?? 0);
      response.destroy();
    });
    socket.once('message', (data) => {
      resolve(JSON.parse(String(data)) as Metrics);
      socket.terminate();
    });
    socket.once('error', reject);
  });
}
