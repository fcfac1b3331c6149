// `npm run peers`: the server among clients and test suites that others made. It prints a table; with a pattern behind it,
// of what matches. See test/support/peers/README.md. Exit code 1 when something has failed that should pass.

import { parseArgs } from 'node:util';
import { build, install, runTool } from './prepare.mjs';
import { ensureClients } from './test/clients.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    'triton-client': { type: 'string' },
    'triton-server': { type: 'string' },
    'inference-protocol': { type: 'string' },
    verbose: { type: 'boolean', default: false },
  },
});
install();
build();
runTool('typescript', ['--build', 'test/tsconfig.json'], { stdio: ['ignore', 2, 2] });
ensureClients({ isWhole: true });
const { runPeers } = await import('../build/test/support/peers/run.js');
process.exitCode = await runPeers({
  pattern: positionals[0],
  tritonClient: values['triton-client'],
  tritonServer: values['triton-server'],
  inferenceProtocol: values['inference-protocol'],
  isVerbose: values.verbose,
});
