// `npm run bench`: measures the server against ceilings of its own kind on this machine, prints the tables, and with
// --write puts them into scripts/bench/README.md. `--quick` takes a third of the time and is less exact. `--node 24`,
// once or more often, measures only the rows against a bare Node server, with these Nodes, side by side; with --write
// that table goes into the same README.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build, install, runTool } from '../prepare.mjs';

const { values: flags } = parseArgs({
  options: {
    write: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    node: { type: 'string', multiple: true, default: [] },
  },
});
const effort = flags.quick ? { rounds: 1, seconds: 1 } : { rounds: 3, seconds: 2 };
// Many short turns say more than a few long ones where the machine has other work.
const bareEffort = flags.quick ? { rounds: 3, seconds: 0.5 } : { rounds: 9, seconds: 1 };

install();
build();
runTool('typescript', ['--build', 'test/tsconfig.json'], { stdio: ['ignore', 2, 2] });

const { againstBare } = await import('./against-bare.mjs');
const { barChart } = await import('./chart.mjs');
const { coldStart } = await import('./cold-start.mjs');
const { writeMlp } = await import('./mlp.mjs');
const { cluster } = await import('./cluster.mjs');
const { fairness } = await import('./fairness.mjs');
const { floods } = await import('./floods.mjs');
const { loading } = await import('./loading.mjs');
const { overload } = await import('./overload.mjs');
const { reload } = await import('./reload.mjs');
const { heavy } = await import('./heavy.mjs');
const { findH2load } = await import('./h2load.mjs');
const { stopAll } = await import('./programs.mjs');
const { protocols } = await import('./protocols.mjs');
const { compileClient } = await import('./native-client.mjs');
const { nodesOf } = await import('./node-versions.mjs');
const { crossings, neighbours } = await import('./threads.mjs');
const throughput = await import('./throughput.mjs');

const row = (...cells) => `| ${cells.join(' | ')} |`;
const table = (head, rows) =>
  [row(...head), row(...head.map(() => '---')), ...rows.map((cells) => row(...cells))].join('\n');
const number = (value) =>
  value >= 100 ? Math.round(value).toLocaleString('en') : value.toPrecision(value >= 1 ? 3 : 2);

const step = async (what, run) => {
  console.error(`measuring ${what} …`);
  return run();
};

/** Measures with each of these Nodes; resolves with no rows where there is no C compiler. */
async function measureBare(folder, nodes) {
  const client = compileClient(folder);
  return client === null ? [] : step('against bare Node', () => againstBare(folder, client, nodes, bareEffort));
}

/** The same network in each protocol; resolves with no rows where there is no C compiler. */
async function measureProtocols(folder, model) {
  const client = compileClient(folder);
  if (client === null) return [];
  return step('protocols', () => protocols(folder, model, client, findH2load(), bareEffort));
}

async function measure(folder) {
  const model = join(folder, 'mlp.onnx');
  writeFileSync(model, writeMlp());
  const bare = await measureBare(folder, [{ version: process.versions.node, binary: process.execPath }]);
  const ratios = [
    ...(await step('the dummy model', () => throughput.dummy(folder, effort))),
    ...(await step('an ONNX model', () => throughput.onnx(folder, model, effort))),
    await step('the cost of publishing', () => throughput.publishing(folder, { ...effort, rounds: 2 * effort.rounds })),
  ];
  const spoken = await measureProtocols(folder, model);
  const sizes = await step('batch sizes', () => throughput.batchSizes(folder, model, effort));
  const beside = await step('neighbours of a slow model', () => neighbours(folder, effort));
  const crossing = await step('crossings to a thread', () => crossings(effort));
  const loads = await step('loading', () => loading(folder, model, effort));
  const over = await step('overload', () => overload(folder, effort));
  const fair = await step('a client beside a pipeline', () => fairness(folder, effort));
  const slow = await step('heavy models', () => heavy(folder, compileClient(folder), effort));
  const many = await step('a cluster of a thousand workers', () => cluster(folder));
  const rolling = await step('rolling reloads', () => reload(folder, effort));
  const flooded = await step('floods', () => floods(effort));
  const starts = await step('starts', () => coldStart(folder, model, { rounds: 2 * effort.rounds + 1 }));
  return { bare, ratios, spoken, sizes, beside, crossing, loads, over, fair, slow, many, rolling, flooded, starts };
}

