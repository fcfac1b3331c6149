// Where scripts/test/models.mjs puts what it fetches: it serves every checkout of a user.

import { homedir } from 'node:os';
import { join } from 'node:path';

export const cacheFolder = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'ml-tcp-server-tests');

/** @param path as it is in the wheel, below the name of its package */
export const publicModel = (path: string): string => join(cacheFolder, 'wheels', path);
