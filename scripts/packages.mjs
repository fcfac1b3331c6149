// What the published packages hold beside our own compiled sources.
//
//   dist/onnxruntime   ONNX Runtime as its authors publish it, for server platforms, without what only its install
//                      script needs. As a dependency it would run that script at install, which fetches from
//                      outside the registry, and would bring 290 MB of binaries to every platform.
//   bundle             the programs, with their packages inside (bundle.mjs)
//   src/client/dist    the client with the files it imports: a package of its own, without dependencies
//
// `npm pack` and `npm pack ./src/client` then pack what is there; no script runs at pack or install.

import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Packages inside ours: to npm they are development dependencies, to users a part of the product. */
export const vendoredPackages = ['onnxruntime-node'];

/** The platforms on which the published package serves ONNX models by itself; a build adds its own platform. */
const publishedPlatforms = ['linux/x64', 'linux/arm64', 'darwin/arm64'];

/**
 * The version of ONNX Runtime whose LICENSE and ThirdPartyNotices.txt are in scripts/onnxruntime; they come from its
 * wheel for Python.
 */
const versionOfNotices = '1.30.0';

/** The same library under a second name, which no other file refers to. */
const isSecondName = (file) => /^libonnxruntime\.\d+\.\d+\.\d+\.dylib$/.test(file);

/** The compiled sources and the page must be there. */
export function buildPackages() {
  vendorOnnxRuntime();
  buildClientPackage();
  buildBundle();
}

/** In a process of its own: this file is loaded before anything is installed. */
function buildBundle() {
  const { status } = spawnSync(process.execPath, [join(root, 'scripts/bundle.mjs')], { stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Error('the programs could not be bundled');
}

function vendorOnnxRuntime() {
  const from = join(root, 'node_modules/onnxruntime-node');
  const to = join(root, 'dist/onnxruntime');
  const platforms = [...new Set([...publishedPlatforms, `${process.platform}/${process.arch}`])];
  const { name, version, license } = JSON.parse(readFileSync(join(from, 'package.json'), 'utf8'));
  if (version !== versionOfNotices)
    throw new Error(
      `scripts/onnxruntime has the notices of onnxruntime ${versionOfNotices}, not of ${version}: renew them`,
    );
  // Without `type`, as in the original: these files are CommonJS inside a package that is not.
  const manifest = `${JSON.stringify({ name, version, license, main: 'dist/index.js', platforms }, null, 2)}\n`;
  const isThere = () => isSame(join(to, 'package.json'), manifest);
  if (!isThere()) {
    // Made beside it and then moved: another build, or a server, may be using the folder.
    const fresh = join(root, `build/onnxruntime.${process.pid}`);
    rmSync(fresh, { recursive: true, force: true });
    placeFiles(join(from, 'dist'), join(fresh, 'dist'), (file) => file.endsWith('.js'));
    for (const platform of platforms) {
      const binaries = join('bin/napi-v6', platform);
      if (!existsSync(join(from, binaries))) continue;
      placeFiles(join(from, binaries), join(fresh, binaries), (file) => !isSecondName(file));
    }
    writeFileSync(join(fresh, 'package.json'), manifest);
    try {
      rmSync(to, { recursive: true, force: true });
      renameSync(fresh, to);
    } catch (error) {
      rmSync(fresh, { recursive: true, force: true });
      if (!isThere()) throw error; // otherwise another build was faster
    }
  }
  const ours = join(root, 'scripts/onnxruntime');
  for (const file of readdirSync(ours)) update(join(ours, file), join(to, file));
}

const isSame = (file, content) => existsSync(file) && readFileSync(file).equals(Buffer.from(content));

/** Copies only what has changed: a process may be reading the copy. */
export function update(from, to) {
  if (!isSame(to, readFileSync(from))) copyFileSync(from, to);
}

/**
 * Puts files of a folder in place as links where the file system can, otherwise as copies: nothing writes to either.
 */
function placeFiles(from, to, isWanted) {
  mkdirSync(to, { recursive: true });
  for (const file of readdirSync(from).filter(isWanted)) {
    try {
      linkSync(join(from, file), join(to, file));
    } catch {
      copyFileSync(join(from, file), join(to, file));
    }
  }
}

function buildClientPackage() {
  const compiled = join(root, 'dist');
  const to = join(root, 'src/client/dist');
  for (const file of withImports(join(compiled, 'client/client.js'))) {
    const target = join(to, relative(compiled, file));
    mkdirSync(dirname(target), { recursive: true });
    update(file, target);
    update(file.replace(/\.js$/, '.d.ts'), target.replace(/\.js$/, '.d.ts'));
  }
}

/** A compiled file and all files of ours that it needs. */
function withImports(file, known = new Set()) {
  if (known.has(file)) return known;
  known.add(file);
  for (const [, path] of readFileSync(file, 'utf8').matchAll(/\bfrom '(\.[^']+)'/g))
    withImports(join(dirname(file), path), known);
  return known;
}
