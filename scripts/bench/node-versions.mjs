// Other versions of Node, as npm packages that carry the binary.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

/**
 * The newest Node of each of these major versions, fetched into `folder`; for the major version of this process, its
 * own binary. Throws Error when there is none for this machine.
 */
export function nodesOf(majors, folder) {
  const own = process.versions.node;
  const isOwn = (major) => own.split('.')[0] === major;
  const missing = majors.filter((major) => !isOwn(major));
  const prefix = join(folder, 'nodes');
  if (missing.length > 0) install(missing, prefix);
  return majors.map((major) => {
    if (isOwn(major)) return { version: own, binary: process.execPath };
    const binary = join(prefix, 'node_modules', `node-${major}`, 'bin', 'node');
    return { version: execFileSync(binary, ['--version'], { encoding: 'utf8' }).trim().slice(1), binary };
  });
}

function install(majors, prefix) {
  const wrong = majors.find((major) => !/^\d+$/.test(major));
  if (wrong !== undefined) throw new Error(`--node takes a major version of Node, such as 24, not ${wrong}`);
  const name = `node-${process.platform}-${process.arch}`;
  console.error(`fetching Node ${majors.join(', ')} …`);
  mkdirSync(prefix);
  const packages = majors.map((major) => `node-${major}@npm:${name}@${major}`);
  const args = ['install', '--no-save', '--no-package-lock', '--no-audit', '--no-fund', '--ignore-scripts'];
  const { status } = spawnSync('npm', [...args, '--prefix', prefix, ...packages], { stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Error(`Node ${majors.join(', ')} could not be fetched: is it published as ${name}?`);
}