const milliseconds = ({ p50Ms, p99Ms }) => `${number(p50Ms)} / ${number(p99Ms)} ms`;
const microseconds = ({ cpuUs }) => (Number.isNaN(cpuUs) ? 'unknown' : `${number(cpuUs)} µs`);

function bareTable(measured) {
  return table(
    [
      'dummy model, client in C',
      'Node',
      'bare',
      'ours',
      'ours / bare (spread)',
      'p50 / p99: bare',
      'ours',
      'CPU time each: bare',
      'ours',
    ],
    measured.map(({ name, unit, version, ours, theirs, ratio, spread }) => [
      name,
      version,
      `${number(theirs.rps)} ${unit}`,
      `${number(ours.rps)} ${unit}`,
      `${number(ratio)} (${spread.map(number).join('–')})`,
      milliseconds(theirs),
      milliseconds(ours),
      microseconds(theirs),
      microseconds(ours),
    ]),
  );
}

function protocolTable(measured) {
  const peerCells = (peer) =>
    peer === null
      ? ['', '', '']
      : [`${peer.name}: ${number(peer.rps)} requests/s`, number(peer.ratio), microseconds(peer)];
  return table(
    [
      'protocols, 64-64-10 network',
      'connections × in flight',
      'ours',
      'ours / raw frames',
      'CPU time each',
      'a plain server',
      'ours / plain',
      'CPU time each',
    ],
    measured.map(({ name, shape, rps, ofRaw, cpuUs, peer }) => [
      name,
      shape,
      `${number(rps)} requests/s`,
      ofRaw === null ? '' : number(ofRaw),
      microseconds({ cpuUs }),
      ...peerCells(peer),
    ]),
  );
}

const processor = `${availableParallelism()} × ${cpus()[0]?.model.trim()}`;
const conditions = 'clients and servers on the same cores, two workers; connections × requests in flight on each.';

