// Prepares a checkout to run: installs the dependencies that the lock file pins, and builds the sources.
// Plain JavaScript with nothing but Node, since it runs before anything is installed.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildPackages, update } from './packages.mjs';

export const root = fileURLToPath(new URL('..', import.meta.url));

/** Runs a command in the checkout and shows its output; when it fails, names it and ends this process. */
export function run(command, args, options = {}) {
  const { status, signal, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options });
  if (status === 0) return;
  console.error(`${[command, ...args].join(' ')} failed: ${error?.message ?? signal ?? `exit code ${status}`}`);
  process.exit(status ?? 1);
}

/** Runs a tool that comes with the dependencies. */
export function runTool(name, args, options) {
  run(process.execPath, [binOf(name), ...args], options);
}

/** The script that starts a tool of the dependencies. */
export function binOf(name) {
  const folder = join(root, 'node_modules', name);
  const { bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  return join(folder, typeof bin === 'string' ? bin : Object.values(bin)[0]);
}

/** Installs when the lock file is not the one that was installed last. */
export function install() {
  const lock = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  const stamp = join(root, 'node_modules', '.installed-lock');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return;
  console.error('installing dependencies …');
  // Output goes to stderr: the output of what runs next may be piped.
  run('npm', ['ci', '--include=dev', '--no-audit', '--no-fund', '--no-progress', '--loglevel=error'], {
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32',
  });
  writeFileSync(stamp, lock);
}

/** Compiles what has changed since the last time. */
export function build() {
  runTool('typescript', ['--build', 'tsconfig.json'], { stdio: ['ignore', 2, 2] });
  buildPage();
  buildPackages();
}

/** The live page: one script, one style sheet, and static files. */
export function buildPage() {
  const from = join(root, 'src/aggregator/page');
  const to = join(root, 'dist/aggregator/page');
  // Unchanged files are not rewritten: a server may run from here, and checks whether its code has changed.
  const fresh = join(root, `build/page.${process.pid}`);
  const options = ['--bundle', '--minify', '--format=esm', '--target=es2022', '--log-level=warning'];
  const jsx = ['--jsx=automatic', '--jsx-import-source=preact', '--define:process.env.NODE_ENV="production"'];
  const entries = [`page=${join(from, 'main.tsx')}`, `page=${join(from, 'page.css')}`];
  const args = [...entries, `--outdir=${fresh}`, '--legal-comments=eof', ...options, ...jsx];
  runTool('esbuild', args, { stdio: ['ignore', 2, 2] });
  mkdirSync(to, { recursive: true });
  for (const file of ['index.html', 'login.html', 'slash.js', 'icon.svg']) update(join(from, file), join(to, file));
  for (const file of readdirSync(fresh)) update(join(fresh, file), join(to, file));
  rmSync(fresh, { recursive: true });
}
