// Workers of one node:cluster that try their handles, all at once, again and again; exits with 0 when each has.

import cluster from 'node:cluster';
import { once } from 'node:events';
import { tryHandles } from '#src/worker/connections/handle-check.js';

if (cluster.isPrimary) {
  const workers = Array.from({ length: 3 }, () => cluster.fork());
  await Promise.all(workers.map((worker) => once(worker, 'message'))); // what is sent before that is lost
  const exits = workers.map((worker) => once(worker, 'exit') as Promise<[number]>);
  for (const worker of workers) worker.send('go');
  const exitCodes = await Promise.all(exits);
  process.exit(exitCodes.every(([exitCode]) => exitCode === 0) ? 0 : 1);
} else {
  process.once('message', async () => {
    for (let i = 0; i < 20; i++) await tryHandles();
    process.exit(0);
  });
  process.send?.('here');
}
