// Lint and types before tests. A run of some files is work in progress: what is merely untidy is reported and keeps no
// test from running. Others rely on the whole run: for that, everything must be clean.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { buildPackages } from '../packages.mjs';
import { binOf, buildPage, root, runTool } from '../prepare.mjs';

const projects = ['tsconfig.json', 'src/aggregator/page/tsconfig.json', 'test/tsconfig.json'];

/** TypeScript's codes for unused locals, parameters, imports, properties and type parameters. */
const unused = new Set(['TS6133', 'TS6138', 'TS6192', 'TS6196', 'TS6198', 'TS6199', 'TS6205']);

/** Ends the process when the sources have an error that this run does not allow. */
export async function prepareSources({ isWhole }) {
  if (isWhole) runTool('@biomejs/biome', ['check', '--error-on-warnings', '.']);
  const lint = isWhole ? null : startLint();
  const { errors, warnings } = compile(projects, root);
  for (const line of [...warnings, ...errors]) console.error(line);
  if (errors.length > 0 || (isWhole && warnings.length > 0)) {
    console.error('no test has run: what is above does not compile');
    process.exit(1);
  }
  if (warnings.length > 0) console.error(`${warnings.length} unused: the tests run, the whole \`npm test\` would not`);
  buildPage();
  buildPackages();
  if (lint !== null && !(await lint.isClean()))
    console.error(`${lint.output()}\nnot clean (npm run check): the tests run, the whole \`npm test\` would not`);
}

/** Compiles; unused declarations are warnings, and the output can be run all the same. */
export function compile(projects, cwd) {
  const args = [binOf('typescript'), '--build', '--pretty', 'false', ...projects];
  const { status, stdout, stderr, error } = spawnSync(process.execPath, args, { cwd, encoding: 'utf8' });
  if (error !== undefined) throw error;
  const found = judge(stdout + stderr);
  // The compiler reports a failure in a form that is not known here.
  if (status !== 0 && found.errors.length + found.warnings.length === 0) found.errors.push(`tsc: exit code ${status}`);
  return found;
}

/**
 * @param output the compiler's output
 * @returns messages, each once: a file may belong to several projects
 */
function judge(output) {
  // An indented line continues the message before it.
  const all = output.split(/\n(?!\s)/).map((text) => text.trimEnd());
  const messages = [...new Set(all.filter((text) => text !== ''))];
  const isWarning = (text) => unused.has(/: error (TS\d+): /.exec(text)?.[1] ?? '');
  return { errors: messages.filter((text) => !isWarning(text)), warnings: messages.filter(isWarning) };
}

/** Runs beside the compiler: it takes as long. */
function startLint() {
  const args = [binOf('@biomejs/biome'), 'check', '--error-on-warnings', '--reporter=summary', '.'];
  const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'ignore'] });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output += text;
  });
  const ended = once(child, 'close');
  return { isClean: async () => (await ended)[0] === 0, output: () => output.trim() };
}
