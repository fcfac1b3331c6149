// `npm run matrix`: models of every kind, served, against ONNX Runtime for Python on each request alone. It prints a
// table; with a pattern behind it, of the models whose names match. `--before FOLDER` adds how another checkout, which
// must be built, fares. Exit code 1 when one model is not served or an answer is wrong.

import { parseArgs } from 'node:util';
import { build, install, root, runTool } from './prepare.mjs';
import { ensureModels } from './test/models.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { before: { type: 'string' }, json: { type: 'boolean', default: false } },
});
install();
build();
runTool('typescript', ['--build', 'test/tsconfig.json'], { stdio: ['ignore', 2, 2] });
ensureModels({ isWhole: true });
const { runMatrix } = await import(`${root}build/test/support/matrix/run.js`);
process.exitCode = await runMatrix({ pattern: positionals[0], before: values.before, isJson: values.json });
