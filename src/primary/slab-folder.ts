// The folder of counter files: made and looked at once, by the primary, before it has a worker that would fail there.

import type { Config } from '../config/load.js';
import { messageOf, OperatorError } from '../errors.js';
import { makeOwnFolder } from '../folder.js';
import type { Log } from '../log.js';
import { defaultSlabFolder } from '../metrics/counter-file.js';
import { holdLock } from '../metrics/lock.js';

/**
 * The folder, with this run's lock in it; null when there shall be or can be no counter files. Throws OperatorError
 * CONFIG_INVALID.
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
    // A full file system is no mistake of a setting, and may be mended while we serve.
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
