// The library for `import`. Node would parse all of it, before it loads it, for the names that CommonJS exports.

import { createRequire } from 'node:module';

export default createRequire(import.meta.url)('./index.cjs');
