// Three times the load that a model can serve: how much of its peak remains, how late replies are, and what it costs in
// memory.

import { load, metricsOf, pacedLoad, startServer } from './programs.mjs';

const deadlineMs = 500;

export async function overload(folder, { seconds }) {
  const path = new URL('../../test/support/models/busy.mjs', import.meta.url).pathname;
  // A run of 8 rows takes 4 ms.
  const model = { name: 'busy', backend: 'module', path, settings: { ms: 4 }, maxBatchSize: 8, deadlineMs };
  const server = await startServer(folder, { models: [model], server: { port: 0, model: 'busy' } }, 1);
  const memory = async () => (await metricsOf(server)).workers[0].memory;
  const peak = await load({ port: server.port, connections: 64, depth: 1, payloadBytes: 6, replyBytes: 6, seconds });
  const before = await memory();
  const over = await pacedLoad({
    port: server.port,
    connections: 64,
    rate: 3 * peak.rps,
    payloadBytes: 6,
    seconds: 3 * seconds,
  });
  const after = await memory();
  await server.stop();
  return {
    peakRps: peak.rps,
    offeredRps: over.sentPerSecond,
    servedRps: over.servedPerSecond,
    p99Ms: over.p99Ms,
    deadlineMs,
    memoryGrowthMb: (after - before) / 1e6,
  };
}
