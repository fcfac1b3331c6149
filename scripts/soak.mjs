// `npm run soak`: good and bad traffic for ten minutes, or --seconds; ends with 1 when memory or descriptors have
// grown.

import { build, install, root, runTool } from './prepare.mjs';

install();
build();
runTool('typescript', ['--build', 'tsconfig.json', 'test/tsconfig.json']);
await import(`${root}build/test/soak/main.js`);
