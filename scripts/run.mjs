// `npm start` and its like: installs and builds what is missing, then runs the command line in this very process, so
// that signals and exit codes are its own.

import { build, install, root } from './prepare.mjs';

install();
build();
process.argv[1] = `${root}dist/cli.js`;
await import('../dist/cli.js');
