// Which code runs, and which lies on disk. After an upgrade in place they differ: a process started from then on would
// be of another version than the one that starts it. They would misread each other's messages and counters, and while
// files are still being replaced what starts is a mixture. So no process or thread of other code is started; the
// primary says so (`status`, the log), and a restart changes over.
//
// Code is told by its content, not by its version or its times: a rebuild under the same number is other code, and the
// same files installed again are not.

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
    return 'unreadable'; // it is just being replaced
  }
}

const isCode = (file: string): boolean => /\.(js|css|html|svg)$/.test(file);

/** What this process runs. Read when its modules have been loaded: Node runs none before it has read all. */
export const runningCode = installedCode();

export const runningVersion = runningCode.split('+')[0] as string;

/** What to say when the code on disk is not the running one any more; null while it is. */
export function codeChange(): string | null {
  const installed = installedCode();
  return installed === runningCode ? null : codeChangeMessage(installed);
}

/** @param other the code that is not the running one */
export function codeChangeMessage(other: string, running: string = runningCode): string {
  const onDisk = other === 'unreadable' ? 'no whole version is installed' : `version ${other} is installed`;
  return `${onDisk}, version ${running} runs: restart to change over`;
}
