// Workers come and go, connections stay: a client notices nothing of a reload, of scaling, of evening out.

import { writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses, root } from '../support/processes.js';
import { type ServerOptions, TestServer } from '../support/server.js';
import { until } from '../support/until.js';
import { faultOf, quantile, Witness, type WitnessOptions } from '../support/witness.js';

const folder = temporaryFolder();
let configs = 0;

/** Its config, in a file that a test may change. */
class Config {
  readonly path = `${folder}/config-${++configs}.json`;

  constructor(server: object = {}, more: object = {}) {
    this.write(server, more);
  }

  write(server: object = {}, more: object = {}): void {
    const models = [{ name: 'echo', backend: 'module', path: `${root}test/support/models/echo.mjs` }];
    const settings = { models, server: { model: 'echo', maxConnections: 5000, ...server }, ...more };
    writeFileSync(this.path, JSON.stringify(settings));
  }
}

function startServer({ args = [], ...options }: ServerOptions = {}, config = new Config()): TestServer {
  return new TestServer({ ...options, args: ['--config', config.path, '--workers', '2', ...args] });
}

describe('a rolling reload', () => {
  const witnesses: Witness[] = [];
  function witness(port: number, options: WitnessOptions = {}): Witness {
    const made = new Witness(witnesses.length, port, options);
    witnesses.push(made);
    return made;
  }
  afterEach(async () => {
    for (const one of witnesses.splice(0)) one.destroy();
    await endProcesses();
  });

  async function reload(server: TestServer): Promise<void> {
    const before = server.count('reloaded');
    server.signal('SIGUSR2');
    await until('the reload', () => server.count('reloaded') > before || faultOf(witnesses) !== null, {
      timeoutMs: 30_000,
    });
  }

  it('drops none of 1,000 idle and 200 busy connections in ten times, and no reply', async function () {
    this.timeout(120_000);
    const server = startServer();
    const port = await server.port();
    const idle = Array.from({ length: 1000 }, () => witness(port));
    await until('idle connections', () => idle.every(({ isConnected }) => isConnected));
    await Promise.all(idle.map((one) => one.asked(1)));
    const busy = Array.from({ length: 200 }, () => witness(port, { depth: 8 }));
    await until('busy connections', () => busy.every(({ replied }) => replied > 0));
    for (const one of busy) one.latencies.length = 0;
    for (let i = 0; i < 10; i++) await reload(server);
    expect(faultOf(witnesses), String(faultOf(witnesses))).to.equal(null);
    const p99 = quantile(
      busy.flatMap(({ latencies }) => latencies),
      0.99,
    );
    console.log(
      `      p99 during reloads: ${p99.toFixed(1)} ms of ${busy.reduce((sum, { replied }) => sum + replied, 0)} requests`,
    );
    await Promise.all(busy.map((one) => one.finish()));
    await Promise.all(idle.map((one) => one.asked(1)));
    expect(faultOf(witnesses), String(faultOf(witnesses))).to.equal(null);
    expect(witnesses.reduce((sum, { closes }) => sum + closes, 0)).to.equal(0);
    const requests = witnesses.reduce((sum, { replied }) => sum + replied, 0);
    const metrics = await server.metricsWhen(
      'the totals',
      ({ total_requests, workers }) => total_requests === requests && workers.length === 2,
    );
    expect(metrics).to.include({ connections: 1200, errors: 0, audit_imbalance: 0 });
  });
});
