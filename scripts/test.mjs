// `npm test`: everything, on a machine that has only Node and npm. With arguments, the tests that they name: see
// `npm test -- --help`, and test/README.md.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { binOf, install, root } from './prepare.mjs';
import { allSpecs, builtFrom, select, UsageError, usage } from './test/selection.mjs';
import { prepareSources } from './test/sources.mjs';
import { rerunOnChange } from './test/watch.mjs';

const args = process.argv.slice(2);
if (args.includes('--help') || args.includes('-h')) {
  console.log(usage);
  process.exit(0);
}
const { isWatch, isWhole, specs, forMocha } = selection();
if (isWatch) {
  const rest = args.filter((arg) => arg !== '--watch');
  const command = [fileURLToPath(import.meta.url), ...(rest.length > 0 ? rest : ['test'])];
  rerunOnChange(process.execPath, command, { cwd: root, folders: [join(root, 'src'), join(root, 'test')] });
} else process.exitCode = await run();

function selection() {
  try {
    return select(args, { root, specs: allSpecs(root), folder: process.env.INIT_CWD });
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`${error.message}\n\`npm test -- --help\` tells what there is`);
    process.exit(2);
  }
}

async function run() {
  const outside = ended(
    spawn(process.execPath, [join(root, 'scripts/test/outside.mjs')], { cwd: root, stdio: 'inherit' }),
  );
  install();
  await prepareSources({ isWhole });
  if ((await outside) !== 0) return 1;
  // Mocha ends what its tests have started: wait for it, also after Ctrl-C.
  process.on('SIGINT', () => {});
  // `.only` selects one test while somebody works on it; a whole run, which others rely on, must leave out none.
  const options = ['--fail-zero', ...(isWhole ? ['--forbid-only'] : []), ...forMocha];
  return ended(
    spawn(process.execPath, [binOf('mocha'), ...options, ...specs.map(builtFrom)], { cwd: root, stdio: 'inherit' }),
  );
}

async function ended(child) {
  const [code, signal] = await once(child, 'exit');
  if (signal !== null) console.error(`${child.spawnargs.slice(0, 2).join(' ')} was ended by ${signal}`);
  return code ?? 1;
}
