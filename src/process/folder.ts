// Folders for files that no other user may touch, in places where every user may write (/dev/shm, /tmp).

import { lstatSync, mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

/**
 * Makes the folder and its missing parents, for this user alone, one by one: Node's own recursive mkdir never returns
 * on a file system that says again after each attempt that a folder does not exist (/proc). Throws the error of
 * mkdir(2), such as ENOENT, EACCES, EROFS.
 */
export function makeFolder(path: string): void {
  const missing: string[] = [];
  for (let at = resolve(path); !wasMade(at); at = dirname(at)) missing.unshift(at);
  for (const folder of missing) {
    if (!wasMade(folder)) mkdirSync(folder, 0o700);
  }
}

/** Whether the folder exists now; false: its parent is missing. */
function wasMade(folder: string): boolean {
  try {
    mkdirSync(folder, 0o700);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return true;
    if (code === 'ENOENT' && dirname(folder) !== folder) return false;
    // Some file systems answer this for a folder that exists.
    if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return true;
    throw error;
  }
}

/** As `makeFolder`; also throws Error, which names the fix, when files of this user are not safe in the folder. */
export function makeOwnFolder(path: string): void {
  makeFolder(path);
  const reason = whyNotOurs(path);
  if (reason !== null) throw new Error(reason);
}

/** Why files of this user are not safe in the folder, with the fix; null when they are safe. */
export function whyNotOurs(folder: string): string | null {
  const link = lstatSync(folder);
  const status = link.isSymbolicLink() ? statSync(folder) : link;
  const own = process.getuid?.();
  if (!status.isDirectory()) return 'it is no folder';
  if (own === undefined) return null;
  if (link.uid !== own || status.uid !== own)
    return `it belongs to user ${link.uid === own ? status.uid : link.uid}, this server runs as user ${own}; a folder inside it will do`;
  const mode = (status.mode & 0o777).toString(8);
  if ((status.mode & 0o022) !== 0) return `others may write there (mode ${mode}); chmod go-w, or a folder inside it`;
  return null;
}
