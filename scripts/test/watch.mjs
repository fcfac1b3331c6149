// Runs a command again whenever sources change. If it is still running, it is asked to end first.

import { spawn } from 'node:child_process';
import { readdirSync, watch } from 'node:fs';
import { join } from 'node:path';

/** Editors and `git checkout` write several files at once. */
const quietMs = 200;

/** What a build writes below the sources. */
const isBuilt = (path) => /[\\/]client[\\/]dist([\\/]|$)/.test(path);

/**
 * Calls `onChange` when files below `folders` have changed and then stayed unchanged for a moment. Returns a function
 * that stops it.
 */
export function watchFolders(folders, onChange) {
  // One watch per folder, not per file: editors replace a file by a new one.
  const watchers = new Map();
  let timer;
  const look = () => {
    const there = new Set(folders.flatMap(foldersBelow));
    for (const folder of there) {
      if (watchers.has(folder)) continue;
      const watcher = watch(folder, () => {
        clearTimeout(timer);
        timer = setTimeout(() => {
          look();
          onChange();
        }, quietMs);
      });
      watcher.on('error', () => {}); // the folder is gone; the one above it reports that
      watchers.set(folder, watcher);
    }
    for (const [folder, watcher] of watchers) {
      if (there.has(folder)) continue;
      watcher.close();
      watchers.delete(folder);
    }
  };
  look();
  return () => {
    clearTimeout(timer);
    for (const watcher of watchers.values()) watcher.close();
  };
}

function foldersBelow(folder) {
  if (isBuilt(folder)) return [];
  const inner = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return [folder, ...inner.flatMap(({ name }) => foldersBelow(join(folder, name)))];
}

/** Runs the command now and after every change, until Ctrl-C. */
export function rerunOnChange(command, args, { cwd, folders }) {
  let isDue = false;
  let running = null;
  // It runs in its own process group, so that all of it can be asked to end while this process continues.
  const end = () => {
    try {
      if (running !== null) process.kill(-running.pid, 'SIGINT');
    } catch {
      // it has just ended
    }
  };
  const start = () => {
    isDue = false;
    running = spawn(command, args, { cwd, stdio: ['ignore', 'inherit', 'inherit'], detached: true });
    running.once('error', (error) => console.error(error.message));
    running.once('exit', () => {
      running = null;
      if (isDue) start();
      else console.error('\nwaiting for a change in src/ or test/ …');
    });
  };
  const stop = watchFolders(folders, () => {
    isDue = true;
    if (running === null) start();
    else end();
  });
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.on(signal, () => {
      stop();
      if (running === null) process.exit(0);
      isDue = false;
      running.removeAllListeners('exit').once('exit', () => process.exit(0));
      end();
    });
  }
  start();
}
