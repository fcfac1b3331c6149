// How much of ONNX Runtime's own speed heavy models keep when they are served: the same batches in bare threads, which
// receive and send nothing, take turns with the server. Clients run on the same cores, and take their share.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { nets } from './nets.mjs';
import { bareThreads, load, pacedLoad, startServer } from './programs.mjs';
import { median } from './throughput.mjs';

const workers = 2;
const shapes = [1, 8, 32];
/** Connections of the client that sends at half of what was served to as many. */
const pacedConnections = 8;

/** @param client the client in C, or null: then one in Node, which takes a larger share of the cores */
export async function heavy(folder, client, { rounds, seconds }) {
  const loadOf = client === null ? load : client.loadSizes;
  const rows = [];
  for (const net of nets) {
    const { name, dtype, rowShape, inputBytes: payloadBytes, replyBytes } = net;
    const model = join(folder, `${name.replaceAll(' ', '-')}.onnx`);
    writeFileSync(model, net.write());
    const models = [{ name: 'net', backend: 'onnx', path: model, execution: 'thread', maxBatchSize: 32 }];
    const server = await startServer(folder, { models, server: { port: 0, model: 'net' } }, workers);
    const { port } = server;
    for (const connections of shapes) {
      const threads = Math.min(connections, workers);
      const bare = { model, dtype, rowShape, threads, rows: Math.ceil(connections / threads), seconds };
      const turns = [];
      for (let round = 0; round < rounds; round++) {
        const theirs = await bareThreads(bare);
        const ours = await loadOf({ port, connections, depth: 1, payloadBytes, replyBytes, seconds });
        turns.push({ theirs: theirs.rowsPerSecond, runMs: theirs.runMs, ours: ours.rps, p99Ms: ours.p99Ms });
      }
      const of = (figure) => median(turns.map((turn) => turn[figure]));
      const ratio = median(turns.map((turn) => turn.ours / turn.theirs));
      const row = { name, connections, theirs: of('theirs'), runMs: of('runMs'), ours: of('ours'), ratio, paced: null };
      rows.push(row);
      if (connections !== pacedConnections) continue;
      const paced = [];
      for (let round = 0; round < rounds; round++)
        paced.push(await pacedLoad({ port, connections, rate: row.ours / 2, payloadBytes, seconds: 2 * seconds }));
      row.paced = { rate: row.ours / 2, p99Ms: median(paced.map(({ p99Ms }) => p99Ms)) };
    }
    await server.stop();
  }
  return rows;
}
