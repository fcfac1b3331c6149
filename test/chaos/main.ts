// `npm run chaos -- --seconds 60 --seed 7 --without cut-node-off,lose-keys`

import { parseArgs } from 'node:util';
import { endProcesses } from '../support/processes.js';
import { runChaos } from './chaos.js';
import { chooseEvents, eventNames } from './events.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string' },
    seed: { type: 'string' },
    only: { type: 'string', default: '' },
    without: { type: 'string', default: '' },
  },
});
const seconds = Number(values.seconds ?? 60);
const seed = Number(values.seed ?? Date.now() % 1_000_000);
if (!(seconds > 0 && Number.isInteger(seed))) {
  console.error('npm run chaos -- --seconds 60 --seed 7: both are numbers, the seed a whole one');
  process.exit(2);
}
const names = (list: string): string[] => list.split(',').filter((name) => name !== '');
const [only, without] = [names(values.only), names(values.without)];
const unknown = [...only, ...without].filter((name) => !eventNames.includes(name));
if (unknown.length > 0 || chooseEvents(only, without).length === 0) {
  console.error(`--only and --without are lists of ${eventNames.join(', ')}; one must be left`);
  process.exit(2);
}
const again = Object.entries({ ...values, seed: String(seed), seconds: String(seconds) })
  .filter(([, value]) => value !== '')
  .map(([name, value]) => `--${name} ${value}`)
  .join(' ');
console.log(`seed ${seed}`);
try {
  const { faults, log, ...figures } = await runChaos({ seconds, seed, only, without, say: console.log });
  console.log(figures);
  for (const fault of faults) console.error(`FAULT: ${fault}`);
  console.log(faults.length === 0 ? 'everything held' : `what happened is in ${log}; again: npm run chaos -- ${again}`);
  process.exitCode = faults.length === 0 ? 0 : 1;
} finally {
  await endProcesses();
}
process.exit();
