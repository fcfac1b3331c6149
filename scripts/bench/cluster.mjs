// One aggregator and a cluster of a thousand workers on a hundred machines: does it keep up, and at what price?

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const here = (file) => fileURLToPath(new URL(file, import.meta.url));
const ticksPerSecond = 100; // of /proc on Linux

function start(command, args, env = {}) {
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
  });
  const lines = createInterface({ input: child.stdout });
  return {
    child,
    /** The next line that `match` accepts. */
    line: (match) =>
      new Promise((resolve) => {
        lines.on('line', (text) => match(text) && resolve(text));
      }),
    stop: async () => {
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    },
  };
}

function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

const quantile = (values, q) => values.toSorted((a, b) => a - b)[Math.floor(values.length * q)];

export async function cluster(folder, { nodes = 100, workersPerNode = 10, intervalMs = 250, seconds = 15 } = {}) {
  const port = 20_000 + Math.floor(Math.random() * 10_000);
  const redis = start('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', folder]);
  await redis.line((text) => text.includes('Ready to accept connections'));
  const url = `redis://127.0.0.1:${port}`;
  const settings = {
    url,
    nodes: [],
    masterName: '',
    sentinelPassword: '',
    caFile: '',
    keyPrefix: 'bench',
    connectTimeoutMs: 5000,
    commandTimeoutMs: 2000,
  };
  const wanted = JSON.stringify({ settings, cluster: 'default', nodes, workersPerNode, intervalMs });
  const publishers = start(process.execPath, [here('./cluster-load.mjs'), wanted]);
  await publishers.line((text) => text === 'publishing');
  const aggregator = start(
    process.execPath,
    [here('../../bundle/cli.js'), 'aggregator', '--http-port', '0', '--set', 'redis.keyPrefix=bench'],
    { REDIS_URL: url },
  );
  const ready = JSON.parse(await aggregator.line((text) => text.includes('"msg":"ready"')));
  await new Promise((resolve) => setTimeout(resolve, 3000));
  const pids = { aggregator: aggregator.child.pid, redis: redis.child.pid };
  const before = { at: performance.now(), aggregator: cpuSeconds(pids.aggregator), redis: cpuSeconds(pids.redis) };
  const agesMs = [];
  const timesMs = [];
  let workers = 0;
  for (let i = 0; performance.now() - before.at < seconds * 1000; i++) {
    const begin = performance.now();
    const response = await fetch(ready.metrics, {
      headers: { accept: i % 2 === 0 ? 'application/json' : 'text/plain' },
    });
    const body = await response.text();
    timesMs.push(performance.now() - begin);
    // Parsing the response costs this process, which shares the machine, more than requesting it.
    if (i % 4 === 0) {
      const metrics = JSON.parse(body);
      agesMs.push(metrics.snapshot_age_ms + metrics.age_ms);
      workers = metrics.workers.filter(({ state }) => state === 'ready').length;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const elapsed = (performance.now() - before.at) / 1000;
  const result = {
    workers,
    intervalMs,
    ageP99Ms: quantile(agesMs, 0.99),
    aggregatorCores: (cpuSeconds(pids.aggregator) - before.aggregator) / elapsed,
    redisCores: (cpuSeconds(pids.redis) - before.redis) / elapsed,
    responseP99Ms: quantile(timesMs, 0.99),
  };
  for (const program of [aggregator, publishers, redis]) await program.stop();
  return result;
}
