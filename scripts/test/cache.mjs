// What is fetched for tests lies in the cache folder of the user, since fetching takes a while, and it serves every
// checkout.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { root } from '../prepare.mjs';

export const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'ml-tcp-server-tests');

export const hasPip = () => spawnSync('python3', ['-m', 'pip', '--version']).status === 0;

/** Whether the command has succeeded. */
export function run(command, args, options = {}) {
  return spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2], ...options }).status === 0;
}

/** Does it unless it was done for this very list; a copy of the list tells. */
export function once(list, copy, act) {
  const wanted = readFileSync(join(root, list), 'utf8');
  if (existsSync(copy) && readFileSync(copy, 'utf8') === wanted) return true;
  console.error(`fetching ${list} …`);
  if (!act()) return false;
  writeFileSync(copy, wanted);
  return true;
}

/**
 * A virtual environment in the folder of this name. A file in it that equals a list says that all of the list is there.
 * @param lists of packages with all that they need, so that nothing else is installed
 */
export function ensurePython(name, lists) {
  const venv = join(cache, name);
  const python = join(venv, 'bin/python');
  const isMade = existsSync(python) || run('python3', ['-m', 'venv', '--clear', venv]);
  const options = ['--quiet', '--disable-pip-version-check', '--no-deps', '--no-compile', '--only-binary=:all:'];
  const installs = (list) => run(python, ['-m', 'pip', 'install', ...options, '-r', list]);
  return isMade && lists.every((list) => once(list, join(venv, basename(list)), () => installs(list)));
}
