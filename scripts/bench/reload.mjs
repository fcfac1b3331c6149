// What clients notice of rolling reloads: 1,000 idle connections, and 200 that keep eight requests in flight, on all
// cores.

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { CheckedClient, faultOf, quantile } from '../../build/test/support/checked-client.js';
import { startServer } from './programs.mjs';

const idleConnections = 1000;
const busyConnections = 200;
const reloads = 10;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export async function reload(folder, { seconds }) {
  const path = fileURLToPath(new URL('../../test/support/models/echo.mjs', import.meta.url));
  const models = [{ name: 'echo', backend: 'module', path }];
  const settings = { port: 0, model: 'echo', maxConnections: idleConnections + busyConnections };
  const server = await startServer(folder, { models, server: settings }, 2);
  const cli = fileURLToPath(new URL('../../bundle/cli.js', import.meta.url));
  const reloadOnce = () => promisify(execFile)(process.execPath, [cli, 'reload', '--pid', String(server.child.pid)]);
  const idle = Array.from({ length: idleConnections }, (_, i) => new CheckedClient(i, server.port));
  const busy = Array.from({ length: busyConnections }, (_, i) => new CheckedClient(i, server.port, { depth: 8 }));
  const all = [...idle, ...busy];
  /** p99 and rate while `during` runs. */
  const measure = async (during) => {
    for (const client of busy) client.latencies.length = 0;
    const begin = performance.now();
    await during();
    const latencies = busy.flatMap((client) => client.latencies);
    return { p99Ms: quantile(latencies, 0.99), rps: latencies.length / ((performance.now() - begin) / 1000) };
  };
  await pause(1000);
  const calm = await measure(() => pause(2 * seconds * 1000));
  let reloadMs = 0;
  const reloading = await measure(async () => {
    const begin = performance.now();
    for (let i = 0; i < reloads; i++) await reloadOnce();
    reloadMs = (performance.now() - begin) / reloads;
  });
  await Promise.all(busy.map((client) => client.finish()));
  await Promise.all(idle.map((client) => client.asked(1)));
  const fault = faultOf(all);
  if (fault !== null) throw new Error(`a reload was noticed: ${fault}`);
  for (const client of all) client.destroy();
  await server.stop();
  return {
    calm,
    reloading,
    reloads,
    reloadMs,
    connections: all.length,
    replies: all.reduce((sum, { replied }) => sum + replied, 0),
  };
}
