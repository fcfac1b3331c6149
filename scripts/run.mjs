// `npm start` and its like: installs and builds what is missing, then runs the command line in this process, so that
// its signals and exit codes are the command line's own.

import { build, install, root } from './prepare.mjs';

install();
build();
process.argv[1] = `${root}bundle/cli.js`;
await import('../bundle/cli.js');
