// How long a server takes from the start of its process to the first answer, and what its processes hold when nobody
// asks: ours, with two workers and its aggregator, and the least tree of as many Node processes, in turns.
//
//   node scripts/bench/cold-start.mjs [--rounds N] [--of NAME=CLI.JS …]   compares builds of the server

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

const here = (file) => fileURLToPath(new URL(file, import.meta.url));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
/** How long the processes are left alone before their memory is read. */
const idleMs = 3000;
const limitMs = 60_000;

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Whether the server on this port answers one frame of zeros. */
function answers(port, bytes) {
  const frame = Buffer.alloc(4 + bytes);
  frame.writeUInt32BE(bytes);
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true });
    socket.on('connect', () => socket.write(frame));
    socket.on('data', () => socket.destroy(resolve(true)));
    socket.on('error', () => {});
    socket.on('close', () => resolve(false));
  });
}

async function firstAnswer(port, bytes) {
  for (const until = performance.now() + limitMs; performance.now() < until; await pause(2))
    if (await answers(port, bytes)) return;
  throw new Error('no answer came');
}

function treeOf(pid) {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').match(/\d+/g) ?? [];
  return [pid, ...children.flatMap((child) => treeOf(Number(child)))];
}

const roleOf = (pid) =>
  /(worker)\/main|(aggregator)\//
    .exec(readFileSync(`/proc/${pid}/cmdline`, 'utf8'))
    ?.slice(1)
    .join('') ?? 'primary';

/** User and system time of these processes, in ms; of a child that has ended, its parent has it. */
const cpuMs = (pids) =>
  pids.reduce((sum, pid) => {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ');
    return sum + 10 * fields.slice(11, 15).reduce((ticks, text) => ticks + Number(text), 0);
  }, 0);

/**
 * MB that a process has in memory: all of it; with what it shares divided by the number of processes that share it, on
 * the whole machine; and what it has written to, which no other process shares.
 */
function memoryOf(pid) {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const of = (name) => Number(new RegExp(`^${name}: +(\\d+) kB`, 'm').exec(text)[1]) / 1024;
  return { role: roleOf(pid), rssMb: of('Rss'), pssMb: of('Pss'), privateMb: of('Private_Dirty') };
}

/** Starts a program and resolves to what was measured of it, when it has ended. */
async function measureStart(args, port, payloadBytes, env = {}) {
  const begin = performance.now();
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { PATH: process.env.PATH, HOME: process.env.HOME, TMPDIR: process.env.TMPDIR, ...env },
  });
  try {
    let readyMs = null;
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (/"level":"(error|fatal)"/.test(line)) console.error(line);
      if (line.includes('"msg":"ready"')) readyMs = performance.now() - begin;
    });
    await firstAnswer(port, payloadBytes);
    const answerMs = performance.now() - begin;
    const answerCpuMs = cpuMs(treeOf(child.pid));
    await pause(idleMs);
    const pids = treeOf(child.pid);
    const processes = pids.map(memoryOf);
    const sum = (name) => processes.reduce((total, one) => total + one[name], 0);
    return {
      answerMs,
      readyMs,
      answerCpuMs,
      cpuMs: cpuMs(pids),
      processes,
      rssMb: sum('rssMb'),
      pssMb: sum('pssMb'),
      privateMb: sum('privateMb'),
    };
  } finally {
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    await exited;
  }
}

/** Our server with two workers, as a user starts it. */
async function startOurs(folder, cli, { config, payloadBytes }, env) {
  const port = await freePort();
  const file = join(folder, `cold-${port}.json`);
  writeFileSync(file, JSON.stringify({ ...config, server: { ...config.server, port } }));
  return measureStart([cli, 'start', '--config', file, '--workers', '2', '--http-port', '0'], port, payloadBytes, env);
}

async function startBare() {
  const port = await freePort();
  return measureStart([here('./bare-tree.mjs'), String(port)], port, 4);
}

const figures = ['answerMs', 'readyMs', 'answerCpuMs', 'cpuMs', 'rssMb', 'pssMb', 'privateMb'];

function summary(runs) {
  const of = (name) => median(runs.map((run) => run[name]));
  return Object.fromEntries(figures.map((name) => [name, of(name)]));
}

const models = (path) => ({
  dummy: { payloadBytes: 4, config: { server: { model: 'dummy', responseSize: 4 } } },
  'network of 20 µs': {
    payloadBytes: 256,
    config: { models: [{ name: 'mlp', backend: 'onnx', path }], server: { model: 'mlp' } },
  },
});

/**
 * Resolves to a row for each server: its name, and the medians.
 * @param builds the command lines of the builds to compare, by name
 */
export async function coldStart(folder, model, { rounds }, builds = { ours: here('../../bundle/cli.js') }) {
  const servers = [['four bare Node processes', startBare]];
  for (const [what, served] of Object.entries(models(model)))
    for (const [name, cli] of Object.entries(builds))
      servers.push([`${name}, ${what}`, () => startOurs(folder, cli, served)]);
  const runs = new Map(servers.map(([name]) => [name, []]));
  for (let round = 0; round < rounds; round++) for (const [name, start] of servers) runs.get(name).push(await start());
  return [...runs].map(([name, all]) => ({ name, ...summary(all), processes: all.at(-1).processes }));
}

async function main() {
  const { values } = parseArgs({
    options: { rounds: { type: 'string', default: '5' }, of: { type: 'string', multiple: true, default: [] } },
  });
  const { writeMlp } = await import('./mlp.mjs');
  const folder = mkdtempSync(join(tmpdir(), 'ml-tcp-cold-'));
  try {
    const model = join(folder, 'mlp.onnx');
    writeFileSync(model, writeMlp());
    const builds = Object.fromEntries(values.of.map((text) => text.split('=')));
    const rows = await coldStart(
      folder,
      model,
      { rounds: Number(values.rounds) },
      values.of.length > 0 ? builds : undefined,
    );
    for (const { name, processes, ...medians } of rows) {
      console.log(
        name,
        Object.fromEntries(figures.map((figure) => [figure, Math.round(medians[figure] ?? Number.NaN)])),
      );
      for (const { role, rssMb, pssMb, privateMb } of processes)
        console.log(`   ${role}: RSS ${rssMb.toFixed(1)}, PSS ${pssMb.toFixed(1)}, private ${privateMb.toFixed(1)} MB`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main();
