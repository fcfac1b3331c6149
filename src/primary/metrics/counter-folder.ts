// The folder of counter files: the primary creates and checks it once, before it has a worker that could fail there.

import type { Config } from '../../config/load.js';
import { messageOf, OperatorError } from '../../errors.js';
import { defaultSlabFolder } from '../../metrics/counter-file.js';
import { holdLock } from '../../metrics/lock.js';
import { makeOwnFolder } from '../../process/folder.js';
import type { Log } from '../../process/log.js';

/**
 * Returns the folder, with this run's lock in it; null when no counter files are wanted, or there is no space for them.
 * Throws OperatorError CONFIG_INVALID.
 */
export async function openSlabFolder(
  { metrics }: Pick<Config, 'metrics'>,
  run: string,
  log: Log,
): Promise<string | null> {
  if (metrics.slabFolder === 'none') return null;
  const folder = metrics.slabFolder || defaultSlabFolder();
  try {
    makeOwnFolder(folder);
    await holdLock(folder, run);
    return folder;
  } catch (error) {
    // A full file system is not a mistake in config, and may be freed while the server runs.
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') {
      log.warn({ folder }, 'no space for counters that outlive a worker: a kill may lose its last counts');
      return null;
    }
    throw new OperatorError(
      'CONFIG_INVALID',
      `counters cannot be kept in ${folder}: ${messageOf(error, 300)}; choose a folder of this user with metrics.slabFolder (SLAB_FOLDER), or none: then a kill may lose the last counts of a worker`,
      { cause: error },
    );
  }
}
