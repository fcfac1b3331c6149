// What the embedded aggregator shows of a real server.

import { once } from 'node:events';
import { expect } from 'chai';
import { io } from 'socket.io-client';
import WebSocket from 'ws';
import type { Metrics } from '#src/aggregator/metrics.js';
import { endProcesses } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { TestServer } from '../support/server.js';
import { within } from '../support/until.js';

describe('monitoring', () => {
  let server: TestServer;
  let url: string;
  let client: RawClient;
  before(async () => {
    server = new TestServer({ env: { MODEL: 'dummy', WORKERS: '2', NODE_NAME: 'm1' } });
    url = await server.url();
    client = await RawClient.connect(await server.port());
    client.send(...Array.from({ length: 50 }, () => Buffer.from('x')));
    await client.replied(50);
    await server.metricsWhen('50 requests', ({ total_requests, workers }) => {
      return total_requests === 50 && workers.length === 2;
    });
  });
  after(endProcesses);

  it('shows the cluster as JSON', async () => {
    const response = await fetch(`${url}/metrics`);
    expect(response.headers.get('content-type')).to.include('application/json');
    expect(response.headers.get('cache-control')).to.equal('no-store');
    const metrics = (await response.json()) as Metrics;
    expect(metrics).to.include({ connections: 1, total_requests: 50, errors: 0, in_flight: 0, audit_imbalance: 0 });
    expect(metrics.latency_ms.p50).to.be.above(0);
    expect(metrics.latency_ms.p99 ?? 0).to.be.at.least(metrics.latency_ms.p50 ?? 0);
    expect(metrics.workers).to.have.lengthOf(2);
    for (const worker of metrics.workers) {
      expect(worker).to.include({ node: 'm1', state: 'ready' });
      expect(worker.memory).to.be.above(1e7);
      expect(worker.event_loop_utilization).to.be.within(0, 1);
    }
    expect(metrics.nodes[0]).to.include({
      node: 'm1',
      state: 'up',
      workers: 2,
      workers_wanted: 2,
      restarts: 0,
      pid: server.pid,
    });
    expect(metrics.models[0]).to.include({ name: 'dummy', requests: 50, answered: 50 });
  });

  it('shows the same to Prometheus, as text and as OpenMetrics', async () => {
    for (const [accept, type] of [
      ['text/plain', 'text/plain; version=0.0.4; charset=utf-8'],
      [
        'application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5',
        'application/openmetrics-text; version=1.0.0; charset=utf-8',
      ],
    ] as const) {
      const response = await fetch(`${url}/metrics`, { headers: { accept } });
      expect(response.headers.get('content-type')).to.equal(type);
      expect(await response.text()).to.include('mltcp_requests_answered_total{model="dummy"} 50\n');
    }
  });

  it('streams the JSON over WebSocket every interval', async () => {
    const ws = new WebSocket(`${url.replace('http', 'ws')}/metrics`);
    const received: Metrics[] = [];
    ws.on('message', (data) => received.push(JSON.parse(String(data)) as Metrics));
    while (received.length < 4) await once(ws, 'message', { signal: AbortSignal.timeout(5000) });
    expect(received[0]?.total_requests).to.equal(50);
    const uptimes = received.map(({ uptime }) => uptime);
    expect(uptimes.at(-1)).to.be.above(uptimes[0] as number);
    ws.close();
    await once(ws, 'close');
  });

  it('emits the same to Socket.IO clients as `metrics`', async () => {
    const socket = io(url, { transports: ['websocket'], reconnection: false });
    const received: Metrics[] = [];
    await within(
      5000,
      'three metrics events',
      new Promise<void>((resolve) => {
        socket.on('metrics', (metrics: Metrics) => {
          if (received.push(metrics) === 3) resolve();
        });
      }),
    );
    expect(received[2]).to.include({ total_requests: 50, connections: 1 });
    socket.disconnect();
  });

  it('answers the probes of Kubernetes, and 404 with what there is', async () => {
    expect((await fetch(`${url}/healthz`)).status).to.equal(200);
    expect((await fetch(`${url}/readyz`)).status).to.equal(200);
    const missing = await fetch(`${url}/nothing`);
    expect(missing.status).to.equal(404);
    expect(await missing.json())
      .to.have.property('endpoints')
      .that.includes('/metrics');
  });

  it('drops upgrades that nobody serves', async () => {
    const ws = new WebSocket(`${url.replace('http', 'ws')}/elsewhere`);
    const [error] = (await once(ws, 'error')) as [Error];
    expect(error.message).to.match(/socket hang up|ECONNRESET/);
  });
});
