// A client that sends one request at a time, beside one connection that keeps a thousand in flight: what it waits, in
// runs of a full batch. On a model whose runs are quick, and on one whose runs are slow.

import { load, startServer } from './programs.mjs';

const models = [
  { name: '2 ms a run', ms: 2, maxBatchSize: 32 },
  { name: '20 ms a run', ms: 20, maxBatchSize: 32 },
];

export async function fairness(folder, { seconds }) {
  const path = new URL('../../test/support/models/busy.mjs', import.meta.url).pathname;
  const rows = [];
  for (const { name, ms, maxBatchSize } of models) {
    const model = { name: 'busy', backend: 'module', path, settings: { ms }, execution: 'thread', maxBatchSize };
    const server = await startServer(folder, { models: [model], server: { port: 0, model: 'busy' } }, 1);
    const light = { port: server.port, connections: 1, depth: 1, payloadBytes: 6, replyBytes: 6 };
    const alone = await load({ ...light, seconds });
    const greedy = load({ ...light, depth: 1000, seconds: 3 * seconds + 1 });
    const beside = await load({ ...light, seconds: 2 * seconds });
    await greedy;
    await server.stop();
    rows.push({ name, ms, alone, beside });
  }
  return rows;
}
