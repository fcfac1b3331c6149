// A simulated cluster: its workers publish to a real Redis as real ones do, each on its own connection.
// Run as a child process: takes its settings as JSON in argv; prints `publishing` when all of them publish.

import { nodeRecord, workerRecord } from '../../build/test/support/records.js';
import { noCounts, noModelCounts } from '../../dist/metrics/merge.js';
import { RedisPublisher } from '../../dist/metrics/transport/redis.js';

const { settings, cluster, nodes, workersPerNode, intervalMs } = JSON.parse(process.argv[2]);

/** A bell curve of latencies, like a busy worker's: some sixty buckets that are not empty. */
function histogram(middle, requests) {
  const sparse = [];
  for (let i = -30; i <= 30; i++) {
    const count = Math.round(requests * Math.exp(-(i * i) / 200));
    if (count > 0) sparse.push(middle + i, count);
  }
  return sparse;
}

function record(node, slot, sequence) {
  const run = `run-${node}`;
  const requests = 1000 * sequence;
  const latency = histogram(200, requests);
  const count = latency.reduce((sum, value, i) => (i % 2 === 1 ? sum + value : sum), 0);
  const model = {
    ...noModelCounts(),
    received: count,
    answered: count,
    latency,
    queueTime: histogram(120, requests),
    runTime: histogram(150, requests / 32),
    closedTurn: Math.round(count / 32),
    batchedRows: count,
  };
  const fields = workerRecord({ node, run, slot, incarnation: slot + 1, sequence });
  return {
    ...fields,
    uptimeMs: sequence * intervalMs,
    counts: { ...noCounts(), connectionsAccepted: 10, models: { m: model } },
    gauges: {
      ...fields.gauges,
      connections: 10,
      models: { m: { version: '1', execution: 'inline', queued: 0 } },
      cpuShare: 0.5,
      eventLoopUtilization: 0.5,
    },
  };
}

const heartbeat = (node, sequence) =>
  nodeRecord({ node, run: `run-${node}`, sequence, uptimeMs: sequence * intervalMs, workersWanted: workersPerNode });

const ready = [];
const publishers = Array.from({ length: nodes * (workersPerNode + 1) }, () => {
  let publisher;
  ready.push(
    new Promise((resolve) => {
      publisher = new RedisPublisher(settings, cluster, (state) => state === 'back' && resolve());
    }),
  );
  return publisher;
});
await Promise.all(ready);

let failed = 0;
let skipped = 0;
for (const [i, publisher] of publishers.entries()) {
  const node = `node-${Math.floor(i / (workersPerNode + 1))}`;
  const slot = (i % (workersPerNode + 1)) - 1;
  let sequence = 0;
  let isBusy = false;
  const publish = async () => {
    if (isBusy) {
      skipped++;
      return;
    }
    isBusy = true;
    sequence++;
    const made = slot < 0 ? heartbeat(node, sequence) : record(node, slot, sequence);
    await publisher.publish({ record: made, retires: [] }).catch(() => failed++);
    isBusy = false;
  };
  setTimeout(() => setInterval(publish, intervalMs), Math.random() * intervalMs);
}
setTimeout(() => console.log('publishing'), 2 * intervalMs);
process.on('SIGTERM', () => {
  console.log(JSON.stringify({ failed, skipped }));
  process.exit(0);
});
