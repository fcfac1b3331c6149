// Which code runs, and which code is on disk. They differ after an upgrade in place: a process started then would have
// another version than the process that starts it. The two would misread each other's messages and counters, and a
// process started while files are still being replaced would mix both versions. So no process or thread is started from
// other code; the primary reports this (`status`, the log), and a restart switches to the new code.
//
// Code is identified by its content, not by its version or its file times: a rebuild with the same version number is
// other code, and the same files installed again are the same code.

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('.', import.meta.url));
const packageFile = fileURLToPath(new URL('../package.json', import.meta.url));

/**
 * Files that nobody has touched since they were read need not be read again: one start of the server asks a dozen
 * times. What this process has read, processes and threads that it starts inherit in this variable.
 */
const inherited = 'ML_TCP_SERVER_CODE';
/** A file that was written this shortly ago may be written again without another time. */
const restMs = 1000;

/** The code on disk: `version+build`, as semver.org writes a version with its build. */
export function installedCode(): string {
  try {
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(isCode).sort();
    const { marks, changedAt } = marksOf([packageFile, ...files.map((file) => join(folder, file))]);
    const [knownMarks, known] = (process.env[inherited] ?? '').split(' ');
    if (known !== undefined && knownMarks === marks) return known;
    const code = read(files);
    if (Date.now() - changedAt > restMs) process.env[inherited] = `${marks} ${code}`;
    return code;
  } catch {
    return 'unreadable'; // the files are being replaced
  }
}

/** What changes when one of these files is replaced or written to, and when that last happened to any of them. */
function marksOf(paths: readonly string[]): { readonly marks: string; readonly changedAt: number } {
  const hash = createHash('sha256');
  let changedAt = 0;
  for (const path of paths) {
    const { dev, ino, size, ctimeMs, ctimeNs } = statSync(path, { bigint: true });
    hash.update(`${path}\0${dev} ${ino} ${size} ${ctimeNs}\0`);
    changedAt = Math.max(changedAt, Number(ctimeMs));
  }
  return { marks: hash.digest('hex'), changedAt };
}

function read(files: readonly string[]): string {
  const text = readFileSync(packageFile, 'utf8');
  const { version } = JSON.parse(text) as { version: string };
  const hash = createHash('sha256').update(text);
  for (const file of files) hash.update(`\0${file}\0`).update(readFileSync(join(folder, file)));
  return `${version}+${hash.digest('hex').slice(0, 12)}`;
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
