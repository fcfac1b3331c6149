// Which code runs, and which code is on disk. They differ after an upgrade in place: a process started then would have
// another version than the process that starts it. The two would misread each other's messages and counters, and a
// process started while files are still being replaced would mix both versions. So no process or thread is started from
// other code; the primary reports this (`status`, the log), and a restart switches to the new code.
//
// Code is identified by its content, not by its version or its file times: a rebuild with the same version number is
// other code, and the same files installed again are the same code.

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('.', import.meta.url));
const packageFile = fileURLToPath(new URL('../package.json', import.meta.url));

/** The code on disk: `version+build`, as semver.org writes a version with its build. */
export function installedCode(): string {
  try {
    const text = readFileSync(packageFile, 'utf8');
    const { version } = JSON.parse(text) as { version: string };
    const hash = createHash('sha256').update(text);
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(isCode).sort();
    for (const file of files) hash.update(`\0${file}\0`).update(readFileSync(join(folder, file)));
    return `${version}+${hash.digest('hex').slice(0, 12)}`;
  } catch {
    return 'unreadable'; // the files are being replaced
  }
}

const isCode = (file: string): boolean => /\.(js|css|html|svg)$/.test(file);

/**
 * The code that this process runs. Read when its modules have been loaded: Node runs no module before it has read all
 * of them.
 */
export const runningCode = installedCode();

export const runningVersion = runningCode.split('+')[0] as string;

/** A message when the code on disk is no longer the running code; null while it is. */
export function codeChange(): string | null {
  const installed = installedCode();
  return installed === runningCode ? null : codeChangeMessage(installed);
}

/** @param other the code that is not the running one */
export function codeChangeMessage(other: string, running: string = runningCode): string {
  const onDisk = other === 'unreadable' ? 'no whole version is installed' : `version ${other} is installed`;
  return `${onDisk}, version ${running} runs: restart to change over`;
}
