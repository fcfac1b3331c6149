// `npm run chaos -- --seconds 60 --seed 7`

import { parseArgs } from 'node:util';
import { endProcesses } from '../support/processes.js';
import { runChaos } from './chaos.js';

const { values } = parseArgs({ options: { seconds: { type: 'string' }, seed: { type: 'string' } } });
const seconds = Number(values.seconds ?? 60);
const seed = Number(values.seed ?? Date.now() % 1_000_000);
if (!(seconds > 0 && Number.isInteger(seed))) {
  console.error('npm run chaos -- --seconds 60 --seed 7: both are numbers, the seed a whole one');
  process.exit(2);
}
console.log(`seed ${seed}`);
try {
  const { faults, log, ...figures } = await runChaos({ seconds, seed, say: console.log });
  console.log(figures);
  for (const fault of faults) console.error(`FAULT: ${fault}`);
  console.log(
    faults.length === 0 ? 'everything held' : `what happened is in ${log}; again: --seconds ${seconds} --seed ${seed}`,
  );
  process.exitCode = faults.length === 0 ? 0 : 1;
} finally {
  await endProcesses();
}
process.exit();
