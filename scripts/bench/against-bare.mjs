// How much of a bare Node server's speed ours keeps, measured by a client that is not the limit: both answer the same
// frames with as many workers, in short alternating turns, since the machine's speed changes over time. CPU time is
// reported as well: it remains a measure where other programs want the same cores.

import { cpuUs } from './cpu-time.mjs';
import { startCeiling, startServer } from './programs.mjs';
import { median } from './throughput.mjs';

const workers = 2;
const bytes = { payloadBytes: 256, replyBytes: 4 };
const atOnce = 64;

const shapes = [
  [1, 1],
  [16, 1],
  [64, 1],
  [16, 64],
  [64, 64],
];

const rows = [
  ...shapes.map(([connections, depth]) => ({
    name: `${connections} × ${depth}`,
    unit: 'requests/s',
    turn: (client, port, seconds) => client.load({ port, connections, depth, ...bytes, seconds }),
  })),
  {
    name: `connect, ask once, reset; ${atOnce} at once`,
    unit: 'connections/s',
    turn: (client, port, seconds) => client.connect({ port, atOnce, payloadBytes: 1, replyBytes: 4, seconds }),
  },
];

/** @param nodes the Node versions that run server and ceiling, each as `{version, binary}` */
export async function againstBare(folder, client, nodes, { rounds, seconds }) {
  const pairs = [];
  for (const { version, binary } of nodes) {
    const ceiling = await startCeiling('bare', workers, '', binary);
    const server = await startServer(folder, { server: { port: 0, model: 'dummy', responseSize: 4 } }, workers, binary);
    pairs.push({ version, ceiling, server });
  }
  const measured = [];
  for (const { name, unit, turn } of rows) {
    const turns = pairs.map(() => ({ theirs: [], ours: [] }));
    for (let round = 0; round < rounds; round++) {
      for (const [i, { ceiling, server }] of pairs.entries()) {
        for (const [program, results] of [
          [ceiling, turns[i].theirs],
          [server, turns[i].ours],
        ]) {
          const before = cpuUs(program);
          const result = await turn(client, program.port, seconds);
          results.push({ ...result, cpuUs: (cpuUs(program) - before) / result.replies });
        }
      }
    }
    for (const [i, { version }] of pairs.entries()) measured.push({ name, unit, version, ...summary(turns[i]) });
  }
  await Promise.all(pairs.flatMap(({ ceiling, server }) => [ceiling.stop(), server.stop()]));
  return measured;
}

/** Medians of all turns, their ratio, and the lowest and the highest ratio of two consecutive turns. */
function summary({ ours, theirs }) {
  const middle = (turns, name) => median(turns.map((turn) => turn[name]));
  const of = (turns) => ({
    rps: middle(turns, 'rps'),
    p50Ms: middle(turns, 'p50Ms'),
    p99Ms: middle(turns, 'p99Ms'),
    cpuUs: middle(turns, 'cpuUs'),
  });
  const ratios = ours.map(({ rps }, i) => rps / theirs[i].rps);
  const [our, their] = [of(ours), of(theirs)];
  return { ours: our, theirs: their, ratio: our.rps / their.rps, spread: [Math.min(...ratios), Math.max(...ratios)] };
}