function report({
  bare,
  ratios,
  spoken,
  sizes,
  beside,
  crossing,
  loads,
  over,
  fair,
  slow,
  many,
  rolling,
  flooded,
  starts,
}) {
  return [
    `Measured on ${processor}, Node ${process.versions.node}, ${conditions}`,
    ...(bare.length > 0 ? [bareTable(bare)] : []),
    table(
      ['what', 'ceiling', 'ours', 'ours / ceiling'],
      ratios.map(({ name, unit, ours, theirs, ratio }) => [
        name,
        `${number(theirs)} ${unit}`,
        `${number(ours)} ${unit}`,
        number(ratio),
      ]),
    ),
    ...(spoken.length > 0 ? [protocolTable(spoken)] : []),
    table(
      [
        'a start: primary, two workers, aggregator',
        'first answer',
        'CPU time until then',
        'idle: RSS',
        'PSS',
        'private',
      ],
      starts.map(({ name, answerMs, answerCpuMs, rssMb, pssMb, privateMb }) => [
        name,
        ...[answerMs, answerCpuMs].map((ms) => `${number(ms)} ms`),
        ...[rssMb, pssMb, privateMb].map((mb) => `${number(mb)} MB`),
      ]),
    ),
    table(
      ['`maxBatchSize`', ...sizes.map(({ maxBatchSize }) => maxBatchSize)],
      [['requests/s at 64 × 64', ...sizes.map(({ rps }) => number(rps))]],
    ),
    table(
      ['a model of 50 ms a run', 'event-loop delay of its worker, p99', 'p99 of the dummy model beside it'],
      Object.entries(beside).map(([execution, { loopDelayP99Ms, quickP99Ms }]) => [
        `\`execution: ${execution}\``,
        `${number(loopDelayP99Ms)} ms`,
        `${number(quickP99Ms)} ms`,
      ]),
    ),
    table(
      ['there and back to a thread, 32 rows', 'time'],
      [
        ['our threads', `${number(crossing.oursUs)} µs`],
        ['Piscina', `${number(crossing.poolUs)} µs`],
      ],
    ),
    table(
      ['a process that starts, until it answers', 'bare', 'ours', 'memory: bare', 'ours, a worker'],
      loads.map(({ name, theirs, ours }) => [
        name,
        `${number(theirs.ms / 1000)} s`,
        `${number(ours.ms / 1000)} s`,
        `${number(theirs.mb)} MB`,
        `${number(ours.mb)} MB`,
      ]),
    ),
    table(
      ['three times the load that a model can serve', ''],
      [
        ['peak, at no more than it can serve', `${number(over.peakRps)} requests/s`],
        ['offered', `${number(over.offeredRps)} requests/s`],
        ['served', `${number(over.servedRps)} requests/s, ${number(over.servedRps / over.peakRps)} of the peak`],
        ['p99 of what was served', `${number(over.p99Ms)} ms, with a deadline of ${over.deadlineMs} ms`],
        ['memory of the worker', `${number(Math.max(0, over.memoryGrowthMb))} MB more than before`],
      ],
    ),
    table(
      ['one request at a time', 'alone: p50 / p99', 'beside a connection with 1,000 in flight', 'that is, in runs'],
      fair.map(({ name, ms, alone, beside }) => [
        `a model of ${name}`,
        milliseconds(alone),
        milliseconds(beside),
        `${number(beside.p50Ms / ms)} / ${number(beside.p99Ms / ms)}`,
      ]),
    ),
    table(
      ['heavy models, connections', 'a run alone', 'bare threads', 'ours', 'ours / bare', 'p99 at half of that load'],
      slow.map(({ name, connections, runMs, theirs, ours, ratio, paced }) => [
        `${name}, ${connections}`,
        `${number(runMs)} ms`,
        `${number(theirs)} requests/s`,
        `${number(ours)} requests/s`,
        number(ratio),
        paced === null ? '' : `${number(paced.p99Ms)} ms`,
      ]),
    ),
    table(
      [`one aggregator, ${many.workers} workers of 100 nodes that publish every ${many.intervalMs} ms`, ''],
      [
        ['age of the oldest data, p99', `${number(many.ageP99Ms)} ms`],
        ['the aggregator', `${number(many.aggregatorCores)} of a core`],
        ['Redis', `${number(many.redisCores)} of a core`],
        ['`GET /metrics` (JSON and Prometheus in turns), p99', `${number(many.responseP99Ms)} ms`],
      ],
    ),
    table(
      [
        `${rolling.reloads} rolling reloads under full load, ${number(rolling.connections)} connections`,
        'calm',
        'while reloading',
      ],
      [
        ['p99', `${number(rolling.calm.p99Ms)} ms`, `${number(rolling.reloading.p99Ms)} ms`],
        [
          'served, with clients that check each reply',
          `${number(rolling.calm.rps)} requests/s`,
          `${number(rolling.reloading.rps)} requests/s`,
        ],
        ['time of a reload of two workers', '', `${number(rolling.reloadMs)} ms`],
        ['connections dropped, replies lost, repeated or out of order', '', `0 of ${number(rolling.replies)} replies`],
      ],
    ),
    table(
      [
        'flood, beside 1,000 requests/s of well-behaved clients',
        'of these served',
        'their p99 before',
        'and in it',
        'memory of a worker',
        'gone after',
      ],
      flooded.map(({ kind, count, calm, flooded: span, grownMb, goneMs }) => [
        `${count.toLocaleString('en')} ${kind}`,
        `${Math.min(100, Math.round((100 * span.served) / span.offered))} %`,
        `${number(calm.p99Ms)} ms`,
        `${number(span.p99Ms)} ms`,
        `+ ${number(grownMb)} MB`,
        `${number(goneMs / 1000)} s`,
      ]),
    ),
  ].join('\n\n');
}

const folder = mkdtempSync(join(tmpdir(), 'ml-tcp-bench-'));
try {
  if (flags.node.length > 0) await compareNodes();
  else await measureAll();
} finally {
  await stopAll();
  rmSync(folder, { recursive: true });
}

async function compareNodes() {
  const measured = await measureBare(folder, nodesOf(flags.node, folder));
  if (measured.length === 0) return;
  const text = `Measured on ${processor}, ${conditions}\n\n${bareTable(measured)}`;
  console.log(text);
  if (flags.write) writeBetween('nodes', text);
}

/** Replaces what the README has between this mark and the next end. */
function writeBetween(mark, text) {
  const readme = fileURLToPath(new URL('./README.md', import.meta.url));
  const marked = new RegExp(`(<!-- ${mark} -->\\n)[\\s\\S]*?(<!-- end -->)`);
  const replaced = readFileSync(readme, 'utf8').replace(marked, (_, begin, end) => `${begin}${text}\n${end}`);
  writeFileSync(readme, replaced);
}

async function measureAll() {
  const results = await measure(folder);
  const text = report(results);
  console.log(text);
  if (flags.write) {
    writeBetween('bench', text);
    const bars = results.ratios.filter(({ isShare }) => isShare);
    writeFileSync(new URL('./chart.svg', import.meta.url), barChart('requests/s as a share of the ceiling', bars));
  }
}
