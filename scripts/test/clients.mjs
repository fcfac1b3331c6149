// Clients of the Open Inference Protocol that others made: Python's, Triton's load generator, and for `npm run peers`
// what checks HTTP and gRPC themselves. All is pinned.

import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { cache, ensurePython, hasPip, once, run } from './cache.mjs';

/** @param isWhole with all that `npm run peers` runs; else what `npm test` uses */
export function ensureClients({ isWhole }) {
  if (!hasPip()) {
    console.error('there is no Python with pip: clients of others are not tested');
    return;
  }
  mkdirSync(cache, { recursive: true });
  const areThere = [ensurePython('clients', ['test/client-packages.txt']), ensurePerfAnalyzer()];
  if (isWhole) areThere.push(ensurePython('schemathesis', ['test/schemathesis-packages.txt']), ensureGoPrograms());
  if (areThere.includes(false)) console.error('not all clients could be fetched: tests of what is missing are skipped');
}

/** Triton's load generator, with the libraries that it is linked to beside it. */
function ensurePerfAnalyzer() {
  const folder = join(cache, 'perf_analyzer');
  const unpacked = join(folder, 'unpacked');
  const list = 'test/perf-analyzer.txt';
  const options = ['--quiet', '--require-hashes', '--no-deps', '--only-binary=:all:'];
  const platform = ['--platform', 'manylinux1_x86_64', '--platform', 'manylinux2014_x86_64'];
  const wheels = () => readdirSync(folder).filter((file) => file.endsWith('.whl'));
  const fetches = () =>
    run('python3', ['-m', 'pip', 'download', '-r', list, ...options, ...platform, '-d', folder]) &&
    wheels().every((file) => run('python3', ['-m', 'zipfile', '-e', join(folder, file), unpacked])) &&
    ensureBase64(folder, unpacked);
  const isWanted = (file) => file === 'perf_analyzer' || /^lib(b64|cudart)\.so/.test(file);
  return once(list, join(folder, basename(list)), () => {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(unpacked, { recursive: true });
    if (!fetches()) return false;
    for (const file of readdirSync(unpacked, { recursive: true }))
      if (isWanted(basename(file))) copyFileSync(join(unpacked, file), join(folder, basename(file)));
    chmodSync(join(folder, 'perf_analyzer'), 0o755);
    for (const file of wheels()) rmSync(join(folder, file));
    rmSync(unpacked, { recursive: true });
    // It says here whether it can run on this machine.
    const env = { ...process.env, LD_LIBRARY_PATH: folder };
    return run(join(folder, 'perf_analyzer'), ['--version'], { env, stdio: 'ignore' });
  });
}

/** Debian's package of the library, unpacked instead of installed; other systems must have it. */
function ensureBase64(folder, unpacked) {
  const inFolder = { cwd: folder, stdio: 'ignore' };
  const downloads = () => run('apt-get', ['-q', 'download', 'libb64-0d'], inFolder);
  if (!downloads()) {
    run('apt-get', ['-q', 'update'], inFolder);
    downloads();
  }
  const debs = readdirSync(folder).filter((file) => file.endsWith('.deb'));
  for (const file of debs) {
    run('dpkg', ['-x', join(folder, file), unpacked]);
    rmSync(join(folder, file));
  }
  return true;
}

/** What checks HTTP/2 (MIT), and the client with which implementations of gRPC are tested against each other (Apache-2.0). */
function ensureGoPrograms() {
  const programs = {
    h2spec: 'github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible',
    client: 'google.golang.org/grpc/interop/client@v1.85.0',
  };
  const folder = join(cache, 'go');
  const missing = Object.entries(programs).filter(([name]) => !existsSync(join(folder, name)));
  if (missing.length > 0) console.error('building programs in Go …');
  const env = { ...process.env, GOBIN: folder };
  return missing.every(([, path]) => run('go', ['install', path], { env }));
}
