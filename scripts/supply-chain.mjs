// `npm run supply-chain`: the parts of the product that come from others. Writes a bill of materials (CycloneDX) to
// build/sbom.cdx.json, checks every licence, asks for known vulnerabilities, and ends with 1 when something is wrong.

import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { vendoredPackages } from './packages.mjs';
import { install, root } from './prepare.mjs';

/** Licences that require nothing but keeping their text. */
const permissive = ['MIT', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', 'Apache-2.0', '0BSD', 'CC0-1.0', 'Unlicense'];

const npm = (cwd, ...args) => spawnSync('npm', args, { cwd, encoding: 'utf8', maxBuffer: 1 << 26 });

/** Whether one of the licences of an SPDX expression (`MIT OR CC0-1.0`) is permissive. */
const isPermissive = (licence = '') =>
  licence
    .replace(/[()]/g, '')
    .split(' OR ')
    .some((one) => one.split(' AND ').every((part) => permissive.includes(part.trim())));

const nameOf = (path) => path.replace(/^.*node_modules\//, '');

/** The packages that are installed with the product or lie inside it: path, and entry of the lock file. */
function productEntries() {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  return Object.entries(packages).filter(
    ([path, { dev }]) => path !== '' && (!dev || vendoredPackages.includes(nameOf(path))),
  );
}

/** The same packages: name, version, licence, and whether each lies inside ours instead of being installed. */
export function productPackages() {
  return productEntries().map(([path, { version, license, dev }]) => ({
    name: nameOf(path),
    version,
    licence: license,
    isVendored: dev === true,
  }));
}

/** Packages that would run code when they are installed. */
export const packagesWithInstallScript = () =>
  productEntries()
    .filter(([, { dev, hasInstallScript }]) => !dev && hasInstallScript)
    .map(([path]) => nameOf(path));

/** Packages whose licence is not known to be harmless. */
export const doubtfulLicences = () => productPackages().filter(({ licence }) => !isPermissive(licence));

/**
 * The bill of materials as text. It is made in a folder that has only the product: beside development packages, npm
 * leaves out some that both use.
 */
export function billOfMaterials() {
  const folder = mkdtempSync(join(tmpdir(), 'ml-tcp-sbom-'));
  try {
    const { devDependencies: _, ...manifest } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest));
    copyFileSync(join(root, 'package-lock.json'), join(folder, 'package-lock.json'));
    const pruned = npm(folder, 'install', '--package-lock-only', '--ignore-scripts', '--no-audit', '--no-fund');
    if (pruned.status !== 0) throw new Error(`npm install --package-lock-only failed: ${pruned.stderr}`);
    const made = npm(folder, 'sbom', '--package-lock-only', '--sbom-format=cyclonedx', '--sbom-type=application');
    if (made.status !== 0) throw new Error(`npm sbom failed: ${made.stderr}`);
    const bill = JSON.parse(made.stdout);
    for (const component of vendoredComponents()) {
      bill.components.push(component);
      bill.dependencies[0].dependsOn.push(component['bom-ref']);
    }
    return JSON.stringify(bill, null, 2);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Packages inside ours, in npm's format for installed ones. */
const vendoredComponents = () =>
  productPackages()
    .filter(({ isVendored }) => isVendored)
    .map(({ name, version, licence }) => ({
      'bom-ref': `${name}@${version}`,
      type: 'library',
      name,
      version,
      scope: 'required',
      purl: `pkg:npm/${name}@${version}`,
      licenses: [{ license: { id: licence } }],
    }));

/** How many packages of the product have known vulnerabilities, by severity; null when npm gave no answer. */
export function vulnerabilities() {
  const { stdout } = npm(root, 'audit', '--json');
  try {
    const { vulnerabilities: found } = JSON.parse(stdout);
    const product = new Set(productEntries().map(([path]) => path));
    const counts = { critical: 0, high: 0, moderate: 0 };
    for (const { severity, nodes, via } of Object.values(found)) {
      // Packages whose own code is vulnerable, not all that depend on them: some of these are not in the product.
      const isItsOwn = via.some((reason) => typeof reason === 'object');
      if (isItsOwn && severity in counts && nodes.some((path) => product.has(path))) counts[severity]++;
    }
    return counts;
  } catch {
    return null;
  }
}

function countBy(names) {
  const counts = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

function main() {
  install();
  mkdirSync(join(root, 'build'), { recursive: true });
  writeFileSync(join(root, 'build/sbom.cdx.json'), billOfMaterials());
  const packages = productPackages();
  console.log(`${packages.length} packages in the product; bill of materials: build/sbom.cdx.json`);
  const counts = Object.entries(countBy(packages.map(({ licence }) => licence ?? 'none')));
  console.log(`licences: ${counts.map(([licence, count]) => `${licence} ${count}`).join(', ')}`);
  const doubtful = doubtfulLicences();
  for (const { name, version, licence } of doubtful) console.log(`${name}@${version}: licence ${licence}`);
  if (doubtful.length === 0) console.log('all of them are permissive');
  const found = vulnerabilities();
  if (found === null) console.log('vulnerabilities: the registry could not be asked');
  else console.log(`vulnerabilities: ${found.critical} critical, ${found.high} high, ${found.moderate} moderate`);
  const isBad = doubtful.length > 0 || (found !== null && found.critical + found.high > 0);
  process.exit(isBad ? 1 : 0);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main();
