// `npm run chaos`: kills, hangs, reloads, scalings and outages at random, under load. Arguments: --seconds, --seed,
// --only, --without.

import { buildPackages } from './packages.mjs';
import { install, root, runTool } from './prepare.mjs';

install();
runTool('typescript', ['--build', 'tsconfig.json', 'test/tsconfig.json']);
buildPackages();
await import(`${root}build/test/chaos/main.js`);
